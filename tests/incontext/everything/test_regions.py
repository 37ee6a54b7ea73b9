"""Holes and islands."""

import numpy as np

from incontext.everything.regions import drop_islands, fill_holes


def test_small_holes_are_filled_and_large_ones_stay():
    mask = np.ones((9, 9), bool)
    mask[1, 1] = False
    mask[4:7, 4:7] = False
    filled, changed = fill_holes(mask, min_area=4)
    assert changed
    assert filled[1, 1]
    assert not filled[5, 5]
    assert fill_holes(filled, min_area=4)[1] is False


def test_pixels_that_touch_by_a_corner_belong_together():
    mask = np.eye(4, dtype=bool)
    assert drop_islands(mask, min_area=4)[1] is False
    assert drop_islands(mask, min_area=5)[0].sum() == 4  # the largest stays, small as it is


def test_small_islands_are_dropped():
    mask = np.zeros((9, 9), bool)
    mask[0, 0] = True
    mask[3:7, 3:7] = True
    kept, changed = drop_islands(mask, min_area=5)
    assert changed
    assert kept.sum() == 16


def test_of_small_islands_the_largest_stays():
    mask = np.zeros((5, 9), bool)
    mask[0, 0] = mask[2, 2] = mask[2, 3] = mask[4, 8] = True
    kept, changed = drop_islands(mask, min_area=50)
    assert changed
    assert np.flatnonzero(kept).tolist() == [2 * 9 + 2, 2 * 9 + 3]


def test_empty_and_full_masks_are_left_alone():
    empty, full = np.zeros((4, 4), bool), np.ones((4, 4), bool)
    assert drop_islands(empty, min_area=9)[1] is False
    assert fill_holes(full, min_area=9)[1] is False
