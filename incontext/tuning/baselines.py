"""What examples reach without tuning: the contexts that a tuned prompt must beat."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from incontext.context import Context, Ensemble, Example, SegType
from incontext.results import Result
from incontext.runtime import open_pool
from incontext.tuning.pictures import Pictures
from incontext.tuning.scores import SLACK, Counts, add_counts, count_pixels

if TYPE_CHECKING:
    from incontext.segmenter import Segmenter

CANDIDATES = 16  # pictures tried as the only example: one may do far better than all of them
JUDGES = 12  # pictures that choose among them: those held out, then others to learn from
MOST_EXAMPLES = 16  # in one context: each costs every picture time
ENSEMBLES: tuple[Ensemble, ...] = ("feature", "spatial")


@dataclass(frozen=True, eq=False)
class Trial:
    """A context, and pictures that judge it: none of those that it was made from.

    `rows` are those, where it shows pictures as they are.
    """

    context: Context
    pictures: Pictures
    rows: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Plain:
    """A context of examples as they are, and how it does.

    Attributes:
        name: What to call it.
        context: The one to use.
        counts: What was found in trials.
        rows: Which of the pictures learned from it shows.
        trials: Contexts made like it, and what judged them.
    """

    name: str
    context: Context
    counts: Counts
    rows: tuple[int, ...]
    trials: tuple[Trial, ...]

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
    order = cover_labels(train, np.random.default_rng([seed, 4]))
    plains = [_best_single(segmenter, train, held, order, seg_type=seg_type, seed=seed)]
    if len(order) > 1:
        for ensemble in ENSEMBLES:
            context = _show(segmenter, train, order, ensemble, seg_type)
            trials = (Trial(context, held),)
            plains.append(_plain(segmenter, ensemble, order, context, trials))
    return _ranked(segmenter, plains)


def cross_plain(
    segmenter: "Segmenter",
    pictures: Pictures,
    parts: Sequence[Sequence[int]],
    *,
    seg_type: SegType,
    seed: int,
) -> list[Plain]:
    """Score the same as `score_plain` does, on every part of the pictures by the others."""
    order = cover_labels(pictures, np.random.default_rng([seed, 4]))
    plains = [_cross_single(segmenter, pictures, parts, order, seg_type=seg_type)]
    for ensemble in ENSEMBLES:
        context = _show(segmenter, pictures, order, ensemble, seg_type)
        trials = tuple(
            Trial(
                _show(segmenter, pictures, [r for r in order if r not in part], ensemble, seg_type),
                pictures.take(part),
            )
            for part in parts
        )
        plains.append(_plain(segmenter, ensemble, order, context, trials))
    return _ranked(segmenter, plains)


def look_closer(
    segmenter: "Segmenter", context: Context, counts: Counts, trials: tuple[Trial, ...]
) -> tuple[Context, Counts, tuple[Trial, ...]]:
    """Return what looks at twice the model's size, if that is clearly better."""
    if context.detail == "large" or not segmenter.sees_other_sizes:
        return context, counts, trials
    large = tuple(
        replace(trial, context=replace(trial.context, detail="large")) for trial in trials
    )
    finer = score_trials(segmenter, large)
    before, after = (c.mean(c.best_threshold()) for c in (counts, finer))
    if after <= (1 + SLACK) * before:
        return context, counts, trials
    return replace(context, detail="large"), finer, large


def best_single(plains: Sequence[Plain]) -> Plain:
    """Return the one of a single example."""
    return next(plain for plain in plains if len(plain.rows) == 1)


def _ranked(segmenter: "Segmenter", plains: Sequence[Plain]) -> list[Plain]:
    """Return contexts with the best first, which looks closer if that is better.

    So a prompt does not win by its look.
    """
    ranked = sorted(plains, key=lambda one: -one.score)
    best = ranked[0]
    context, counts, trials = look_closer(segmenter, best.context, best.counts, best.trials)
    if context is not best.context:
        ranked.insert(0, Plain(f"{best.name}, large", context, counts, best.rows, trials))
    return ranked


def _cross_single(
    segmenter: "Segmenter",
    pictures: Pictures,
    parts: Sequence[Sequence[int]],
    order: Sequence[int],
    *,
    seg_type: SegType,
) -> Plain:
    """Choose the best single example; for its score, for each part by the other pictures alone.

    The best of many, scored on the pictures that chose it, would look better than it is.
    """
    contexts = {
        row: _show(segmenter, pictures, [row], "feature", seg_type) for row in order[:CANDIDATES]
    }
    counts = {}
    for row, context in contexts.items():
        judges = [judge for judge in range(len(pictures)) if judge != row]
        found = score_each(segmenter, context, pictures.take(judges))
        counts[row] = dict(zip(judges, found, strict=True))

    def choose(part: Sequence[int]) -> int:
        def score(row: int) -> float:
            total = add_counts([c for judge, c in counts[row].items() if judge not in part])
            return total.mean(total.best_threshold())

        return max((row for row in contexts if row not in part), key=score)

    chosen = [choose(part) for part in parts]
    trials = tuple(
        Trial(contexts[row], pictures.take(part), (row,))
        for row, part in zip(chosen, parts, strict=True)
    )
    found = add_counts(
        [counts[row][judge] for row, part in zip(chosen, parts, strict=True) for judge in part]
    )
    best = choose(())
    return Plain("1 example, the best", contexts[best], found, (best,), trials)


def _best_single(
    segmenter: "Segmenter",
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
    trials = (Trial(context, held),)
    counts = score_trials(segmenter, trials)
    return Plain("1 example, the best", context, counts, (row,), trials)


def _plain(
    segmenter: "Segmenter",
    ensemble: Ensemble,
    order: Sequence[int],
    context: Context,
    trials: tuple[Trial, ...],
) -> Plain:
    shown = order[:MOST_EXAMPLES]
    count = f"all {len(shown)}" if len(shown) == len(order) else f"{len(shown)} of {len(order)}"
    name = f"{count} examples, {ensemble}"
    return Plain(name, context, score_trials(segmenter, trials), tuple(shown), trials)


def _show(
    segmenter: "Segmenter",
    pictures: Pictures,
    rows: Sequence[int],
    ensemble: Ensemble,
    seg_type: SegType,
) -> Context:
    examples = as_examples(pictures.take(rows[:MOST_EXAMPLES]))
    return segmenter.context(examples, ensemble=ensemble, seg_type=seg_type)


def score_trials(segmenter: "Segmenter", trials: Sequence[Trial]) -> Counts:
    """Count what contexts find on the pictures that judge them."""
    return add_counts([score_context(segmenter, trial.context, trial.pictures) for trial in trials])


def score_context(segmenter: "Segmenter", context: Context, pictures: Pictures) -> Counts:
    """Count what a context finds on pictures; labels that it does not know are missed."""
    return add_counts(score_each(segmenter, context, pictures))


def score_each(segmenter: "Segmenter", context: Context, pictures: Pictures) -> list[Counts]:
    """Count what a context finds on each picture, as many at a time as there are cores."""

    def count(row: int) -> Counts:
        result = segmenter.segment(pictures.images[row], context)
        return count_result(result, pictures.slots[row], labels=pictures.labels)

    first = count(0)  # alone, to compile once
    with open_pool() as pool:
        return [first, *pool.map(count, range(1, len(pictures)))]


def count_result(
    result: Result, slots: UInt8[np.ndarray, "h w"], *, labels: Sequence[int]
) -> Counts:
    """Count what was found on one picture, whose slots number the labels from 1."""
    low = result.probabilities_lowres
    chances = np.zeros((len(labels) + 1, *low.shape[1:]), np.float32)
    chances[0] = low[0]
    for label, plane in zip(result.labels, low[1:], strict=True):
        chances[1 + labels.index(label)] = plane
    return count_pixels(chances, slots, labels=labels)


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
