"""Samples for prompts from a feature cache: windows of views, and target masks in them.

A window shows instances, connected parts of classes, or a whole class. A batch depends on the seed
and its step alone.
"""

from dataclasses import dataclass
from itertools import cycle, islice
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float16, Float32, UInt8
from scipy.ndimage import label

from data.feature_cache import FeatureCache
from data.folder import IGNORE
from data.views.plan import ViewKind
from seggpt.config import MASK_STRIDE as STRIDE

Rng = np.random.Generator
TRIES = 1000  # windows drawn, of which the first that shows a thing is kept
# Tokens along a side of the plane whose places the model knows, and the most pixels of it.
PLANE, PLANE_PX = 32, 448
MOST_PARTS = 60  # of a class, that are looked at
LEAST_FREE = 0.05  # share of a window, for someone to point at nothing there


class _Target(NamedTuple):
    mask: Bool[np.ndarray, "h w"]
    weight: float
    is_thing: bool = True


@dataclass(frozen=True, kw_only=True)
class PromptShape:
    """What the samples of a batch have in common."""

    side: int  # of a window, in tokens
    pictures: int
    clicks: int  # after the first prompt
    mask_rounds: int = 1  # rounds without a click
    proposed: bool = False  # whether a mask is there before the first click
    share: float  # of the batches


# Most of what is to be learned is in the first answer, and all rounds cost the same.
SHAPES = (
    PromptShape(side=16, pictures=20, clicks=0, mask_rounds=0, share=0.3),
    PromptShape(side=24, pictures=10, clicks=0, mask_rounds=0, share=0.35),
    PromptShape(side=16, pictures=8, clicks=3, share=0.1),
    PromptShape(side=24, pictures=4, clicks=3, share=0.1),
    PromptShape(side=24, pictures=3, clicks=8, mask_rounds=2, share=0.05),
    PromptShape(side=16, pictures=6, clicks=2, proposed=True, share=0.1),
)


@dataclass(frozen=True, kw_only=True)
class PromptSamplesConfig:
    """Which windows are shown, and what is asked for in them."""

    targets: int = 3  # of a window
    shapes: tuple[PromptShape, ...] = SHAPES
    pasted: float = 0.1  # share of windows from pasted groups
    drawn: float = 0.1  # from drawn families; photos have the rest
    by_pictures: float = 0.5  # a data set counts by its number of views to this power
    least_area: float = 0.006  # of a window
    most_area: float = 0.85
    by_area: float = 0.3  # a thing counts by its area to this power
    whole_class: float = 0.2  # share of windows that also ask for all of a class
    class_weight: float = 0.5  # of such a target, beside a single thing
    nothing: float = 0.3  # share of windows where all is marked that also ask where nothing is
    exhaustive: tuple[str, ...] = ("dsb2018_nuclei",)  # sets where all is marked, as in drawn ones
    flip: float = 0.5


class PromptBatch(NamedTuple):
    """Windows of one size, and what is asked for in each."""

    features: Float16[np.ndarray, "b n f"]
    images: Float32[np.ndarray, "b h w 3"]  # RGB in -1..1
    truth: Bool[np.ndarray, "b t h2 w2"]
    known: Bool[np.ndarray, "b h2 w2"]
    free: Bool[np.ndarray, "b h2 w2"]  # where nothing is
    weight: Float32[np.ndarray, "b t"]
    is_thing: Bool[np.ndarray, "b t"]  # False where nothing is asked for
    origin: Float32[np.ndarray, "b 2"]  # where all windows lie on the plane, in pixels (x, y)


class PromptSampler:
    """Draws batches from a cache."""

    def __init__(self, cache: FeatureCache, config: PromptSamplesConfig, *, seed: int) -> None:
        """Sort the views of the cache by data set.

        Raises:
            ValueError: if it cannot give samples of every shape.
        """
        if (side := max(shape.side for shape in config.shapes)) > cache.grid:
            raise ValueError(f"shapes: side {side} is more than the cache's {cache.grid} tokens")
        self.cache, self.config, self.seed = cache, config, seed
        found: dict[tuple[ViewKind, str], list[int]] = {}
        for view, name in enumerate(cache.names):
            source = name.source if name.kind == "photo" else ""
            found.setdefault((name.kind, source), []).append(view)
        self.sources = sorted(found)
        self.views = [found[key] for key in self.sources]
        shares: dict[ViewKind, float] = {"pasted": config.pasted, "drawn": config.drawn}
        shares["photo"] = 1 - config.pasted - config.drawn
        weights = np.array([len(views) ** config.by_pictures for views in self.views])
        for kind, share in shares.items():
            own = np.array([key[0] == kind for key in self.sources])
            weights[own] *= share / max(weights[own].sum(), 1e-9)
        self.weights = weights / weights.sum()
        self.shares = np.array([shape.share for shape in config.shapes])
        self.shares /= self.shares.sum()

    def shape(self, step: int) -> int:
        """Return which shape the batch of a step has."""
        rng = np.random.default_rng([self.seed, step])
        return int(rng.choice(len(self.shares), p=self.shares))

    def batch(self, step: int) -> PromptBatch:
        """Draw the batch of a step."""
        rng = np.random.default_rng([self.seed, step])
        shape = self.config.shapes[int(rng.choice(len(self.shares), p=self.shares))]
        rows = [self._window(shape, rng) for _ in range(shape.pictures)]
        patch = self.cache.patch
        room = patch * max(0, min(PLANE, PLANE_PX // patch) - shape.side)
        origin = rng.integers(0, room + 1, 2).astype(np.float32)
        origin = np.broadcast_to(origin, (shape.pictures, 2))
        stacked = [np.stack(parts) for parts in zip(*rows, strict=True)]
        return PromptBatch(*stacked, origin=origin)

    def _window(self, shape: PromptShape, rng: Rng) -> tuple[np.ndarray, ...]:
        """Draw a window and what is asked for in it, in the order of the fields of a batch."""
        cache, config = self.cache, self.config
        source, view, place = self._place(shape.side, rng)
        tokens = tuple(slice(at, at + shape.side) for at in place)
        pixels = tuple(slice(s.start * cache.patch, s.stop * cache.patch) for s in tokens)
        classes, instances = cache.classes[view][pixels], cache.instances[view][pixels]
        things, groups = self._targets(classes, instances)
        sizes = np.array([thing.sum() for thing in things]) ** config.by_area
        order = rng.choice(len(things), len(things), replace=False, p=sizes / sizes.sum())
        asked = [_Target(things[i], 1.0) for i in order]
        if groups and (shape.proposed or rng.random() < config.whole_class):
            group = groups[int(rng.integers(len(groups)))]
            asked.insert(0, _Target(group, config.class_weight))
        marked = (classes > 0) | (instances > 0)
        free = ~_shrink(marked)
        kind, name = self.sources[source]
        all_marked = kind == "drawn" or name in config.exhaustive
        if all_marked and free.mean() > LEAST_FREE and rng.random() < config.nothing:
            asked.insert(0, _Target(np.zeros_like(marked), 1.0, is_thing=False))
        # What is asked for twice gets two different prompts.
        asked = list(islice(cycle(asked), config.targets))
        truth = np.stack([_shrink(target.mask) for target in asked])
        known = _shrink(classes != IGNORE) | truth.any(axis=0)
        features = cache.features[view].reshape(cache.grid, cache.grid, -1)[tokens]
        image = cache.pixels[view][pixels].astype(np.float32) / 127.5 - 1
        if rng.random() < config.flip:
            features, image, known, free = (a[:, ::-1] for a in (features, image, known, free))
            truth = truth[:, :, ::-1]
        weights = np.array([target.weight for target in asked], np.float32)
        is_thing = np.array([target.is_thing for target in asked])
        features = features.reshape(shape.side**2, -1)
        return features, image, truth, known, free, weights, is_thing

    def _place(self, side: int, rng: Rng) -> tuple[int, int, tuple[int, int]]:
        """Draw where a window lies: its source, view, and first row and column in tokens.

        Raises:
            ValueError: if a thousand show nothing to ask for.
        """
        cache = self.cache
        for _ in range(TRIES):
            source = int(rng.choice(len(self.sources), p=self.weights))
            view = self.views[source][int(rng.integers(len(self.views[source])))]
            row, column = rng.integers(0, cache.grid - side + 1, 2).tolist()
            pixels = tuple(
                slice(at * cache.patch, (at + side) * cache.patch) for at in (row, column)
            )
            if self._targets(cache.classes[view][pixels], cache.instances[view][pixels])[0]:
                return source, view, (row, column)
        raise ValueError("hardly any window of the cache shows a thing to point at")

    def _targets(
        self, classes: UInt8[np.ndarray, "h w"], instances: UInt8[np.ndarray, "h w"]
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return single things, and whole classes of several things."""
        config = self.config
        least, most = config.least_area * classes.size, config.most_area * classes.size
        things = [instances == i for i in np.unique(instances) if i]
        groups = []
        for number in np.unique(classes):
            if number in (0, IGNORE):
                continue
            own = classes == number
            parts = np.empty(own.shape, np.int32)
            label(own & (instances == 0), output=parts)
            count = int(parts.max())
            things += [parts == 1 + i for i in range(min(count, MOST_PARTS))]
            if own.sum() < most and count + len(np.unique(instances[own])) > 2:
                groups.append(own)
        areas = [thing.sum() for thing in things]
        kept = [t for t, area in zip(things, areas, strict=True) if least <= area <= most]
        return kept, groups


def _shrink(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h2 w2"]:
    """Return a mask at stride 2: cells of which half or more is marked."""
    height, width = mask.shape
    cells = mask.reshape(height // STRIDE, STRIDE, width // STRIDE, STRIDE)
    return cells.mean(axis=(1, 3)) >= 0.5


HELD_OUT = PromptSamplesConfig(
    shapes=(PromptShape(side=24, pictures=4, clicks=4, mask_rounds=0, share=1.0),),
    pasted=0.0,
    drawn=0.0,
    whole_class=0.0,
    nothing=0.0,
)
