"""In-context samples from a feature cache: examples with their colours, and queries.

A sample asks for a class of some examples in other pictures, perhaps with more classes of theirs,
or for the things of one picture in other views of it. Every label gets a random colour. A batch
depends on the seed and its step alone, so that a run that was stopped goes on as if it had not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Float16, Float32, Int32

from data.cache_index import CacheIndex, IndexConfig
from data.feature_cache import FeatureCache
from data.folder import IGNORE
from data.views.photos import pick

Rng = np.random.Generator
Place = tuple[int, int]  # the first row and column of a window, in tokens
BACKGROUND = 0  # its label
LOOK = 4  # of a window, every fourth row and column tells whether it shows enough


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What the arrays of a batch have in common."""

    examples: int
    side: int  # of a window, in tokens
    share: float  # of the batches


SHAPES = (
    Shape(examples=1, side=16, share=0.5),
    Shape(examples=2, side=16, share=0.2),
    Shape(examples=4, side=16, share=0.15),
    Shape(examples=1, side=24, share=0.15),
)


@dataclass(frozen=True, kw_only=True)
class SamplesConfig(IndexConfig):
    """Which views make a sample, what is asked for in them, and how it counts."""

    groups: int = 4  # samples of a batch; half as many with windows larger than the smallest
    queries: int = 3
    shapes: tuple[Shape, ...] = SHAPES
    same_class: float = 0.7  # share of samples of several pictures; the others have one alone
    multi_label: float = 0.5  # share of those that ask for more classes of the examples
    more_labels: int = 3  # at most, beside the first
    things: int = 3  # of one picture, at most
    least_thing: float = 0.004  # of a picture's area, for a thing of it to be asked for
    flip: float = 0.5
    tries: int = 4  # windows drawn, of which the first that shows enough is kept
    least_shown: float = 0.004  # share of a window that must be asked for to be enough
    showing: float = 0.85  # share of queries whose windows are chosen so
    balanced: float = 0.35  # share of the loss that labels have alike; pixels have the rest
    floor: float = 0.01  # labels with less of a query's pixels count as if they had this share
    distance: float = 0.55  # between two colours, in the channel where they differ most
    black: float = 0.6  # share of samples with a black background
    white: float = 0.25  # share of samples whose first label is white

    @property
    def labels(self) -> int:
        """The most labels that a sample asks for."""
        return max(1 + self.more_labels, self.things)

    def __post_init__(self) -> None:
        """Check that there are samples to draw.

        Raises:
            ValueError: naming the field.
        """
        if not self.shapes or self.groups < 1 or self.queries < 1:
            raise ValueError("shapes must not be empty, groups and queries must be 1 or more")


class SampleBatch(NamedTuple):
    """Samples of one shape; images and colours are RGB in -1..1."""

    example_features: Float16[np.ndarray, "b e n f"]
    example_images: Float32[np.ndarray, "b e h w 3"]
    example_class_ids: Int32[np.ndarray, "b e h w"]  # rows of `colours`; 255 ignored
    colours: Float32[np.ndarray, "b k 3"]  # of the background, then of each label; 0 beyond those
    query_features: Float16[np.ndarray, "b q n f"]
    query_images: Float32[np.ndarray, "b q h w 3"]
    query_class_ids: Int32[np.ndarray, "b q h w"]
    query_weights: Float32[np.ndarray, "b q h w"]  # of the loss: 1 on average, 0 where ignored


@dataclass(frozen=True)
class _Choice:
    """Views of a sample, and what is asked for in them."""

    shown: Sequence[int]
    asked: Sequence[int]
    ids: Sequence[int]  # of classes or instances; the first has label 1
    one_picture: bool
    by_instance: bool

    @property
    def class_id_of(self) -> Int32[np.ndarray, " ids"]:
        """The label of each id of a mask."""
        table = np.zeros(256, np.int32)
        table[list(self.ids)] = np.arange(1, len(self.ids) + 1)
        return table


class _Spot(NamedTuple):
    """Where a window lies."""

    view: int
    place: Place
    flip: bool


@dataclass(frozen=True)
class _Plan:
    """All of a sample that is drawn: what remains is to read it."""

    choice: _Choice
    colours: Float32[np.ndarray, "k 3"]
    spots: Sequence[_Spot]  # of the examples, then of the queries


class Sampler:
    """Draws batches from a cache."""

    def __init__(self, cache: FeatureCache, config: SamplesConfig, *, seed: int) -> None:
        """Look through the cache.

        Raises:
            ValueError: if it cannot give samples of every shape.
        """
        self.cache, self.config, self.seed = cache, config, seed
        self.index = CacheIndex(cache, config)
        self.smallest = min(shape.side for shape in config.shapes)
        shares = np.array([shape.share for shape in config.shapes])
        self.shares = shares / shares.sum()
        if (side := max(shape.side for shape in config.shapes)) > cache.grid:
            raise ValueError(f"shapes: side {side} is more than the cache's {cache.grid} tokens")
        examples = max(shape.examples for shape in config.shapes)
        if not self.index.twice and examples >= self.index.most_pictures:
            raise ValueError(f"shapes: no class has more than {examples} pictures in the cache")

    def shape(self, step: int) -> Shape:
        """Return the shape of the batch of a step."""
        return self._begin(step)[0]

    def rows(self, shape: Shape) -> int:
        """Return how many samples a batch of a shape has."""
        larger = shape.side > self.smallest
        return max(1, self.config.groups // 2) if larger else self.config.groups

    def batch(self, step: int, rows: Sequence[int] | None = None) -> SampleBatch:
        """Draw the batch of a step, or some samples of it: of the others no features are read."""
        shape, plans = self._plans(step)
        chosen = plans if rows is None else [plans[row] for row in rows]
        samples = [self._read(plan, shape.side) for plan in chosen]
        return SampleBatch(*(np.stack(parts) for parts in zip(*samples, strict=True)))

    def named(self, step: int, rows: Sequence[int]) -> list[str]:
        """Return source/picture of every view of some samples of a step, examples first."""
        _, plans = self._plans(step)
        names = [f"{name.source}/{name.picture}" for name in self.cache.names]
        return [", ".join(names[spot.view] for spot in plans[row].spots) for row in rows]

    def _begin(self, step: int) -> tuple[Shape, Rng]:
        rng = np.random.default_rng([self.seed, step])
        return self.config.shapes[int(rng.choice(len(self.shares), p=self.shares))], rng

    def _plans(self, step: int) -> tuple[Shape, list[_Plan]]:
        shape, rng = self._begin(step)
        return shape, [self._plan(shape, rng) for _ in range(self.rows(shape))]

    def _plan(self, shape: Shape, rng: Rng) -> _Plan:
        """Draw all of a sample that is drawn."""
        config = self.config
        choice = self._choose(shape.examples, rng)
        colours = draw_colours(len(choice.ids), rng, config=config)
        # Two views of one picture are told apart by their sides if their examples agree on them.
        flip = rng.random() < config.flip
        spots = []
        for view in choice.shown:
            flip = flip if choice.one_picture else rng.random() < config.flip
            place = self._place(view, choice, shape.side, rng, showing=True)
            spots.append(_Spot(view, place, flip))
        for view in choice.asked:
            flip, showing = rng.random() < config.flip, rng.random() < config.showing
            place = self._place(view, choice, shape.side, rng, showing=showing)
            spots.append(_Spot(view, place, flip))
        return _Plan(choice, colours, spots)

    def _read(self, plan: _Plan, side: int) -> tuple[np.ndarray, ...]:
        """Read a sample, in the order of the fields of a batch."""
        config, count = self.config, len(plan.choice.shown)
        windows = [self._window(spot, plan.choice, side) for spot in plan.spots]
        shown, asked = (
            [np.stack(part) for part in zip(*some, strict=True)]
            for some in (windows[:count], windows[count:])
        )
        colours = np.pad(plan.colours, ((0, config.labels + 1 - len(plan.colours)), (0, 0)))
        weigh = partial(loss_weights, balanced=config.balanced, floor=config.floor)
        weights = [weigh(class_ids) for class_ids in asked[-1]]
        return *shown, colours, *asked, np.stack(weights)

    def _choose(self, examples: int, rng: Rng) -> _Choice:
        """Choose views until some fit.

        Raises:
            ValueError: if a thousand do not.
        """
        for _ in range(1000):
            several = not self.index.twice or rng.random() < self.config.same_class
            choose = self._choose_class if several else self._choose_picture
            if (choice := choose(examples, rng)) is not None:
                return choice
        raise ValueError(f"hardly any view of the cache fits a sample with {examples} examples")

    def _choose_class(self, examples: int, rng: Rng) -> _Choice | None:
        """Choose different pictures that show one class."""
        index, config = self.index, self.config
        if not index.sources:
            return None
        source = index.sources[int(rng.choice(len(index.sources), p=index.weights))]
        wanted = pick(source.classes, rng)
        views = source.views[wanted]
        if len(views) <= examples:
            return None
        names = [source.pictures[wanted][i] for i in rng.permutation(len(views))]
        rest = names[examples : examples + config.queries]
        rest += [pick(names[examples:], rng) for _ in range(config.queries - len(rest))]
        shown = [pick(views[name], rng) for name in names[:examples]]
        asked = [pick(views[name], rng) for name in rest]
        ids = [wanted]
        if rng.random() < config.multi_label:
            ids += self._beside(shown, wanted, rng)
        return _Choice(shown, asked, ids, one_picture=False, by_instance=False)

    def _beside(self, shown: Sequence[int], wanted: int, rng: Rng) -> list[int]:
        """Choose more classes of the examples."""
        found = {c for view in shown for c in self.index.ids(view, least=0.0)} - {wanted}
        count = int(rng.integers(self.config.more_labels + 1))
        return rng.permutation(sorted(found))[:count].astype(int).tolist()

    def _choose_picture(self, examples: int, rng: Rng) -> _Choice | None:
        """Choose views of one picture, and things in the first of them."""
        views = pick(self.index.twice, rng)
        first = pick(views, rng)
        other = pick([view for view in views if view != first], rng)
        by_instance = bool(self.index.has_instances(first))
        ids = self.index.ids(first, least=self.config.least_thing, by_instance=by_instance)
        if not ids:
            return None
        count = int(rng.integers(1, self.config.things + 1))
        ids = rng.permutation(ids)[:count].tolist()
        shown = [first] + [pick(views, rng) for _ in range(examples - 1)]
        asked = [pick(views, rng) if q % 2 else other for q in range(self.config.queries)]
        return _Choice(shown, asked, ids, one_picture=True, by_instance=by_instance)

    def _window(self, spot: _Spot, choice: _Choice, side: int) -> tuple[np.ndarray, ...]:
        """Crop tokens, their pixels and labels."""
        cache, (view, place, flip) = self.cache, spot
        patch = cache.patch
        masks = cache.instances if choice.by_instance else cache.classes
        class_ids = choice.class_id_of[_cut(masks[view], place, side, patch)]
        class_ids[_cut(cache.classes[view], place, side, patch) == IGNORE] = IGNORE
        pixels = _cut(cache.pixels[view], place, side, patch)
        grid = cache.features[view].reshape(cache.grid, cache.grid, -1)
        tokens = _cut(grid, place, side, 1)
        if flip:
            tokens, pixels, class_ids = (a[:, ::-1] for a in (tokens, pixels, class_ids))
        image = pixels.astype(np.float32) / 127.5 - 1
        return tokens.reshape(side**2, -1), image, class_ids

    def _place(self, view: int, choice: _Choice, side: int, rng: Rng, *, showing: bool) -> Place:
        """Draw where a window lies; `showing` if something asked for is to be in it.

        If no try shows enough, something marked is in its middle.
        """
        masks = self.cache.instances if choice.by_instance else self.cache.classes
        marked = (choice.class_id_of > 0)[masks[view]]
        last, patch = self.cache.grid - side, self.cache.patch
        place = (0, 0)
        for _ in range(self.config.tries if showing else 1):
            place = (int(rng.integers(last + 1)), int(rng.integers(last + 1)))
            shown = _cut(marked, place, side, patch)[::LOOK, ::LOOK].mean()
            if not showing or shown > self.config.least_shown:
                return place
        pixels = np.argwhere(marked[::LOOK, ::LOOK])
        if not len(pixels):
            return place
        middle = LOOK * pixels[rng.integers(len(pixels))] // patch
        row, column = np.clip(middle - side // 2, 0, last).tolist()
        return row, column


def _cut(array: np.ndarray, place: Place, side: int, scale: int) -> np.ndarray:
    """Crop a window, given in tokens, of an array with so many cells along a token."""
    rows, columns = (slice(at * scale, (at + side) * scale) for at in place)
    return array[rows, columns]


def draw_colours(
    count: int, rng: Rng, *, config: SamplesConfig
) -> Float32[np.ndarray, "{count}+1 3"]:
    """Draw a colour for the background and each of `count` labels, no two alike."""
    apart = 10 * np.eye(count + 1)
    while True:
        colours = rng.uniform(-1, 1, (count + 1, 3)).astype(np.float32)
        if rng.random() < config.black:
            colours[BACKGROUND] = -1
        if rng.random() < config.white:
            colours[1] = 1
        between = np.abs(colours[:, None] - colours).max(axis=-1)
        if (between + apart).min() > config.distance:
            return colours


def loss_weights(
    class_ids: Int32[np.ndarray, "h w"],
    *,
    balanced: float,
    floor: float,
) -> Float32[np.ndarray, "h w"]:
    """Return how much each pixel counts: a share for each label alike, the rest for each pixel.

    Labels that have less than `floor` of the pixels that count are weighed as if they had so much.
    """
    valid = class_ids != IGNORE
    counts = np.bincount(class_ids[valid], minlength=IGNORE + 1)
    each = 1 / np.maximum(counts, max(1.0, floor * valid.sum()))
    even = np.where(valid, each[class_ids], 0)
    even /= max(even.mean(), 1e-9)
    return (balanced * even + (1 - balanced) * valid).astype(np.float32)


HELD_OUT = SamplesConfig(
    groups=1,
    shapes=(Shape(examples=1, side=24, share=1.0),),
    pasted=0.0,
    drawn=0.0,
    same_class=1.0,
    multi_label=0.0,
    black=1.0,
    white=1.0,
)
