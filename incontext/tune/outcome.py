"""The outcome of tuning: scores, the better context, and its description."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32

from incontext.examples.context import Context
from incontext.tune.baselines import Plain
from incontext.tune.loop import Ending
from incontext.tune.pictures import Pictures
from incontext.tune.scores import Counts

Judging = Literal[
    "pictures held out", "pictures left out in turn", "its own pictures (too few to hold out)"
]
"""Which pictures the scores are of."""

Probabilities = Float32[np.ndarray, "k h w"]


@dataclass(frozen=True, eq=False)
class Tuned:
    """What tuning came to.

    Attributes:
        tuned_context: The tuned prompt.
        plain_context: The best that examples reach untuned.
        plains: All that they reach, the best first.
        tuned: What the tuned prompt reaches on the same pictures.
        ending: Why the run ended.
        history: Step, loss and mean IoU after each round.
        learned_from: The pictures that were learned from.
        judged_by: The pictures that the scores are of.
        judging: What to call those.
        left_out: What the best untuned context and the tuned one found in each of them without
            knowing it, where pictures were left out in turn.
    """

    tuned_context: Context
    plain_context: Context
    plains: Sequence[Plain]
    tuned: Counts
    ending: Ending
    history: Sequence[tuple[int, float, float]]
    learned_from: Pictures
    judged_by: Pictures
    judging: Judging
    left_out: Sequence[tuple[Probabilities, Probabilities]] = ()

    @property
    def context(self) -> Context:
        """The better one: the tuned prompt, unless plain examples score higher."""
        return self.tuned_context if self.is_tuned else self.plain_context

    @property
    def is_tuned(self) -> bool:
        """Whether that is the tuned prompt."""
        learned = self.tuned_context is not self.plain_context
        return learned and self.score >= self.plains[0].score

    @property
    def threshold(self) -> float:
        """The threshold at which the tuned prompt does best."""
        return self.tuned.best_threshold()

    @property
    def score(self) -> float:
        """Mean IoU of the tuned prompt at that threshold, in percent."""
        return self.tuned.mean(self.threshold)

    @property
    def verdict(self) -> str:
        """What came of it, in one line."""
        best = self.plains[0]
        if self.tuned_context is self.plain_context:
            return f"nothing was learned: the plain examples' context is kept ({best.score:.1f})"
        numbers = f"mean IoU {self.score:.1f} against {best.score:.1f} ({best.name})"
        numbers += f", {self.judging}"
        if self.is_tuned:
            return f"tuned: {numbers}"
        return f"the plain examples do better: {numbers}; their context is kept"


def describe(
    context: Context,
    counts: Counts,
    held: Pictures,
    *,
    names: Mapping[int, str],
    about: Mapping[str, Any],
) -> Context:
    """Return a context that says how it does on held-out pictures, and at which threshold."""
    threshold = counts.best_threshold()
    iou = {
        str(label): None if value is None else round(value, 2)
        for label, value in zip(held.labels, counts.iou(threshold), strict=True)
    }
    about = {**about, "score": round(counts.mean(threshold), 2), "iou": iou}
    return replace(context, threshold=threshold, names=names, about=about)
