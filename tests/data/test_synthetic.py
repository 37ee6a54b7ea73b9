import numpy as np
import pytest

from data.config import DataConfig
from data.folder import open_folders
from data.synthetic import paste_sprites, sprite_classes
from tests.data.drawn import write_drawn_dataset
from tests.data.drawn_sprites import COLOURS, write_sprites

SIZE = 32
BACKGROUNDS = np.zeros((2, SIZE, SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    root = tmp_path_factory.mktemp("sprites")
    write_drawn_dataset(root, name="pictures")
    write_sprites(root, names=["cat", "dog", "thin", "cat", ""])
    return sprite_classes(open_folders(root))


def colours(sprites):
    """Tell which of `COLOURS` the sprites have."""
    middles = [sprite[8, 8, :3].astype(int) for sprite in sprites]
    return [int(np.abs(np.array(COLOURS) - middle).sum(1).argmin()) for middle in middles]


def test_sprites_of_one_name_make_a_class_and_thin_ones_none(classes):
    assert [colours(sprites) for sprites in classes] == [[0, 3], [1], [4]]


def test_masks_cover_exactly_what_is_pasted(classes):
    pack = paste_sprites(classes, BACKGROUNDS, count=12, seed=0)
    [source] = pack.sources
    assert (source.start, len(source.entries), len(pack.images)) == (0, 12, 12)
    np.testing.assert_array_equal(pack.ids[..., 0], pack.ids[..., 1])
    for image, ids, entry in zip(pack.images, pack.ids[..., 0], source.entries, strict=True):
        assert set(np.unique(ids).tolist()) - {0} == set(entry.labels) == set(entry.instances)
        shares = dict.fromkeys(entry.labels.values(), 0.0)
        for id_, c in entry.labels.items():
            shares[c] += (ids == id_).mean()
            # Every marked pixel has a colour of its class, darker where its edge is blended.
            pixels = image[ids == id_].astype(float)
            hues = pixels / np.linalg.norm(pixels, axis=1, keepdims=True)
            own = np.array([COLOURS[index] for index in colours(classes[c])], float)
            own /= np.linalg.norm(own, axis=1, keepdims=True)
            assert np.median((hues @ own.T).max(axis=1)) > 0.99
        assert entry.areas == pytest.approx(shares)
        # Only blended edges reach beyond the masks.
        assert (image[ids == 0].sum(axis=-1) > 400).mean() < 0.05


def test_pictures_that_follow_each_other_show_one_class(classes):
    [source] = paste_sprites(classes, BACKGROUNDS, count=9, seed=1, per_class=3).sources
    for start in (0, 3, 6):
        shown = [set(entry.areas) for entry in source.entries[start : start + 3]]
        assert set.intersection(*shown)


def test_the_count_is_kept_and_the_seed_decides(classes):
    first, again, other = (
        paste_sprites(classes, BACKGROUNDS, count=5, seed=seed) for seed in (3, 3, 4)
    )
    assert len(first.images) == 5
    np.testing.assert_array_equal(first.images, again.images)
    np.testing.assert_array_equal(first.ids, again.ids)
    assert first.sources == again.sources
    assert (first.images != other.images).any()


def test_a_negative_number_is_refused():
    with pytest.raises(ValueError, match="sprites -1 must not be negative"):
        DataConfig(sprites=-1)
