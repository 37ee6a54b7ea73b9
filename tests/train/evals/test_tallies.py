import numpy as np
import pytest

from data.benchmarks import Pair
from train.evals.tallies import Tally


def query(mask, ignore=None):
    mask = np.array(mask, bool)
    ignore = np.zeros_like(mask) if ignore is None else np.array(ignore, bool)
    return Pair(np.zeros((*mask.shape, 3), np.uint8), mask, ignore)


def guess(mask):
    return np.array(mask, bool)


def test_pixels_of_a_class_are_added_up_before_they_are_divided():
    tally = Tally()
    # 1 of 1 and 1 of 3: together 2 of 4, not the mean of 100 and 33 percent.
    tally.add(7, guess([[1, 0, 0, 0]]), query([[1, 0, 0, 0]]))
    tally.add(7, guess([[1, 1, 0, 0]]), query([[1, 0, 1, 0]]))
    assert tally.class_iou() == {7: pytest.approx(50)}
    # Another class: 0 of 2.
    tally.add(3, guess([[1, 0, 0, 0]]), query([[0, 1, 0, 0]]))
    assert tally.miou() == pytest.approx((50 + 0) / 2)
    # Foreground 2 of 6 over all; background 3 of 3, 1 of 3 and 2 of 4: 6 of 10.
    assert tally.fb_iou() == pytest.approx(100 * (2 / 6 + 6 / 10) / 2)


def test_ignored_pixels_count_for_neither_side():
    tally = Tally()
    tally.add(0, guess([[1, 1, 0, 1]]), query([[1, 0, 0, 0]], ignore=[[0, 1, 0, 1]]))
    assert tally.miou() == 100
    assert tally.fb_iou() == 100


def test_a_perfect_answer_is_100_and_its_opposite_0():
    truth = np.random.default_rng(0).random((5, 6)) > 0.5
    right, wrong = Tally(), Tally()
    right.add(0, truth, query(truth))
    wrong.add(0, ~truth, query(truth))
    assert (right.miou(), right.fb_iou()) == (100, 100)
    assert (wrong.miou(), wrong.fb_iou()) == (0, 0)


def test_nothing_to_find_and_nothing_found_is_no_division_by_zero():
    tally = Tally()
    tally.add(0, guess([[0, 0]]), query([[0, 0]]))
    assert tally.miou() == 0  # as in HSNet, whose union is at least one pixel
    assert tally.fb_iou() == pytest.approx(50)
