import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from incontext.examples.tiles import Box, blend, tile_boxes

SIZES = st.tuples(st.integers(8, 300), st.integers(8, 300))


def covered(boxes: list[Box], size: tuple[int, int]) -> np.ndarray:
    seen = np.zeros(size, int)
    for box in boxes:
        assert 0 <= box.top < box.bottom <= size[0]
        assert 0 <= box.left < box.right <= size[1]
        seen[box.top : box.bottom, box.left : box.right] += 1
    return seen


@settings(deadline=None)
@given(SIZES)
def test_tiles_cover_the_picture_and_are_of_one_size(size: tuple[int, int]) -> None:
    boxes = tile_boxes(size)
    assert covered(boxes, size).min() >= 1
    assert len({(b.bottom - b.top, b.right - b.left) for b in boxes}) == 1
    assert 2 <= len(boxes) <= 19
    assert len(boxes) >= 4 or max(size) > 4 * min(size)


def test_tiles_of_a_long_picture_stay_about_square() -> None:
    boxes = tile_boxes((100, 300))
    assert len(boxes) == 2 * 7
    assert {(b.bottom - b.top, b.right - b.left) for b in boxes} == {(57, 57)}


@pytest.mark.parametrize("size", [(40, 4000), (4000, 40), (30, 400), (7, 700), (100, 450)])
def test_thin_pictures_take_twenty_looks_at_most(size: tuple[int, int]) -> None:
    boxes = tile_boxes(size)
    assert len(boxes) <= 19
    assert covered(boxes, size).min() >= 1
    assert {min(b.bottom - b.top, b.right - b.left) for b in boxes} == {min(size)}


def channels(value: float, shape: tuple[int, int] = (8, 8)) -> np.ndarray:
    return np.stack([np.full(shape, 1 - value), np.full(shape, value)]).astype(np.float32)


@settings(deadline=None)
@given(SIZES, st.floats(0, 1))
def test_looks_that_agree_change_nothing(size: tuple[int, int], value: float) -> None:
    boxes = tile_boxes(size)
    fine = blend(channels(value), boxes, [channels(value)] * len(boxes), size=size)
    np.testing.assert_allclose(fine[1], value, atol=1e-5)
    np.testing.assert_allclose(fine.sum(axis=0), 1, atol=1e-5)
    assert fine.shape[1] <= max(size[0], 8)


def test_a_closer_look_replaces_the_coarse_one_inside_and_fades_to_its_rim() -> None:
    box = Box(40, 40, 120, 120)
    fine = blend(channels(0.0), [box], [channels(1.0)], size=(160, 160))
    cells = fine.shape[1] / 160
    assert fine[1][round(80 * cells), round(80 * cells)] > 0.95
    assert fine[1][round(10 * cells), round(80 * cells)] == 0
    across = fine[1][round(80 * cells)]
    assert np.abs(np.diff(across)).max() < 0.95  # no step from nothing to all


@pytest.mark.parametrize("size", [(90, 90), (33, 120)])
def test_the_grid_is_finer_where_boxes_are_smaller_than_the_picture(size) -> None:
    boxes = tile_boxes(size)
    fine = blend(channels(0.5), boxes, [channels(0.5)] * len(boxes), size=size)
    assert fine.shape[1] > 8
    assert fine.shape[2] > 8


def test_the_grid_of_a_single_row_of_tiles_is_as_fine_as_they_are() -> None:
    boxes = tile_boxes((40, 400))
    tiles = [channels(0.5, (16, 16))] * len(boxes)
    assert blend(channels(0.5), boxes, tiles, size=(40, 400)).shape[1] == 16
