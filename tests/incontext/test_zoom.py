"""Parts of pictures to look closer at, and masks that go there and back."""

import numpy as np
import pytest

from incontext.zoom import LEAST, MARGIN, NARROW, OUTSIDE, WORTH, Look, look_around

CELLS = 24
SIZE = (120, 240)
LOOK = Look((50, 25, 150, 85), SIZE)  # cells of 5 by 10 pixels: columns 5 to 15, rows 5 to 17
CROOKED = Look((33, 11, 97, 88), SIZE)  # edges inside of cells
LOOKS = pytest.mark.parametrize("look", [LOOK, CROOKED, Look((0, 0, 100, 60), SIZE)])


def ramp(across, down):
    """Return a map that grows linearly, by the share of the picture."""
    place = (np.arange(CELLS) + 0.5) / CELLS
    return (across * place[None] + down * place[:, None]).astype(np.float32)


def shown(look):
    """Return the share of every cell that a look shows."""
    return 1 - look.out_of(np.zeros((CELLS, CELLS), np.float32)) / OUTSIDE


def test_a_part_has_a_height_and_a_width():
    assert LOOK.shape == (60, 100)


@LOOKS
def test_into_keeps_what_is_the_same_everywhere(look):
    same = np.full((2, CELLS, CELLS), 3.5, np.float32)
    np.testing.assert_allclose(look.into(same), same, rtol=1e-6)


@pytest.mark.parametrize("look", [LOOK, CROOKED])
def test_into_samples_the_places_of_the_part(look):
    (x0, y0, x1, y1), (height, width) = look.box, SIZE
    place = (np.arange(CELLS) + 0.5) / CELLS
    cols, rows = (x0 + place * (x1 - x0)) / width, (y0 + place * (y1 - y0)) / height
    want = 3 * cols[None] - 2 * rows[:, None]
    np.testing.assert_allclose(look.into(ramp(3, -2)), want, atol=1e-5)


def test_into_repeats_what_lies_at_the_edge_of_the_picture():
    look = Look((0, 0, 20, 10), SIZE)  # two cells by two: the first half cell has no neighbour
    values = look.into(ramp(1, 0))
    first = CELLS // 4
    np.testing.assert_allclose(values[:, :first], 0.5 / CELLS, atol=1e-6)
    assert (values[:, first + 1 :] > 0.5 / CELLS).all()


@LOOKS
def test_outside_is_what_a_part_does_not_show(look):
    covered = shown(look)
    (x0, y0, x1, y1), (height, width) = look.box, SIZE
    share = (x1 - x0) * (y1 - y0) / (height * width)
    np.testing.assert_allclose(covered.sum(), share * CELLS**2, rtol=1e-5)
    edges = np.arange(CELLS + 1) / CELLS
    cols = (edges[:-1] < x1 / width) & (edges[1:] > x0 / width)
    rows = (edges[:-1] < y1 / height) & (edges[1:] > y0 / height)
    np.testing.assert_array_equal(covered > 1e-6, rows[:, None] & cols)
    part = look.out_of(np.full((CELLS, CELLS), 7.0, np.float32))
    np.testing.assert_array_equal(part[~(rows[:, None] & cols)], OUTSIDE)
    np.testing.assert_allclose(part, 7 * covered + OUTSIDE * (1 - covered), atol=1e-4)


@LOOKS
def test_a_smooth_map_comes_back_where_it_is_shown(look):
    smooth = ramp(4, -3)
    back = look.out_of(look.into(smooth))
    whole = shown(look) > 1 - 1e-6
    # At the picture's edge sampling repeats half a cell of values.
    whole[:1], whole[:, :1] = False, False
    assert whole.sum() > 50
    np.testing.assert_allclose(back[whole], smooth[whole], atol=0.02)


def test_a_look_at_everything_changes_nothing():
    whole = Look((0, 0, SIZE[1], SIZE[0]), SIZE)
    values = np.random.default_rng(0).normal(size=(2, 3, CELLS, CELLS)).astype(np.float32)
    np.testing.assert_allclose(whole.into(values), values, atol=1e-5)
    np.testing.assert_allclose(whole.out_of(values), values, atol=1e-5)


def test_masks_go_there_and_back_one_by_one():
    values = np.random.default_rng(0).normal(size=(2, 3, CELLS, CELLS)).astype(np.float32)
    for way in (CROOKED.into, CROOKED.out_of):
        together = way(values)
        assert together.dtype == np.float32
        np.testing.assert_allclose(together[1, 2], way(values[1, 2]), atol=1e-5)


def draw_things(count=300):
    rng = np.random.default_rng(0)
    for _ in range(count):
        size = tuple(rng.integers(20, 500, 2).tolist())
        limit = np.array(size[::-1], float)
        low = rng.uniform(0, limit)
        high = low + rng.uniform(0, 1) ** 2 * (limit - low)
        yield low, high, size


def test_a_look_shows_the_whole_thing_with_a_margin_and_lies_in_the_picture():
    found = 0
    for low, high, size in draw_things():
        if (look := look_around(low, high, size)) is None:
            continue
        found += 1
        assert look.size == size
        x0, y0, x1, y1 = look.box
        height, width = size
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height
        start, end, limit = np.array([x0, y0]), np.array([x1, y1]), np.array([width, height])
        margin = MARGIN * (high - low)
        # Where the picture ends, there is less of a margin.
        assert (start <= np.maximum(low - margin, 0) + 1e-6).all()
        assert (end >= np.minimum(high + margin, limit) - 1e-6).all()
        extent = end - start
        assert (extent >= np.minimum(LEAST, limit)).all()
        ratio_fits = extent >= NARROW * extent.max() - 2  # whole pixels
        assert (ratio_fits | (extent == limit)).all()
        wanted = np.maximum((high - low) * (1 + 2 * MARGIN), LEAST)
        assert (extent <= np.maximum(wanted, NARROW * wanted.max()) + 2).all()
        assert np.prod(extent) <= WORTH * np.prod(limit)
    assert found > 150


def test_most_of_a_picture_is_not_worth_another_look():
    for low, high, size in draw_things():
        if look_around(low, high, size) is None:
            grown = np.maximum((high - low) * (1 + 2 * MARGIN), LEAST)
            grown = np.maximum(grown, NARROW * grown.max()) + 2
            assert np.prod(np.minimum(grown, size[::-1])) > WORTH * np.prod(size)
    whole = np.zeros(2), np.array([200.0, 100.0])
    assert look_around(*whole, (100, 200)) is None
    assert look_around(*whole, (1000, 2000)) is not None


def test_a_point_is_looked_at_from_as_near_as_there_is_something_to_see():
    at = np.array([100.0, 60.0])
    look = look_around(at, at, SIZE)
    assert look is not None
    assert look.box == (88, 48, 112, 72)
    corner = look_around(np.zeros(2), np.zeros(2), SIZE)
    assert corner is not None
    assert corner.box == (0, 0, 24, 24)
