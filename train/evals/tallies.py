"""Benchmarks' numbers: intersection and union added up over episodes, as HSNet does.

mIoU is the mean over the classes of a fold of what their episodes have together. FB-IoU adds up
all episodes whatever their class, for the foreground and for the background, and takes the mean of
the two.
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Int

from data.benchmarks import Pair


@dataclass
class Tally:
    """Pixels of intersection and union of background and foreground, by class."""

    counts: dict[int, Int[np.ndarray, "2 2"]] = field(default_factory=dict)

    def add(self, class_id: int, prediction: Bool[np.ndarray, "h w"], query: Pair) -> None:
        """Count an episode; ignored pixels do not count."""
        known = ~query.ignore
        guess, truth = prediction[known], query.mask[known]
        both = [(~guess & ~truth).sum(), (guess & truth).sum()]
        either = [(~guess | ~truth).sum(), (guess | truth).sum()]
        empty = np.zeros((2, 2), int)
        self.counts[class_id] = self.counts.get(class_id, empty) + np.array([both, either])

    def class_iou(self) -> dict[int, float]:
        """Return the foreground's IoU of every class that was seen, in percent."""
        return {
            class_id: float(100 * both[1] / max(1, either[1]))
            for class_id, (both, either) in self.counts.items()
        }

    def miou(self) -> float:
        """Return the mean over the classes that were asked for, in percent."""
        return float(np.mean([*self.class_iou().values()]))

    def fb_iou(self) -> float:
        """Return the mean of foreground's and background's IoU over all episodes, in percent."""
        both, either = np.sum([*self.counts.values()], axis=0)
        return float(100 * np.mean(both / np.maximum(either, 1)))
