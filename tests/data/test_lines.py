import numpy as np
import pytest

from data.lines import CRACK, JOINT, PALE, draw_lines

SIZE = 64
FLAT = np.full((2, SIZE, SIZE, 3), 120, np.uint8)


@pytest.fixture(scope="module")
def pack():
    return draw_lines(FLAT, count=60, seed=0)


def test_masks_and_entries_agree(pack):
    [source] = pack.sources
    assert (source.start, len(source.entries), len(pack.images)) == (0, 60, 60)
    assert not pack.ids[..., 1].any()
    for mask, entry in zip(pack.ids[..., 0], source.entries, strict=True):
        assert set(np.unique(mask).tolist()) - {0} == set(entry.labels)
        assert entry.areas == pytest.approx({c: (mask == c).mean() for c in entry.labels})
    assert {c for entry in source.entries for c in entry.labels} == {CRACK, PALE, JOINT}


def test_cracks_are_darker_than_their_surface_and_pale_ones_lighter(pack):
    """Where a line is strong; a faint one may vanish in the grain."""
    grey = pack.images.mean(axis=-1)
    mask = pack.ids[..., 0]
    for c, sign in ((CRACK, -1), (PALE, 1)):
        differences = [
            image[m == c].mean() - image[m == 0].mean()
            for image, m in zip(grey, mask, strict=True)
            if (m == c).sum() > 20
        ]
        assert len(differences) > 5
        assert np.mean([sign * d > 0 for d in differences]) > 0.8


def test_lines_are_thin(pack):
    marked = pack.ids[..., 0] == CRACK
    inner = marked[:, 4:-4, 4:-4].copy()
    for dy, dx in ((-4, 0), (4, 0), (0, -4), (0, 4)):
        inner &= np.roll(marked, (dy, dx), axis=(1, 2))[:, 4:-4, 4:-4]
    assert inner.sum() < 0.05 * marked.sum()


def test_the_seed_decides():
    first, again, other = (draw_lines(FLAT, count=3, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.images, again.images)
    np.testing.assert_array_equal(first.ids, again.ids)
    assert first.sources == again.sources
    assert (first.images != other.images).any()
