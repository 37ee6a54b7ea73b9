"""Every prompt that makes no sense is one line with its value and the mend."""

import numpy as np
import pytest

from incontext.prompt_rules import (
    Prompts,
    check_boxes,
    check_mask,
    check_points,
    check_prompts,
)
from incontext.zoom import Look
from seggpt.errors import PromptError
from seggpt.prompts import ABSENT

SIZE = (480, 640)


@pytest.mark.parametrize(
    ("points", "labels", "message"),
    [
        ([[900, 20]], None, r"point 900,20 is outside the picture of 640x480; x is in 0..639"),
        ([[640, 20]], None, "point 640,20 is outside"),
        ([[5, 5], [-1, 5]], [1, 1], "point -1,5 is outside"),
        ([[float("nan"), 5]], None, "point nan,5 is outside"),
        ([[float("inf"), 5]], None, "point inf,5 is outside"),
        ([[5, 5]], [5], "point label 5 is neither 1"),
        ([[5, 5]], [-1], "point label -1 is neither 1"),
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


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([9, 9, 5, 20], r"box 9,9,5,20 is reversed or empty; give the upper left"),
        ([5, 9, 9, 9], "reversed or empty"),
        ([[0, 0, 5, 5], [0, 0, 641, 5]], r"box 0,0,641,5 is outside the picture of 640x480"),
        ([-1, 0, 5, 5], "outside"),
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
        check_mask(mask, side=24)


def test_parts_must_be_of_as_many_prompts():
    points, boxes = np.ones((2, 1, 2)), np.array([[0, 0, 5, 5]] * 3)
    with pytest.raises(PromptError, match="different numbers of prompts: 2 for points, 3 for box"):
        check_prompts(points, None, boxes, None, size=SIZE, side=24)
    with pytest.raises(PromptError, match="no prompt"):
        check_prompts(None, None, None, None, size=SIZE, side=24)
    with pytest.raises(PromptError, match="labels without points"):
        check_prompts(None, [1], boxes, None, size=SIZE, side=24)
    assert check_prompts(None, None, boxes, None, size=SIZE, side=24).labels.shape == (3, 0)


LOOK = Look((100, 50, 300, 250), SIZE)


def make_prompts():
    points = np.array([[[100, 50], [99.5, 60], [299.5, 249.5]], [[150, 250], [300, 90], [210, 70]]])
    boxes = np.array([[120, 60, 200, 90], [20, 30, 400, 100]], np.float32)
    masks = np.random.default_rng(0).normal(size=(2, 24, 24)).astype(np.float32)
    labels = np.array([[1, 0, 0], [0, 1, 1]], np.int32)
    return Prompts(points=points.astype(np.float32), labels=labels, boxes=boxes, masks=masks)


def test_one_prompt_is_taken_with_all_its_parts():
    prompts = make_prompts()
    for row in range(2):
        one = prompts.take(row)
        for name in ("points", "labels", "boxes", "masks"):
            np.testing.assert_array_equal(getattr(one, name), getattr(prompts, name)[row : row + 1])
    bare = check_prompts([[[1, 2]], [[3, 4]]], None, None, None, size=SIZE, side=24).take(1)
    assert bare.points.tolist() == [[[3, 4]]]
    assert (bare.boxes, bare.masks) == (None, None)


def test_a_part_of_a_picture_shows_points_in_its_own_pixels():
    seen = make_prompts().seen_by(LOOK)
    assert seen.labels.tolist() == [[1, ABSENT, 0], [ABSENT, ABSENT, 1]]
    assert seen.labels.dtype == np.int32
    there = seen.labels != ABSENT
    np.testing.assert_allclose(seen.points[there], [[0, 0], [199.5, 199.5], [110, 20]])
    assert seen.points.shape == (2, 3, 2)


def test_a_part_of_a_picture_shows_what_boxes_share_with_it():
    seen = make_prompts().seen_by(LOOK)
    assert seen.boxes is not None
    np.testing.assert_allclose(seen.boxes, [[20, 10, 100, 40], [0, 0, 200, 50]])


def test_a_part_of_a_picture_shows_its_part_of_masks():
    prompts = make_prompts()
    seen = prompts.seen_by(LOOK)
    assert prompts.masks is not None
    np.testing.assert_array_equal(seen.masks, LOOK.into(prompts.masks))
    bare = check_prompts([[150, 60]], None, None, None, size=SIZE, side=24).seen_by(LOOK)
    assert (bare.boxes, bare.masks) == (None, None)


def test_a_look_at_everything_changes_no_prompt():
    prompts = make_prompts()
    seen = prompts.seen_by(Look((0, 0, SIZE[1], SIZE[0]), SIZE))
    for name in ("points", "labels", "boxes", "masks"):
        np.testing.assert_allclose(getattr(seen, name), getattr(prompts, name), atol=1e-5)
