"""Every prompt that makes no sense is one line with its value and the mend."""

import numpy as np
import pytest

from incontext.prompts.checks import (
    check_boxes,
    check_mask,
    check_points,
    check_prompts,
)
from seggpt.errors import PromptError

SIZE = (480, 640)


@pytest.mark.parametrize(
    ("points", "labels", "message"),
    [
        ([[900, 20]], None, r"point 900,20 is outside the picture of 640x480; x is in 0..639"),
        ([[655, 20]], None, "point 655,20 is outside"),
        ([[5, 5], [-20, 5]], [1, 1], "point -20,5 is outside"),
        ([[float("nan"), 5]], None, "point nan,5 is outside"),
        ([[float("inf"), 5]], None, "point inf,5 is outside"),
        ([[5, 5]], [5], "point label 5 is neither 1"),
        ([[5, 5]], [-2], "point label -2 is neither 1"),
        ([[5, 5]], [float("nan")], "point label nan"),
        ([[5, 5]], [1, 0], r"labels of shape \(2,\) for points of shape \(1, 2\)"),
        ([5, 5], None, r"points of shape \(2,\)"),
        ([], None, r"points of shape \(0,\)"),
        ([[1, 2, 3]], None, r"points of shape \(1, 3\)"),
        ([[1, 2], [3]], None, "points must be numbers"),
        ("abc", None, "points must be numbers"),
    ],
)
def test_bad_points(points, labels, message):
    with pytest.raises(PromptError, match=message) as caught:
        check_points(points, labels, size=SIZE)
    assert "\n" not in str(caught.value)


def test_good_points():
    points, labels = check_points([[0, 0], [639.5, 479.5]], None, size=SIZE)
    assert points.shape == (1, 2, 2)
    assert labels.tolist() == [[1, 1]]
    points, labels = check_points(np.ones((3, 1, 2)), [[0], [1], [True]], size=SIZE)
    assert points.shape == (3, 1, 2)
    assert labels.tolist() == [[0], [1], [1]]


def test_points_that_fill_a_row_up_may_lie_anywhere():
    _, labels = check_points([[5, 5], [-1e6, 1e6]], [1, -1], size=SIZE)
    assert labels.tolist() == [[1, -1]]


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([9, 9, 5, 20], r"box 9,9,5,20 is reversed or empty; give the upper left"),
        ([5, 9, 9, 9], "reversed or empty"),
        ([[0, 0, 5, 5], [0, 0, 661, 5]], r"box 0,0,661,5 is outside the picture of 640x480"),
        ([-20, 0, 5, 5], "outside"),
        ([0, 0, float("nan"), 5], "box 0,0,nan,5 is outside"),
        ([1, 2, 3], r"boxes of shape \(3,\)"),
        ([], "boxes of shape"),
        (["a", "b", "c", "d"], "boxes must be numbers"),
    ],
)
def test_bad_boxes(boxes, message):
    with pytest.raises(PromptError, match=message):
        check_boxes(boxes, size=SIZE)


def test_good_boxes():
    hair = [-0.5, 0, 640.4, 481]
    assert check_boxes(hair, size=SIZE).tolist() == [[0, 0, 640, 480]]
    assert check_boxes([0, 0, 640, 480], size=SIZE).tolist() == [[0, 0, 640, 480]]
    assert check_boxes(np.ones((2, 4)) * (0, 0, 2, 2), size=SIZE).shape == (2, 4)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((480, 640)), r"a mask prompt of shape \(480, 640\).*\(24, 24\)"),
        (np.ones((24, 24), bool), "nothing but 0 and 1"),
        (np.full((24, 24), 255), "nothing but 0 and 1"),
        (np.full((24, 24), np.nan), "NaN"),
        (np.zeros((1, 1, 24, 24)), "a mask prompt of shape"),
    ],
)
def test_bad_masks(mask, message):
    with pytest.raises(PromptError, match=message):
        check_mask(mask, shape=(24, 24))


def test_parts_must_be_of_as_many_prompts():
    points, boxes = np.ones((2, 1, 2)), np.array([[0, 0, 5, 5]] * 3)
    with pytest.raises(PromptError, match="different numbers of prompts: 2 for points, 3 for box"):
        check_prompts(points, None, boxes, None, size=SIZE, mask_shape=(24, 24))
    with pytest.raises(PromptError, match="no prompt"):
        check_prompts(None, None, None, None, size=SIZE, mask_shape=(24, 24))
    with pytest.raises(PromptError, match="labels without points"):
        check_prompts(None, [1], boxes, None, size=SIZE, mask_shape=(24, 24))
    assert check_prompts(None, None, boxes, None, size=SIZE, mask_shape=(24, 24)).labels.shape == (
        3,
        0,
    )
