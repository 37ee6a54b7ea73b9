"""What a prompt says of its mask for certain."""

import numpy as np
import pytest

from incontext.prompt_rules import check_prompts
from incontext.settle import FILLED, MOST, STEPS, fill_box, keep_boxed, keep_pointed, settle
from incontext.zoom import Look

CELLS = 20
SIZE = (100, 200)  # a cell is 5 pixels high and 10 wide


def two_things(value=3.0):
    logits = np.full((CELLS, CELLS), -value, np.float32)
    logits[2:6, 2:6] = logits[12:18, 10:16] = value
    return logits


def prompt(points=None, labels=None, boxes=None, mask=None):
    return check_prompts(points, labels, boxes, mask, size=SIZE, side=CELLS)


def test_only_what_is_pointed_at_stays():
    kept = keep_pointed(two_things(), np.array([[3.5, 3.5]]))
    assert (kept[2:6, 2:6] > 0).all()
    assert (kept > 0).sum() == 16
    np.testing.assert_array_equal(np.abs(kept), np.abs(two_things()))


def test_points_on_two_things_keep_both():
    points = np.array([[3.5, 3.5], [12.0, 14.0]])
    np.testing.assert_array_equal(keep_pointed(two_things(), points), two_things())


@pytest.mark.parametrize("points", [np.zeros((0, 2)), np.array([[19.9, 0.5]])])
def test_a_mask_that_no_point_lies_on_stays_whole(points):
    np.testing.assert_array_equal(keep_pointed(two_things(), points), two_things())


def blob(reach):
    """Logits that fall by 0.25 a cell from a middle; positive up to `reach` cells away."""
    rows, cols = np.abs(np.mgrid[:CELLS, :CELLS] + 0.5 - CELLS / 2)
    return ((reach - np.maximum(rows, cols)) * 0.25).astype(np.float32)


def side_of(mask):
    return int(mask.any(axis=0).sum())


def test_a_box_is_filled_but_no_further_than_needed():
    filled = fill_box(blob(3), np.array([4.0, 4.0, 16.0, 16.0]))
    assert side_of(blob(3) > 0) == 6
    assert side_of(filled > 0) ** 2 >= FILLED * 12**2
    raised = (filled - blob(3))[4:16, 4:16]
    assert np.ptp(raised) < 1e-6
    less = raised[0, 0] - MOST / (STEPS - 1)
    assert side_of(blob(3) + less > 0) ** 2 < FILLED * 12**2
    beside = np.ones(filled.shape, bool)
    beside[4:16, 4:16] = False
    np.testing.assert_array_equal(filled[beside], blob(3)[beside])


def test_a_filled_box_stays_as_it_is():
    np.testing.assert_array_equal(fill_box(blob(6), np.array([4.0, 4.0, 16.0, 16.0])), blob(6))


def test_what_is_surely_nothing_is_not_marked():
    nothing = np.full((CELLS, CELLS), -2 * MOST, np.float32)
    assert (fill_box(nothing, np.array([4.0, 4.0, 16.0, 16.0])) < 0).all()


@pytest.mark.parametrize("change", [fill_box, keep_boxed])
def test_a_box_between_cells_changes_nothing(change):
    np.testing.assert_array_equal(change(blob(3), np.array([4.1, 4.1, 4.2, 4.2])), blob(3))


def test_what_lies_beside_a_box_and_specks_in_it_go():
    logits = two_things()
    logits[16:18, 4:6] = 3
    box = np.array([1.0, 1.0, 18.0, 19.0])
    kept = keep_boxed(logits, box)
    assert (kept[12:18, 10:16] > 0).all()
    assert (kept[2:6, 2:6] > 0).all()  # 16 cells beside 36: it may be of the same thing
    assert (kept > 0).sum() == 16 + 36
    beside = keep_boxed(logits, np.array([8.0, 8.0, 13.0, 19.0]))
    assert (beside > 0).sum() == 6 * 3
    nothing = np.full((CELLS, CELLS), -1.0, np.float32)
    np.testing.assert_array_equal(keep_boxed(nothing, box), nothing)


def test_places_are_those_of_the_look():
    look = Look((100, 50, 200, 100), SIZE)  # cells of 5 x 2.5 pixels
    on_the_second = prompt(points=[[100 + 5 * 12, 50 + 2.5 * 14]])
    kept = settle(two_things(), on_the_second, look)
    assert (kept > 0).sum() == 36
    whole = settle(two_things(), prompt(points=[[35, 17]]), Look.all_of(SIZE))
    assert (whole > 0).sum() == 16
    box = prompt(boxes=[100 + 5 * 4, 50 + 2.5 * 4, 100 + 5 * 16, 50 + 2.5 * 16])
    filled = fill_box(blob(3), np.array([4.0, 4.0, 16.0, 16.0]))
    np.testing.assert_array_equal(settle(blob(3), box, look), filled)


def test_background_points_keep_nothing_and_a_box_counts_beside_points():
    everything = Look.all_of(SIZE)
    away = prompt(points=[[35, 17]], labels=[0])
    np.testing.assert_array_equal(settle(two_things(), away, everything), two_things())
    box = [40, 20, 160, 80]
    alone, both = (prompt(boxes=box, points=points) for points in (None, [[35, 17]]))
    np.testing.assert_array_equal(
        settle(blob(3), both, everything), settle(blob(3), alone, everything)
    )
    assert (settle(blob(3), both, everything) > blob(3)).any()
