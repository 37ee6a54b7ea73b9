"""J and F against cases worked out by hand."""

import numpy as np
import pytest

from train.evals.video_scores import contour, contour_accuracy, region_similarity, score_clip


def square(top: int, left: int, side: int = 20, size: int = 100) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_region_similarity_is_the_iou_and_1_without_anything():
    assert region_similarity(square(10, 10), square(10, 20)) == 200 / 600
    assert region_similarity(square(0, 0, 0), square(0, 0, 0)) == 1
    assert region_similarity(square(0, 0, 0), square(0, 0)) == 0


def test_a_contour_has_the_pixels_on_both_sides_of_its_upper_and_left_edges_alone():
    # Pixels that differ from right, below or across: the row above, the column before, and the
    # last row and column of the square itself.
    edge = contour(square(10, 10, 4, 20))
    rows, columns = np.nonzero(edge)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (9, 13, 9, 13)
    assert edge.sum() == 16


def test_the_border_of_the_frame_is_no_contour():
    assert not contour(np.ones((8, 8), bool)).any()


@pytest.mark.parametrize(("shift", "expected"), [(0, 1.0), (1, 1.0), (2, 1.0), (20, None)])
def test_contours_within_0_8_percent_of_the_diagonal_agree(shift, expected):
    # The diagonal is 141 pixels: 2 pixels are near enough.
    score = contour_accuracy(square(30, 30), square(30, 30 + shift))
    assert score == expected if expected is not None else score < 0.5


def test_contour_of_nothing():
    nothing = square(0, 0, 0)
    assert contour_accuracy(nothing, nothing) == 1
    assert contour_accuracy(square(10, 10), nothing) == 0
    assert contour_accuracy(nothing, square(10, 10)) == 0


def test_first_and_last_frames_do_not_count_and_things_are_averaged():
    truth = [square(10, 10).astype(int) + 2 * square(60, 60) for _ in range(4)]
    wrong = np.zeros_like(truth[0])
    scores = score_clip([wrong, truth[1], truth[2] * (truth[2] == 1), wrong], truth)
    assert scores.region.tolist() == [[1, 1], [1, 0]]
    assert scores.means == (75, 75, 75)
    assert scores.recalls == (75, 75)


def test_as_one_thing_labels_are_not_told_apart():
    truth = [square(10, 10).astype(int) + 2 * square(60, 60) for _ in range(3)]
    swapped = [np.where(frame, 3 - frame, 0) for frame in truth]
    assert score_clip(swapped, truth).means[1] == 0
    assert score_clip(swapped, truth, one_thing=True).means == (100, 100, 100)


def test_ignored_pixels_do_not_count():
    truth = [square(10, 10).astype(int) for _ in range(3)]
    for frame in truth:
        frame[50:, :] = 255
    guess = [frame.copy() for frame in truth]
    guess[1][50:, :] = 1
    assert score_clip(guess, truth).means[1] == 100


def test_nothing_to_score_is_refused():
    with pytest.raises(ValueError, match="three frames"):
        score_clip([np.zeros((4, 4), int)] * 3, [np.zeros((4, 4), int)] * 3)
