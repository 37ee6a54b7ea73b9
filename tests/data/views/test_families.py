import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from data.views.families import FAMILIES, make_cells, make_lines, make_spots, make_textures

SIZE = 96
MOST = {make_lines: 2, make_cells: 3, make_textures: 3, make_spots: 2}


def rng(seed):
    return np.random.default_rng(seed)


def photo(rng):
    return Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8))


def pictures(make_family, seed, *, count=3):
    draw = make_family(rng(seed), photo=photo, size=SIZE)
    return [draw(rng([seed, number])) for number in range(count)]


def grown(mask, by):
    return np.asarray(ndimage.binary_dilation(mask, iterations=by))


@pytest.mark.parametrize("make_family", MOST)
def test_pictures_have_labels_that_start_at_background(make_family):
    seen = set()
    for seed in range(10):
        for image, labels in pictures(make_family, seed):
            assert image.shape == (SIZE, SIZE, 3)
            assert image.dtype == labels.dtype == np.uint8
            seen |= set(np.unique(labels).tolist())
    assert seen == set(range(MOST[make_family] + 1))


@pytest.mark.parametrize("make_family", MOST)
def test_generators_decide(make_family):
    first, again = pictures(make_family, 1), pictures(make_family, 1)
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one[0], two[0])
        np.testing.assert_array_equal(one[1], two[1])
    assert (first[0][0] != first[1][0]).any()
    assert (first[0][0] != pictures(make_family, 2)[0][0]).any()


@pytest.mark.parametrize("make_family", [make_lines, make_spots])
def test_what_is_drawn_differs_from_what_is_around_it(make_family):
    seen = []
    for seed in range(20):
        for image, labels in pictures(make_family, seed):
            mask = labels == 1
            ring = grown(mask, 5) & np.logical_not(grown(labels > 0, 2))
            if mask.sum() > 20 and ring.sum() > 20:
                inside, around = image[mask].mean(axis=0), image[ring].mean(axis=0)
                seen.append(np.abs(inside - around).max())
    assert len(seen) > 20
    assert np.median(seen) > 15


def test_lines_are_thin():
    for seed in range(8):
        for _, labels in pictures(make_lines, seed):
            # Nothing is left of what is at most 8 pixels wide, but where lines cross.
            assert ndimage.binary_erosion(labels == 1, iterations=5).mean() < 0.01


def test_membranes_are_as_wide_everywhere_and_keep_cells_apart():
    for seed in range(8):
        for _, labels in pictures(make_cells, seed):
            assert 0 < (labels == 1).mean() < 0.8
            assert ndimage.binary_erosion(labels == 1, iterations=5).mean() < 0.02


def test_a_region_is_filled_from_one_source_in_every_picture():
    tints = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0)]
    plain = iter(tints * 20)

    def one_colour(rng):
        return Image.new("RGB", (40, 40), next(plain))

    found = 0
    for seed in range(12):
        draw = make_textures(rng(seed), photo=one_colour, size=SIZE)
        (image, labels), (other, others) = draw(rng(1)), draw(rng(2))
        for label in set(np.unique(labels)) & set(np.unique(others)):
            one, two = image[labels == label], other[others == label]
            if np.ptp(one, axis=0).max() == 0:  # a photo's, not noise
                found += 1
                np.testing.assert_array_equal(one[0] > 100, two[0] > 100)
    assert found > 10


def test_there_are_all_kinds():
    assert set(FAMILIES) == set(MOST)
