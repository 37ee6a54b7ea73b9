"""Counting at every threshold at once agrees with what a result marks."""

import numpy as np
import pytest

from incontext.result import Result
from incontext.tune.scores import THRESHOLDS, Counts, count_pixels, no_counts


@pytest.mark.parametrize("labels", [1, 3])
def test_counts_are_those_of_the_label_map(labels):
    rng = np.random.default_rng(labels)
    probabilities = rng.random((labels + 1, 4, 4)).astype(np.float32)
    probabilities /= probabilities.sum(axis=0)
    class_ids = rng.integers(0, labels + 1, (12, 10)).astype(np.uint8)
    class_ids[:2] = 255
    counts = count_pixels(probabilities, class_ids, labels=range(labels))
    known = class_ids != 255
    for row, threshold in enumerate(THRESHOLDS):
        found = Result(
            probabilities_lowres=probabilities,
            labels=tuple(range(1, labels + 1)),
            size=(12, 10),
            threshold=threshold,
        ).label_map
        for class_id in range(1, labels + 1):
            mine, true = (found == class_id) & known, (class_ids == class_id) & known
            assert abs(int(counts.hits[row, class_id - 1]) - (mine & true).sum()) <= 1
            assert abs(int(counts.wrong[row, class_id - 1]) - (mine & ~true).sum()) <= 1
            assert counts.marked[class_id - 1] == true.sum()


def test_a_label_that_no_picture_shows_has_no_score():
    hits, wrong = np.full((2, len(THRESHOLDS), 2), 5)
    counts = Counts(hits, wrong, np.array([5, 0])) + no_counts(2)
    assert counts.iou(0.5) == [50.0, None]
    assert counts.mean(0.5) == 50.0
    assert no_counts(2).mean(0.5) == 0.0


@pytest.mark.parametrize(
    ("at_peak", "wanted"), [(1000, 0.5), (1015, 0.5), (1030, 0.8)], ids=["equal", "about", "better"]
)
def test_the_best_threshold_is_nearest_to_the_middle_among_about_equals(at_peak, wanted):
    counts = no_counts(1)
    counts.marked[:] = 2000
    counts.hits[4:12] = 1000
    counts.hits[THRESHOLDS.index(0.8)] = at_peak
    assert counts.best_threshold() == wanted
