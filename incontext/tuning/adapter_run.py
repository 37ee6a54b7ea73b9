"""Adapters being learned: nets that correct what the frozen model paints by a plain prompt.

What it learns from must be painted as badly as other pictures will be, or it learns to trust it
too much: every picture is painted by examples that do not include it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float16, Float32, Int, PyTree, UInt8

from incontext.adaptation import Adaptation, adapter_size, mix, stack_looks, strides
from incontext.context import Context, SegType
from incontext.detail import LARGE
from incontext.packing import pack, unpack
from incontext.runtime import open_pool
from incontext.squeeze import squeeze_image, squeeze_labels
from incontext.tuning.baselines import Trial, cover_labels
from incontext.tuning.config import FOLDS, TuneConfig
from incontext.tuning.loop import Run, RunState, Update, View
from incontext.tuning.pictures import Pictures
from incontext.tuning.prepare import prepare_run
from incontext.tuning.scores import Counts, add_counts, count_pixels
from incontext.tuning.step import ADAM, move
from incontext.tuning.views import change_colors, cut_labels, cut_pixels, draw_window
from seggpt.adapter import adapt, fresh_adapter, load_trunk
from seggpt.canvas import normalize
from seggpt.coloring import IGNORE
from seggpt.pretrained import TRUNK

if TYPE_CHECKING:
    from incontext.segmenter import Segmenter

VIEW = 2 / 3  # of the side that an adapter looks at: crops are half as close to twice as close
RARITY = 0.25  # power of the inverse share of a label in the weight of its pixels
SHARES = (0.0, 0.1, 0.2, 0.35, 0.5)  # of the mean look in the answer, to choose from


@dataclass(frozen=True, eq=False)
class Crossed:
    """Pictures in parts, each painted by the others.

    Attributes:
        parts: The rows of each part.
        bases: Contexts of the pictures that are not in a part.
        painted: What those paint on it in each look, for all pictures.
    """

    parts: list[list[int]]
    bases: list[Context]
    painted: Float16[np.ndarray, "n looks planes s s"]


@dataclass(frozen=True, kw_only=True)
class AdapterRun(Run):
    """Learns adapters side by side, each without a part of the pictures, which scores it.

    With pictures held out there is one adapter, of all that are not.

    Attributes:
        base: The context that they correct, of all pictures.
        crossed: The parts, and what is painted on the pictures.
        held: Pictures to score on; without any, each part scores the adapter without it.
        held_painted: What the base paints on those.
    """

    base: Context
    crossed: Crossed
    held: Pictures | None = None
    held_painted: Float16[np.ndarray, "held looks planes s s"] | None = None

    # Its loss on others falls to the end, which a few pictures cannot tell: the last is kept.
    keeps_last: ClassVar[bool] = True

    @property
    def kind(self) -> Literal["adapter"]:
        """What is learned."""
        return "adapter"

    @property
    def members(self) -> list[list[int]]:
        """The pictures that each adapter learns from: all but a part, or all."""
        left_out = self.crossed.parts if self.held is None else [[]]
        return [all_but(part, len(self.pictures)) for part in left_out]

    @property
    def size(self) -> int:
        """Side of the squares that adapters look at."""
        return self.crossed.painted.shape[-1]

    @property
    def view(self) -> int:
        """Side of the views that they learn from."""
        return strides(round(VIEW * self.size))

    @property
    def view_numbers(self) -> int:
        """How many numbers a prepared view of every adapter has."""
        _, looks, planes, *_ = self.crossed.painted.shape
        halves = looks * planes  # what is painted has 16 bits a number
        return len(self.members) * self.view**2 * (4 + -(-halves // 2))

    def start(self) -> PyTree:
        """Return adapters that correct nothing yet, with the shipped trunk."""
        _, looks, planes, *_ = self.crossed.painted.shape
        fresh = fresh_adapter(planes, looks, seed=self.config.seed, trunk=load_trunk(TRUNK))
        return tuple(fresh for _ in self.members)

    def begin(self, learned: PyTree) -> RunState:
        """Return the state before the first round."""
        moments = tuple(ADAM.init(params) for params in learned)
        return RunState(learned, moments, learned, learned)

    def cutter(self, learned: PyTree) -> Callable[[int, Array], View]:
        """Return what cuts a view out of a picture, its labels and what is painted on it."""

        def cut(row: int, key: Array) -> View:
            image, slots = self.pictures.images[row], self.pictures.slots[row]
            painted = self.crossed.painted[row]
            return _cut(image, slots, painted, key, size=self.view, config=self.config)

        return cut

    def draw_views(
        self, cut: Callable[[int, Array], View], rng: np.random.Generator, deadline: float
    ) -> tuple[View, int]:
        """Cut views for every adapter, of the pictures that it learns from."""
        pools = [self.cut_rows(cut, rows, rng, deadline) for rows in self.members]
        return pools, min(len(pool[0]) for pool in pools)

    def updater(self) -> Update:
        """Return an update of all adapters, as many at a time as there are cores."""
        weights = [jnp.asarray(label_weights(self.pictures.take(r))) for r in self.members]
        workers = open_pool()

        def update(
            learned: PyTree,
            moments: PyTree,
            average: PyTree,
            pools: Sequence[View],
            index: Int[np.ndarray, "parts micro"],
            rate: Array,
            keep: Array,
        ) -> tuple[PyTree, PyTree, PyTree, Array]:
            def one(member: int) -> tuple[PyTree, PyTree, PyTree, Array]:
                state = learned[member], moments[member], average[member]
                given = pools[member], index, rate, keep
                return jax.block_until_ready(_update(weights[member], *state, *given))

            states = workers.map(one, range(len(weights)))
            learned, moments, average, losses = zip(*states, strict=True)
            return learned, moments, average, jnp.stack(losses).mean()

        return update

    def counts(self, learned: PyTree) -> Counts:
        """Return what is found on pictures that were not learned from, in one look at each."""
        (found,) = self._count(learned, answers=1, shares=(0.0,))
        return found

    def choose_share(self, learned: PyTree) -> tuple[float, Counts]:
        """Return which share of the mean look does best, and what is found with it.

        A part of the pictures judges the one adapter that does not know it: it looks twice, as all
        do once, so that its best threshold and share are about theirs.
        """
        answers = 1 if self.held is not None else 2
        found = self._count(round_members(learned), answers=answers, shares=SHARES)
        by_share = dict(zip(SHARES, found, strict=True))
        best = max(SHARES, key=lambda share: by_share[share].mean(by_share[share].best_threshold()))
        return best, by_share[best]

    def context(self, learned: PyTree, share: float = 0.0) -> Context:
        """Return the base with all adapters."""
        return self._adapted(self.base, round_members(learned), share)

    def trials(self, learned: PyTree, share: float) -> tuple[Trial, ...]:
        """Return contexts that find what `choose_share` counts, and what judges them."""
        if self.held is not None:
            return (Trial(self.context(learned, share), self.held),)
        parts = zip(self.crossed.bases, self._judging(round_members(learned)), strict=True)
        return tuple(
            Trial(self._adapted(base, (p, p), share), shown) for base, (p, shown, _) in parts
        )

    def _count(self, learned: PyTree, *, answers: int, shares: Sequence[float]) -> list[Counts]:
        """Count what is found by so many answers of each adapter, with each share of the look."""
        labels = self.pictures.labels
        shown = [
            (Adaptation(self.size, (params,) * answers), *picture)
            for params, pictures, painted in self._judging(learned)
            for picture in zip(pictures.images, pictures.slots, painted, strict=True)
        ]

        def count(row: int) -> list[Counts]:
            adaptation, image, slots, looks = shown[row]
            told = looks.astype(np.float32)
            (said,) = adaptation.correct([image], *([look] for look in told))
            answers = [mix(said, told.mean(axis=0), share) for share in shares]
            return [count_pixels(answer, slots, labels=labels) for answer in answers]

        with open_pool() as pool:
            found = list(pool.map(count, range(len(shown))))
        return [add_counts(column) for column in zip(*found, strict=True)]

    def _judging(self, learned: PyTree) -> Iterator[tuple[PyTree, Pictures, np.ndarray]]:
        """Yield weights, pictures that judge them, and what is painted on those."""
        if self.held is not None:
            assert self.held_painted is not None  # make_adapter_run
            [params] = learned
            yield params, self.held, self.held_painted
            return
        for params, rows in zip(learned, self.crossed.parts, strict=True):
            yield params, self.pictures.take(rows), self.crossed.painted[rows]

    def _adapted(self, base: Context, members: tuple[PyTree, ...], share: float) -> Context:
        assert base.adaptation  # make_base
        return replace(base, adaptation=replace(base.adaptation, members=members, share=share))


def round_members(learned: PyTree) -> tuple[PyTree, ...]:
    """Return adapters as a file holds them."""
    return unpack(pack(learned))


def cross_paint(
    segmenter: "Segmenter",
    pictures: Pictures,
    parts: Sequence[Sequence[int]],
    singles: Sequence[int | None],
    *,
    config: TuneConfig,
    seg_type: SegType,
) -> Crossed:
    """Paint each part by the other pictures, and by a single one of them that is given for it."""
    bases, rows_of, painted = [], [], []
    for part, single in zip(parts, singles, strict=True):
        rows = all_but(part, len(pictures))
        given = {"config": config, "seg_type": seg_type}
        bases.append(make_base(segmenter, pictures, rows, single, **given))
        painted.append(paint_pictures(segmenter, bases[-1], pictures.take(part)))
        rows_of.extend(part)
    order = np.argsort(rows_of)
    return Crossed([list(part) for part in parts], bases, np.concatenate(painted)[order])


def make_adapter_run(
    segmenter: "Segmenter",
    pictures: Pictures,
    crossed: Crossed,
    held: Pictures | None,
    single: int | None,
    *,
    config: TuneConfig,
    seg_type: SegType,
) -> AdapterRun:
    """Return a run that is judged by its parts, or by pictures held out."""
    rows = range(len(pictures))
    base = make_base(segmenter, pictures, rows, single, config=config, seg_type=seg_type)
    return AdapterRun(
        pictures=pictures,
        config=config,
        base=base,
        crossed=crossed,
        held=held,
        held_painted=None if held is None else paint_pictures(segmenter, base, held),
    )


def all_but(rows: Sequence[int], total: int) -> list[int]:
    """Return the other rows."""
    return [row for row in range(total) if row not in rows]


def divide(pictures: Pictures, *, seed: int) -> list[list[int]]:
    """Divide pictures into parts so that the others of every part show something."""
    order = cover_labels(pictures, np.random.default_rng([seed, 7]))
    order += [row for row in range(len(pictures)) if row not in order]
    count = min(FOLDS, len(pictures))
    return [sorted(order[part::count]) for part in range(count)]


def label_weights(pictures: Pictures) -> Float32[np.ndarray, " planes"]:
    """Return the weight of a pixel of each label, those of the background being 1."""
    planes = len(pictures.labels) + 1
    counts = np.bincount(pictures.slots.ravel(), minlength=256)[:planes]
    weights = (1 / np.maximum(counts, 1)) ** RARITY
    return (weights / weights[0]).astype(np.float32)


def adapter_loss(
    params: PyTree,
    images: Float[Array, "b s s 3"],
    chances: Float[Array, "b s s looks planes"],
    slots: Int[Array, "b s s"],
    *,
    weights: Float[Array, " planes"],
) -> Float[Array, ""]:
    """Return the weighted cross-entropy of labels, plus 1 less the soft IoU of a batch."""
    logs = jax.nn.log_softmax(adapt(params, images, chances.astype(images.dtype)))
    known = slots != IGNORE
    truth = (slots[..., None] == jnp.arange(len(weights))) & known[..., None]
    weight = truth @ weights
    entropy = -((truth * logs).sum(axis=-1) * weight).sum() / jnp.maximum(weight.sum(), 1)
    found = jnp.exp(logs) * known[..., None]
    hits = (found * truth).sum(axis=(0, 1, 2))
    union = (found + truth).sum(axis=(0, 1, 2)) - hits
    shown = truth.any(axis=(0, 1, 2))[1:]
    overlap = ((hits + 1) / (union + 1))[1:] * shown
    return entropy + 1 - overlap.sum() / jnp.maximum(shown.sum(), 1)


def make_base(
    segmenter: "Segmenter",
    pictures: Pictures,
    rows: Sequence[int],
    single: int | None,
    *,
    config: TuneConfig,
    seg_type: SegType,
) -> Context:
    """Return a context of some tokens of some pictures, and one of them beside those."""
    shown, nobody = pictures.take(rows), pictures.take([])
    run, learned = prepare_run(segmenter, shown, nobody, [], config=config, seg_type=seg_type)
    example, size = None, segmenter.config.image_size
    if single is not None:
        image = squeeze_image(pictures.images[single], size)
        slots = squeeze_labels(pictures.slots[single].astype(np.int32), size)
        slots = np.where(slots == IGNORE, 0, slots)
        example = (image * 255).round().astype(np.uint8), slots.astype(np.uint8)
    nothing = Adaptation(adapter_size(segmenter.config), (), example)
    return replace(run.context(learned), detail="large", adaptation=nothing)


def paint_pictures(
    segmenter: "Segmenter", context: Context, pictures: Pictures
) -> Float16[np.ndarray, "n looks planes s s"]:
    """Return what adapters are told of pictures, as many at a time as there are cores."""
    adaptation = context.adaptation
    assert adaptation  # make_base
    size = LARGE * segmenter.config.image_size

    def paint(image: UInt8[np.ndarray, "_ _ 3"]) -> Float16[np.ndarray, "looks planes s s"]:
        looks = segmenter.looks([image], context, adaptation, size)
        return stack_looks(looks, adaptation.size)[0].astype(np.float16)

    first = paint(pictures.images[0])  # alone, to compile once
    with open_pool() as pool:
        return np.stack([first, *pool.map(paint, pictures.images[1:])])


# Compiled once for all runs: those without a part of the pictures differ in numbers alone.
@partial(jax.jit, static_argnames=("size", "config"))
def _cut(
    image: UInt8[Array, "side side 3"],
    slots: UInt8[Array, "side side"],
    painted: Float16[Array, "looks planes s s"],
    key: Array,
    *,
    size: int,
    config: TuneConfig,
) -> View:
    """Cut a view out of a picture, its labels and what is painted on it."""
    key_window, key_color = jax.random.split(key)
    window = draw_window(key_window, scale=config.scale, turns=config.turns)
    pixels = cut_pixels(image.astype(jnp.float32) / 255, window, size=size)
    if config.jitter:
        pixels = change_colors(key_color, pixels, amount=config.jitter)
    looks, planes, *sides = painted.shape
    told = jnp.moveaxis(painted.reshape(-1, *sides).astype(jnp.float32), 0, -1)
    chances = cut_pixels(told, window, size=size).astype(painted.dtype)
    chances = chances.reshape(size, size, looks, planes)
    return normalize(pixels), chances, cut_labels(slots, window, size=size)


@partial(jax.jit, donate_argnums=(1, 2, 3))
def _update(
    weights: Float[Array, " planes"],
    learned: PyTree,
    moments: PyTree,
    average: PyTree,
    pool: View,
    index: Int[Array, "parts micro"],
    rate: Float[Array, ""],
    keep: Float[Array, ""],
) -> tuple[PyTree, PyTree, PyTree, Float[Array, ""]]:
    """Change an adapter by one batch, which is never divided."""
    views = jax.tree.map(lambda a: a[index.reshape(-1)], pool)
    loss, grads = jax.value_and_grad(adapter_loss)(learned, *views, weights=weights)
    updates, moments = ADAM.update(grads, moments)
    learned, average = move(learned, average, updates, rate=rate, keep=keep)
    return learned, moments, average, loss
