"""IoU of probabilities and masks by label, at every threshold at once."""

import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int, UInt8

from incontext.files.mask_rules import IGNORE
from incontext.result import Result

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))
SLACK = 0.02  # share of the best mean within which thresholds count as equal


@dataclass(frozen=True, eq=False)
class Counts:
    """Pixels found, found wrongly and marked, by label, added up over pictures."""

    hits: Int[np.ndarray, "thresholds labels"]
    wrong: Int[np.ndarray, "thresholds labels"]
    marked: Int[np.ndarray, " labels"]

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.hits + other.hits, self.wrong + other.wrong, self.marked + other.marked)

    def iou(self, threshold: float) -> list[float | None]:
        """Return each label's IoU in percent; None where no picture shows the label."""
        row = nearest(threshold)
        union = np.maximum(self.wrong[row] + self.marked, 1)
        values = 100 * self.hits[row] / union
        return [
            float(value) if marked else None
            for value, marked in zip(values, self.marked, strict=True)
        ]

    def mean(self, threshold: float) -> float:
        """Return the mean IoU over the labels that pictures show, in percent."""
        known = [value for value in self.iou(threshold) if value is not None]
        return float(np.mean(known)) if known else 0.0

    def best_threshold(self) -> float:
        """Return the threshold nearest to 0.5 of those whose mean is about the best.

        A few held-out pictures cannot tell thresholds apart that do nearly as well.
        """
        means = {threshold: self.mean(threshold) for threshold in THRESHOLDS}
        enough = (1 - SLACK) * max(means.values())
        return min((t for t in THRESHOLDS if means[t] >= enough), key=lambda t: abs(t - 0.5))


def add_counts(counts: Sequence[Counts]) -> Counts:
    """Return the counts of all pictures together."""
    return functools.reduce(operator.add, counts)


def nearest(threshold: float) -> int:
    """Return the row of the counted threshold that is nearest."""
    return int(np.argmin(np.abs(np.asarray(THRESHOLDS) - threshold)))


def count_pixels(
    probabilities: Float32[np.ndarray, "k gh gw"],
    class_ids: UInt8[np.ndarray, "h w"],
    *,
    labels: Sequence[int],
) -> Counts:
    """Count one picture; channels are background and labels, which `class_ids` number from 1."""
    h, w = class_ids.shape
    size = (int(h), int(w))
    full = Result(
        probabilities_lowres=probabilities, labels=tuple(range(1, len(labels) + 1)), size=size
    ).probabilities()
    known = class_ids != IGNORE
    truth = class_ids[known]
    background, label = full[0][known], full[1:, known].argmax(axis=0)
    top = np.take_along_axis(full[1:, known], label[None], axis=0)[0]
    # The rule of `Result`: a label wins where top / (top + background) exceeds the threshold;
    # with one label these add up to 1.
    level = top / np.maximum(top + background, 1e-9)
    reached = np.searchsorted(np.asarray(THRESHOLDS, np.float32), level, side="left")
    places = len(THRESHOLDS) + 1
    counts = no_counts(len(labels))
    for class_id in range(len(labels)):
        mine, true = label == class_id, truth == class_id + 1
        counts.hits[:, class_id] = _at_least(reached[mine & true], places)
        counts.wrong[:, class_id] = _at_least(reached[mine & ~true], places)
        counts.marked[class_id] = true.sum()
    return counts


def no_counts(labels: int) -> Counts:
    """Return the counts of no pictures."""
    table = np.zeros((2, len(THRESHOLDS), labels), np.int64)
    return Counts(table[0], table[1], np.zeros(labels, np.int64))


def _at_least(reached: Int[np.ndarray, " n"], places: int) -> Int[np.ndarray, " thresholds"]:
    return np.bincount(reached, minlength=places)[::-1].cumsum()[::-1][1:]
