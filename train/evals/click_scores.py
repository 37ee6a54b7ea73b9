"""Scores of clicks and boxes by data set, as tables and JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from data.benchmarks import Episode
from data.clicks import Target
from train.evals.scores import Group

COUNTED = (1, 3, 5)
"""After how many clicks the IoU makes a column."""
GOAL, MOST_CLICKS = 0.85, 20
"""NoC@85, as it is counted in the literature on interactive segmentation."""

MODEL = "model"  # the predictor that is no baseline: its clicks are counted

Means = dict[str, dict[str, float]]
"""Mean IoU in percent, by predictor and by what it was given."""


@dataclass(frozen=True)
class SetScores:
    """What every predictor reached on one data set."""

    name: str
    unseen: bool
    asked: Sequence[Target | Episode]
    ious: Mapping[str, Mapping[str, list[float]]]
    """0..1, by predictor and by what it was given, as many as were `asked`."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    clicks: Mapping[str, list[int]] = field(default_factory=dict)
    """How many clicks reach an IoU of `GOAL`, `MOST_CLICKS` if none do, where it was counted."""

    @property
    def mean_clicks(self) -> dict[str, float]:
        """The mean number of clicks by predictor."""
        return {name: float(np.mean(counts)) for name, counts in self.clicks.items()}

    @property
    def means(self) -> Means:
        """The columns' means in percent."""
        return {
            name: {given: 100 * float(np.mean(column)) for given, column in columns.items()}
            for name, columns in self.ious.items()
        }


def group_means(scores: Sequence[SetScores]) -> dict[Group, Means]:
    """Average the data sets trained on, and those never trained on, if there are any."""
    groups: dict[Group, Means] = {}
    for group in ("val", "unseen"):
        rows = [of_set.means for of_set in scores if of_set.unseen == (group == "unseen")]
        if rows:
            groups[group] = {
                name: {given: float(np.mean([row[name][given] for row in rows])) for given in of}
                for name, of in rows[0].items()
            }
    return groups


def format_scores(scores: Sequence[SetScores]) -> str:
    """Lay scores out as text: data sets by group with their means, predictors side by side."""
    head, titles = f"{'mean IoU (%)':24}", 24 * " "
    widths: dict[tuple[str, str], int] = {}
    for name, of in scores[0].means.items():
        widths |= {(name, given): max(7, len(given) + 2) for given in of}
        titles += f"{name:>{sum(widths[name, given] for given in of)}}"
        head += "".join(f"{given:>{widths[name, given]}}" for given in of)
    lines = [titles, head]
    for group, means in group_means(scores).items():
        rows = {s.name: s.means for s in scores if s.unseen == (group == "unseen")}
        for title, row in (rows | {f"= {group}": means}).items():
            cells = [f"{row[name][given]:{w}.1f}" for (name, given), w in widths.items()]
            lines.append(f"{title:24}" + "".join(cells))
    lines += _format_clicks(scores)
    return "\n".join(lines)


def _format_clicks(scores: Sequence[SetScores]) -> list[str]:
    """Lay out the mean number of clicks to `GOAL`, a line for each predictor that was counted."""
    lines = []
    for name in scores[0].clicks:
        parts = []
        for group in ("val", "unseen"):
            means = [s.mean_clicks[name] for s in scores if s.unseen == (group == "unseen")]
            parts += [f"{group} {np.mean(means):.1f}"] if means else []
        title = f"NoC@{100 * GOAL:.0f} (at most {MOST_CLICKS})"
        lines.append(f"{title:24}{name}: {', '.join(parts)}")
    return lines


def to_json(scores: Sequence[SetScores]) -> dict[str, Any]:
    """Return everything that was scored, as JSON can hold it."""
    return {
        "means": group_means(scores),
        "datasets": {
            s.name: {
                "unseen": s.unseen,
                "iou": s.means,
                "asked": [asdict(one) for one in s.asked],
                "ious": s.ious,
                "seconds": dict(s.seconds),
                "clicks": s.mean_clicks,
            }
            for s in scores
        },
    }
