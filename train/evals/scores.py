"""Scores over episodes: pixel counts, and the tables made of them.

Intersection and union are added up per class over all episodes of a data set; its number is the
mean of its classes' IoU in percent, as for COCO-20i. Pixels marked as ignored do not count.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Int

from data.benchmarks import Episode, Pair
from train.evals.baselines import BASELINES, Prediction

Group = Literal["val", "unseen"]


@dataclass(frozen=True)
class DatasetScores:
    """What every predictor reached on one data set."""

    name: str
    unseen: bool
    episodes: tuple[Episode, ...]
    counts: Mapping[str, Mapping[str, Int[np.ndarray, "thresholds 2"]]]
    """By predictor and class: pixels in the intersection and in the union."""
    seconds: Mapping[str, float]
    """By predictor, over the distinct episodes, without reading the pictures."""


@dataclass(frozen=True)
class Scores:
    """What every predictor reached, in percent, at one of the counted thresholds."""

    datasets: tuple[DatasetScores, ...]
    thresholds: tuple[float, ...]  # ascending
    threshold: float

    def at(self, threshold: float) -> "Scores":
        """Return the scores at another of `thresholds`."""
        return replace(self, threshold=threshold)

    def classes(self, dataset: DatasetScores, predictor: str) -> dict[str, float]:
        """Return the IoU of each of a data set's classes."""
        row = self.thresholds.index(self.threshold)
        counts = {name: table[row].tolist() for name, table in dataset.counts[predictor].items()}
        return {name: 100 * hit / max(union, 1) for name, (hit, union) in counts.items()}

    @property
    def table(self) -> dict[str, dict[str, float]]:
        """Mean IoU by data set and predictor."""
        return {
            dataset.name: {
                name: float(np.mean([*self.classes(dataset, name).values()]))
                for name in dataset.counts
            }
            for dataset in self.datasets
        }

    @property
    def val(self) -> dict[str, float]:
        """Mean over the data sets trained on, by predictor; empty if there are none."""
        return self._mean(unseen=False)

    @property
    def unseen(self) -> dict[str, float]:
        """Mean over the data sets never trained on, by predictor; empty if there are none."""
        return self._mean(unseen=True)

    def margins(self, predictor: str) -> dict[Group, float]:
        """Return by how much a predictor beats each data set's best baseline, on average."""
        table, gains = self.table, defaultdict(list)
        for dataset in self.datasets:
            row = table[dataset.name]
            rivals = [row[name] for name in BASELINES if name in row and name != predictor]
            if rivals:
                gains["unseen" if dataset.unseen else "val"].append(row[predictor] - max(rivals))
        return {group: float(np.mean(values)) for group, values in gains.items()}

    def best_threshold(self, predictor: str) -> float | None:
        """Return the threshold best for the trained sets' held-out pictures; None without any.

        Unseen sets have no say, as they stand for what nobody could tune for.
        """
        if not self.val:
            return None
        # Of equals, the one in the middle.
        return max(self.thresholds, key=lambda t: (self.at(t).val[predictor], -abs(t - 0.5)))

    def _mean(self, *, unseen: bool) -> dict[str, float]:
        rows = [self.table[d.name] for d in self.datasets if d.unseen == unseen]
        return {name: float(np.mean([row[name] for row in rows])) for name in (rows or [{}])[0]}


def count_pixels(
    prediction: Prediction, query: Pair, *, thresholds: Sequence[float]
) -> Int[np.ndarray, "thresholds 2"]:
    """Count the pixels of intersection and union at ascending thresholds, all in one pass."""
    known = ~query.ignore
    truth = query.mask[known]
    # A pixel that reaches n thresholds is foreground at the first n.
    levels = np.asarray(thresholds, np.float32)
    reached = np.searchsorted(levels, prediction[known].astype(np.float32), side="right")
    bins = len(thresholds) + 1
    hits, wrong = (
        np.bincount(reached[part], minlength=bins)[::-1].cumsum()[::-1][1:]
        for part in (truth, ~truth)
    )
    return np.stack([hits, wrong + truth.sum()], axis=1)


def format_scores(scores: Scores) -> str:
    """Lay scores out as text: data sets by group with their means, then margins and the sweep."""
    table = scores.table
    names = list(next(iter(table.values()), {}))
    lines = [f"{'mean IoU (%)':24}" + "".join(f"{name:>12}" for name in names)]
    for group, means in (("val", scores.val), ("unseen", scores.unseen)):
        rows = {d.name: table[d.name] for d in scores.datasets if d.unseen == (group == "unseen")}
        for name, row in (rows | ({f"= {group}": means} if means else {})).items():
            lines.append(f"{name:24}" + "".join(f"{row[column]:12.1f}" for column in names))
    if "model" in names:
        margins = [f"{group} {gain:+.1f}" for group, gain in scores.margins("model").items()]
        lines.append(f"model over each set's best baseline: {', '.join(margins)}")
    if len(scores.thresholds) > 1:
        lines += _sweep_lines(scores)
    return "\n".join(lines)


def _sweep_lines(scores: Scores) -> list[str]:
    lines = [f"{'model at threshold':24}{'val':>12}{'unseen':>12}"]
    best = scores.best_threshold("model")
    for threshold in scores.thresholds:
        there = scores.at(threshold)
        cells = [
            f"{mean['model']:12.1f}" if mean else 12 * " " for mean in (there.val, there.unseen)
        ]
        mark = "  best on val" if threshold == best else ""
        lines.append(f"{threshold:<24.2f}" + "".join(cells) + mark)
    return lines


def to_json(scores: Scores) -> dict[str, Any]:
    """Return everything that was counted, as JSON can hold it."""
    table = scores.table
    report: dict[str, Any] = {
        "threshold": scores.threshold,
        "means": {"val": scores.val, "unseen": scores.unseen},
        "datasets": {
            d.name: {
                "unseen": d.unseen,
                "episodes": len(d.episodes),
                "iou": table[d.name],
                "classes": {name: scores.classes(d, name) for name in d.counts},
                "counts": {n: {c: a.tolist() for c, a in t.items()} for n, t in d.counts.items()},
                "seconds": dict(d.seconds),
            }
            for d in scores.datasets
        },
        "thresholds": list(scores.thresholds),  # of the rows of `counts`
    }
    if any("model" in row for row in table.values()):
        report["margins"] = scores.margins("model")
    if len(scores.thresholds) > 1:
        report["best_threshold"] = scores.best_threshold("model")
        there = {threshold: scores.at(threshold) for threshold in scores.thresholds}
        report["sweep"] = {t: {"val": s.val, "unseen": s.unseen} for t, s in there.items()}
    return report
