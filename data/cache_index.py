"""What the views of a feature cache show: by data set, class and picture."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from data.feature_cache import FeatureCache
from data.folder import IGNORE
from data.views.plan import ViewKind

STEP = 4  # masks are looked at in every fourth row and column


@dataclass(frozen=True, kw_only=True)
class IndexConfig:
    """Which classes are asked for, and how much each data set and group counts."""

    pasted: float = 0.16  # share of samples of several pictures from pasted groups
    drawn: float = 0.16  # from drawn families; photos have the rest
    least_area: float = 0.006  # of a picture, for a class to be asked for in it
    least_drawn: float = 0.002  # of a drawn one, whose lines and spots are small
    least_pictures: int = 4  # with a class, for it to be asked for
    by_pictures: float = 0.5  # a data set counts by its number of pictures to this power
    by_classes: float = 0.35  # times its number of classes to this one


@dataclass(frozen=True)
class ClassSource:
    """The views of a data set or group by class and picture."""

    kind: ViewKind
    views: dict[int, dict[str, list[int]]]
    pictures: dict[int, list[str]]

    @property
    def classes(self) -> list[int]:
        """Classes that enough pictures show."""
        return list(self.views)


class CacheIndex:
    """Looks once at the class masks of a cache."""

    def __init__(self, cache: FeatureCache, config: IndexConfig) -> None:
        self.cache = cache
        self.sources = self._read(config)
        self.weights = _weigh(self.sources, config)
        views: dict[object, list[int]] = defaultdict(list)
        for view, name in enumerate(cache.names):
            views[name].append(view)
        self.twice: Sequence[list[int]] = [own for own in views.values() if len(own) > 1]

    @property
    def most_pictures(self) -> int:
        """Pictures of the class that has most of them."""
        return max((len(p) for s in self.sources for p in s.views.values()), default=0)

    def ids(self, view: int, *, least: float, by_instance: bool = False) -> list[int]:
        """Return the classes or instances that cover at least a share of a view."""
        masks = self.cache.instances if by_instance else self.cache.classes
        return _ids(masks[view], least)

    def has_instances(self, view: int) -> bool:
        """Whether instances are marked in a view."""
        return bool(self.cache.instances[view].any())

    def _read(self, config: IndexConfig) -> list[ClassSource]:
        found: dict[tuple[ViewKind, str], dict[int, dict[str, list[int]]]] = {}
        for view, name in enumerate(self.cache.names):
            least = config.least_drawn if name.kind == "drawn" else config.least_area
            classes = found.setdefault((name.kind, name.source), {})
            for c in _ids(self.cache.classes[view], least):
                classes.setdefault(c, {}).setdefault(name.picture, []).append(view)
        sources = []
        for (kind, _), classes in sorted(found.items()):
            kept = {c: p for c, p in sorted(classes.items()) if len(p) >= config.least_pictures}
            if kept:
                sources.append(ClassSource(kind, kept, {c: list(p) for c, p in kept.items()}))
        return sources


def _ids(mask: UInt8[np.ndarray, "h w"], least: float) -> list[int]:
    """Return the ids that are there and cover at least a share of a mask."""
    seen = mask[::STEP, ::STEP]
    counts = np.bincount(seen.reshape(-1), minlength=IGNORE)[1:IGNORE]
    return (1 + np.flatnonzero(counts >= max(1, least * seen.size))).tolist()


def _weigh(sources: Sequence[ClassSource], config: IndexConfig) -> np.ndarray:
    """Weigh sources by their pictures and classes, kinds by their shares."""
    shares: dict[ViewKind, float] = {
        "pasted": config.pasted,
        "drawn": config.drawn,
        "photo": 1 - config.pasted - config.drawn,
    }
    weights = np.zeros(len(sources))
    for number, source in enumerate(sources):
        pictures = {name for names in source.pictures.values() for name in names}
        weights[number] = len(pictures) ** config.by_pictures
        weights[number] *= len(source.views) ** config.by_classes
    for kind, share in shares.items():
        own = np.array([source.kind == kind for source in sources], bool)
        weights[own] *= share / max(weights[own].sum(), 1e-9)
    return weights / max(weights.sum(), 1e-9)
