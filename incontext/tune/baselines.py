"""Baselines for tuning: what the examples reach without it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int32, UInt8

from incontext.device import open_pool
from incontext.examples.context import Context, LoadedExample
from incontext.examples.engine import SegGPTEngine
from incontext.examples.segmenter import ExampleSegmenter
from incontext.options import Ensemble, SegType
from incontext.result import Result
from incontext.tune.pictures import Pictures
from incontext.tune.scores import SLACK, Counts, add_counts, count_pixels

CANDIDATES = 16  # pictures tried as the only example: one may do far better than all of them
JUDGES = 12  # pictures that choose among them: those held out, then others to learn from
MOST_EXAMPLES = 16  # in one context: each costs every picture time
ENSEMBLES: tuple[Ensemble, ...] = ("feature", "spatial")


@dataclass(frozen=True, eq=False)
class Plain:
    """A context of examples as they are, and how it does.

    Attributes:
        name: What to call it.
        context: The context.
        counts: What it finds on the pictures that judge.
        rows: Which of the pictures to learn from it shows.
    """

    name: str
    context: Context
    counts: Counts
    rows: tuple[int, ...]

    @property
    def threshold(self) -> float:
        """The threshold at which it does best."""
        return self.counts.best_threshold()

    @property
    def score(self) -> float:
        """Mean IoU at that threshold, in percent."""
        return self.counts.mean(self.threshold)


def score_plain(
    segmenter: ExampleSegmenter, train: Pictures, held: Pictures, *, seg_type: SegType, seed: int
) -> list[Plain]:
    """Score the best single example, and all by both ensembles; the best comes first.

    Single examples are tried in the order in which they show most labels. The best is chosen on
    other pictures to learn from, too: the best of many on a few is best there by luck.
    """
    order = cover_labels(train, np.random.default_rng([seed, 4]))
    plains = [_best_single(segmenter, train, held, order, seg_type=seg_type, seed=seed)]
    if len(order) > 1:
        plains += [
            _all_by(ensemble, segmenter, train, held, order, seg_type=seg_type)
            for ensemble in ENSEMBLES
        ]
    plains.sort(key=lambda one: -one.score)
    # The best looks closer if that is better, so that a prompt does not win by its look.
    best = plains[0]
    context, counts = look_closer(segmenter, best.context, best.counts, held)
    if context is not best.context:
        plains.insert(0, Plain(f"{best.name}, large", context, counts, best.rows))
    return plains


def look_closer(
    segmenter: ExampleSegmenter, context: Context, counts: Counts, held: Pictures
) -> tuple[Context, Counts]:
    """Return what looks at twice the model's size, if that is clearly better, and its counts."""
    engine = segmenter.engine
    if not (isinstance(engine, SegGPTEngine) and engine.sees_other_sizes):
        return context, counts
    large = replace(context, detail="large")
    finer = score_context(segmenter, large, held)
    before, after = (c.mean(c.best_threshold()) for c in (counts, finer))
    return (large, finer) if after > (1 + SLACK) * before else (context, counts)


def best_single(plains: Sequence[Plain]) -> Plain:
    """Return the one of a single example."""
    return next(plain for plain in plains if len(plain.rows) == 1)


def _best_single(
    segmenter: ExampleSegmenter,
    train: Pictures,
    held: Pictures,
    order: Sequence[int],
    *,
    seg_type: SegType,
    seed: int,
) -> Plain:
    """Choose among single examples on some held-out pictures and others; score it on the former."""
    rng = np.random.default_rng([seed, 8])
    few = held.take(sorted(rng.permutation(len(held))[:JUDGES].tolist()))
    best = -1.0, 0, None
    for row in order[:CANDIDATES]:
        context = _show(segmenter, train, [row], "feature", seg_type)
        others = [other for other in order if other != row][: JUDGES - len(few)]
        counts = score_context(segmenter, context, few.joined(train.take(others)))
        score = counts.mean(counts.best_threshold())
        if score > best[0]:
            best = score, row, context
    _, row, context = best
    assert context is not None  # read_pictures: some picture shows something
    counts = score_context(segmenter, context, held)
    return Plain("1 example, the best", context, counts, (row,))


def _all_by(
    ensemble: Ensemble,
    segmenter: ExampleSegmenter,
    train: Pictures,
    held: Pictures,
    order: Sequence[int],
    *,
    seg_type: SegType,
) -> Plain:
    """Score all pictures, or as many as a context may have, by an ensemble."""
    context = _show(segmenter, train, order, ensemble, seg_type)
    counts = score_context(segmenter, context, held)
    shown = order[:MOST_EXAMPLES]
    count = f"all {len(shown)}" if len(shown) == len(order) else f"{len(shown)} of {len(order)}"
    return Plain(f"{count} examples, {ensemble}", context, counts, tuple(shown))


def _show(
    segmenter: ExampleSegmenter,
    pictures: Pictures,
    rows: Sequence[int],
    ensemble: Ensemble,
    seg_type: SegType,
) -> Context:
    shown = pictures.take(rows[:MOST_EXAMPLES])
    maps = label_maps(shown)
    examples = [LoadedExample(*pair) for pair in zip(shown.images, maps, strict=True)]
    labels = tuple(sorted({int(label) for labels in maps for label in np.unique(labels)} - {0}))
    return segmenter.show(examples, labels, ensemble=ensemble, seg_type=seg_type)


def score_context(segmenter: ExampleSegmenter, context: Context, pictures: Pictures) -> Counts:
    """Count what a context finds on pictures, as many at a time as there are cores.

    Labels that it does not know are missed.
    """

    def count(row: int) -> Counts:
        [result] = segmenter.segment_many([pictures.images[row]], context)
        return count_result(result, pictures.class_ids[row], labels=pictures.labels)

    first = count(0)  # alone, to compile once
    with open_pool() as pool:
        return add_counts([first, *pool.map(count, range(1, len(pictures)))])


def count_result(
    result: Result, class_ids: UInt8[np.ndarray, "h w"], *, labels: Sequence[int]
) -> Counts:
    """Count what was found on one picture, whose class_ids number the labels from 1."""
    low = result.probabilities_lowres
    probabilities = np.zeros((len(labels) + 1, *low.shape[1:]), np.float32)
    probabilities[0] = low[0]
    for label, channel in zip(result.labels, low[1:], strict=True):
        probabilities[1 + labels.index(label)] = channel
    return count_pixels(probabilities, class_ids, labels=labels)


def label_maps(pictures: Pictures) -> list[Int32[np.ndarray, "h w"]]:
    """Return the labels of all pixels; what is ignored counts as background."""
    values = np.zeros(256, np.int32)
    values[1 : len(pictures.labels) + 1] = pictures.labels
    return [values[class_ids] for class_ids in pictures.class_ids]


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
