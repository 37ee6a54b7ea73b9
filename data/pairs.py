"""Which pictures make one in-context sample, and which of their ids are marked.

A sample is `views` pictures under one map of labels: other pictures with the same class, or
several views of one picture with the same classes, instances or regions marked. A step then
takes the first of them as examples and the rest as queries.
"""

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32, UInt8

from data.config import PairsConfig
from data.folder import IGNORE
from data.pictures import Source

SEMANTIC, INSTANCE = 0, 1


@dataclass(frozen=True)
class Sample:
    """Pictures of a source, and what each id of each picture's mask becomes."""

    pictures: Int32[np.ndarray, " views"]  # counted over all sources
    mask: int  # which of the two masks of `Decoded.ids`: 0 classes, 1 instances
    table: UInt8[np.ndarray, "views ids"]  # id -> label: 0 background, 1..slots, 255 ignored
    kind: int  # SEMANTIC or INSTANCE, what the type token says


@dataclass(frozen=True)
class Loaded:
    """A sample with its pixels: labels are 0 background, 1..slots, 255 ignored."""

    pictures: Int32[np.ndarray, " views"]
    images: UInt8[np.ndarray, "views size size 3"]
    labels: UInt8[np.ndarray, "views size size"]
    kind: int


class Sampler:
    """Draws samples from sources; a draw depends on its generator and progress alone."""

    def __init__(self, sources: Sequence[Source], config: PairsConfig) -> None:
        """Look once at what each picture shows.

        Raises:
            ValueError: if nothing is marked in any.
        """
        self.config, self.all = config, list(sources)
        self.starts = np.cumsum([0, *map(len, sources)]).tolist()
        numbered = zip(sources, self.starts, strict=False)
        self.sources = [_Classes(source, start, config) for source, start in numbered]
        self.sources = [s for s in self.sources if s.usable]
        if not self.sources:
            raise ValueError("nothing is marked in any picture")
        weights = [
            len(s.source) ** config.temperature * config.weights.get(s.source.name, 1.0)
            for s in self.sources
        ]
        self.weights = np.asarray(weights) / sum(weights)

    def draw(self, rng: np.random.Generator, *, progress: float) -> Sample:
        """Draw a sample; `progress` in 0..1 moves from the first mixture to the last."""
        source = self.sources[rng.choice(len(self.sources), p=self.weights)]
        first, last = self.config.two_views
        two_views = rng.random() < first + (last - first) * progress
        if two_views or not source.pairable or source.by_instance:
            return self._one_picture(source, rng)
        return self._one_class(source, rng)

    def find(self, picture: int) -> tuple[Source, int]:
        """Return the source of a picture, and its number there."""
        place = bisect_right(self.starts, picture) - 1
        return self.all[place], picture - self.starts[place]

    def load(self, sample: Sample, size: int) -> Loaded:
        """Decode a sample's pictures to squares, and look their labels up."""
        decoded = {}
        for picture in set(sample.pictures.tolist()):
            source, number = self.find(picture)
            decoded[picture] = source.read(number, size)
        own = [decoded[picture] for picture in sample.pictures.tolist()]
        labels = [
            table[one.ids[..., sample.mask]] for one, table in zip(own, sample.table, strict=True)
        ]
        images = np.stack([one.image for one in own])
        return Loaded(sample.pictures, images, np.stack(labels), sample.kind)

    def _one_class(self, source: "_Classes", rng: np.random.Generator) -> Sample:
        """Take pictures that share a class, and perhaps mark more classes of the first."""
        views = self.config.views
        chosen = source.pairable[rng.integers(len(source.pairable))]
        members = source.pictures[chosen]
        order = rng.permutation(len(members))[:views]
        pictures = [members[i] for i in np.resize(order, views)]
        classes = [chosen]
        if rng.random() < self.config.several_labels:
            beside = [c for c in source.shown(pictures[0], self.config.min_area) if c != chosen]
            count = min(len(beside), int(rng.integers(1, self.config.slots)))
            classes += [beside[i] for i in rng.permutation(len(beside))[:count]]
        slots = {c: slot for slot, c in enumerate(rng.permutation(classes).tolist(), start=1)}
        entries = [source.source.entry(p) for p in pictures]
        table = _tables([e.labels for e in entries], slots)
        return self._sample(source, pictures, mask=0, table=table, kind=SEMANTIC)

    def _one_picture(self, source: "_Classes", rng: np.random.Generator) -> Sample:
        """Take one picture for every view, and mark classes, instances or regions of it."""
        picture = int(source.filled[rng.integers(len(source.filled))])
        entry = source.source.entry(picture)
        by_instance = bool(entry.instances) and (
            not entry.labels or source.by_instance or rng.random() < self.config.instances
        )
        ids = list(entry.instances if by_instance else entry.labels)
        several = rng.random() < self.config.several_labels
        count = int(rng.integers(2, self.config.slots + 1)) if several else 1
        chosen = [ids[i] for i in rng.permutation(len(ids))[:count]]
        slots = {id_: slot for slot, id_ in enumerate(chosen, start=1)}
        table = _tables([{i: i for i in ids}] * self.config.views, slots)
        pictures = [picture] * self.config.views
        kind = INSTANCE if by_instance else SEMANTIC
        return self._sample(source, pictures, mask=int(by_instance), table=table, kind=kind)

    def _sample(
        self,
        source: "_Classes",
        pictures: Sequence[int],
        *,
        mask: int,
        table: UInt8[np.ndarray, "views ids"],
        kind: int,
    ) -> Sample:
        indices = np.asarray(pictures, np.int32) + np.int32(source.start)
        return Sample(indices, mask, table, kind)


class _Classes:
    """A source's pictures by class."""

    def __init__(self, source: Source, start: int, config: PairsConfig) -> None:
        self.source, self.start = source, start
        self.by_instance = source.name in config.by_instance
        self.pictures: dict[int, array[int]] = {}
        self.filled = array("i")
        for number in range(len(source)):
            entry = source.entry(number)
            if entry.labels or entry.instances:
                self.filled.append(number)
            for c, area in entry.areas.items():
                if area >= config.min_area:
                    self.pictures.setdefault(c, array("i")).append(number)
        # Ids of a `regions` set mean nothing in another picture.
        alone = source.kind == "regions"
        self.pairable = [] if alone else [c for c, p in self.pictures.items() if len(p) > 1]
        self.usable = bool(self.filled)

    def shown(self, picture: int, min_area: float) -> list[int]:
        """Return the classes that cover at least `min_area` of a picture."""
        return [c for c, area in self.source.entry(picture).areas.items() if area >= min_area]


def _tables(
    classes: Sequence[dict[int, int]], slots: dict[int, int]
) -> UInt8[np.ndarray, "views ids"]:
    """Map every id of masks to the slot of its class."""
    most = max((id_ for own in classes for id_ in own), default=0)
    tables = np.zeros((len(classes), max(256, most + 1)), np.uint8)
    for table, own in zip(tables, classes, strict=True):
        for id_, c in own.items():
            table[id_] = slots.get(c, 0)
    tables[:, IGNORE] = IGNORE
    return tables


def collate(samples: Sequence[Loaded]) -> dict[str, np.ndarray]:
    """Stack samples into a batch of arrays."""
    return {
        "pictures": np.stack([s.pictures for s in samples]),
        "images": np.stack([s.images for s in samples]),
        "labels": np.stack([s.labels for s in samples]),
        "kind": np.asarray([s.kind for s in samples], np.int32),
    }
