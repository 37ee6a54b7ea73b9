"""What examples reach without tuning: the contexts that a tuned prompt must beat."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from incontext.context import Context, Ensemble, Example, SegType
from incontext.tuning.pictures import Pictures
from incontext.tuning.scores import Counts, count_pixels, no_counts

if TYPE_CHECKING:
    from incontext.segmenter import Segmenter

CANDIDATES = 16  # pictures tried as the only example: one may do far better than all of them
JUDGES = 12  # pictures that choose among them: those held out, then others to learn from
MOST_EXAMPLES = 16  # in one context: each costs every picture time


@dataclass(frozen=True, eq=False)
class Plain:
    """A context of examples as they are, and how it does on the held-out pictures."""

    name: str
    context: Context
    counts: Counts
    rows: tuple[int, ...]  # which of the pictures learned from it shows

    @property
    def threshold(self) -> float:
        """The threshold at which it does best."""
        return self.counts.best_threshold()

    @property
    def score(self) -> float:
        """Mean IoU at that threshold, in percent."""
        return self.counts.mean(self.threshold)


def score_plain(
    segmenter: "Segmenter", train: Pictures, held: Pictures, *, seg_type: SegType, seed: int
) -> list[Plain]:
    """Score the best single example, and all by both ensembles; the best comes first.

    Single examples are tried in the order in which they show most labels. The best is chosen on
    other pictures to learn from, too: the best of many on a few is best there by luck.
    """

    def plain(name: str, rows: Sequence[int], ensemble: Ensemble, judges: Pictures) -> Plain:
        context = segmenter.context(
            as_examples(train.take(rows)), ensemble=ensemble, seg_type=seg_type
        )
        return Plain(name, context, score_context(segmenter, context, judges), tuple(rows))

    rng = np.random.default_rng([seed, 4])
    order = cover_labels(train, rng)
    few = held.take(sorted(rng.permutation(len(held))[:JUDGES].tolist()))
    singles = []
    for row in order[:CANDIDATES]:
        others = [other for other in order if other != row][: JUDGES - len(few)]
        singles.append(plain("1 example", [row], "feature", few.joined(train.take(others))))
    best = max(singles, key=lambda one: one.score)
    plains = [plain("1 example, the best", best.rows, "feature", held)]
    if len(order) > 1:
        rows = order[:MOST_EXAMPLES]
        count = f"all {len(rows)}" if len(rows) == len(order) else f"{len(rows)} of {len(order)}"
        plains.append(plain(f"{count} examples, feature", rows, "feature", held))
        plains.append(plain(f"{count} examples, spatial", rows, "spatial", held))
    return sorted(plains, key=lambda one: -one.score)


def score_context(segmenter: "Segmenter", context: Context, pictures: Pictures) -> Counts:
    """Count what a context finds on pictures; labels that it does not know are missed."""
    slot_of = {label: slot for slot, label in enumerate(pictures.labels, 1)}
    total = no_counts(len(pictures.labels))
    results = segmenter.segment_many(pictures.images, context)
    for result, slots in zip(results, pictures.slots, strict=True):
        low = result.probabilities_lowres
        chances = np.zeros((len(pictures.labels) + 1, *low.shape[1:]), np.float32)
        chances[0] = low[0]
        for label, plane in zip(result.labels, low[1:], strict=True):
            chances[slot_of[label]] = plane
        total += count_pixels(chances, slots, labels=pictures.labels)
    return total


def as_examples(pictures: Pictures) -> list[Example]:
    """Return pictures as examples with the labels of their masks."""
    values = np.zeros(256, np.int32)
    values[1 : len(pictures.labels) + 1] = pictures.labels
    return [
        Example(image, values[slots], kind="labels")
        for image, slots in zip(pictures.images, pictures.slots, strict=True)
    ]


def cover_labels(pictures: Pictures, rng: np.random.Generator) -> list[int]:
    """Order pictures so that the first ones show as much of as many labels as they can.

    Pictures that show none are left out.
    """
    shares = pictures.shares()
    shows_some = shares.sum(axis=1) > 0
    shares = shares / np.maximum(shares.max(axis=0), 1e-9)
    left, order = [row for row in rng.permutation(len(pictures)).tolist() if shows_some[row]], []
    shown = np.zeros(shares.shape[1])
    while left:
        best = max(left, key=lambda row: float(np.minimum(shown + shares[row], 1).sum()))
        order.append(best)
        left.remove(best)
        shown = np.minimum(shown + shares[best], 1)
        if shown.min() > 0.5:  # all are shown well: start over, so that others follow
            shown = np.zeros(shares.shape[1])
    return order
