"""Which pictures make one in-context sample, and which of their ids are marked.

A sample is `views` pictures under one map of labels: other pictures with the same class, or
several views of one picture with the same classes, instances or regions marked. A step then
takes the first of them as examples and the rest as queries.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32, UInt8

from data.config import PairsConfig
from data.folder import IGNORE
from data.pack import Entry, Pack, Source

SEMANTIC, INSTANCE = 0, 1


@dataclass(frozen=True)
class Sample:
    """Indices into a pack, and what each id of each picture's mask becomes."""

    pictures: Int32[np.ndarray, " views"]
    mask: int  # which of the pack's two masks: 0 classes, 1 instances
    table: UInt8[np.ndarray, "views ids"]  # id -> label: 0 background, 1..slots, 255 ignored
    kind: int  # SEMANTIC or INSTANCE, what the type token says


class Sampler:
    """Draws samples from a pack; a draw depends on its generator and progress alone."""

    def __init__(self, pack: Pack, config: PairsConfig) -> None:
        self.config = config
        self.sources = [_Classes(source, config) for source in pack.sources]
        self.sources = [s for s in self.sources if s.usable]
        if not self.sources:
            raise ValueError("nothing is marked in any picture")
        weights = [
            len(s.source.entries) ** config.temperature * config.weights.get(s.source.name, 1.0)
            for s in self.sources
        ]
        self.weights = np.asarray(weights) / sum(weights)

    def draw(self, rng: np.random.Generator, *, progress: float) -> Sample:
        """Draw a sample; `progress` in 0..1 moves from the first mixture to the last."""
        source = self.sources[rng.choice(len(self.sources), p=self.weights)]
        first, last = self.config.two_views
        two_views = rng.random() < first + (last - first) * progress
        if two_views or not source.pairable:
            return self._one_picture(source, rng)
        return self._one_class(source, rng)

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
        entries = [source.source.entries[p] for p in pictures]
        table = np.stack([_table(e.labels, slots) for e in entries])
        return self._sample(source.source, pictures, mask=0, table=table, kind=SEMANTIC)

    def _one_picture(self, source: "_Classes", rng: np.random.Generator) -> Sample:
        """Take one picture for every view, and mark classes, instances or regions of it."""
        picture = int(source.filled[rng.integers(len(source.filled))])
        entry = source.source.entries[picture]
        by_instance = bool(entry.instances) and (
            not entry.labels or rng.random() < self.config.instances
        )
        ids = list(entry.instances if by_instance else entry.labels)
        several = rng.random() < self.config.several_labels
        count = int(rng.integers(2, self.config.slots + 1)) if several else 1
        chosen = [ids[i] for i in rng.permutation(len(ids))[:count]]
        slots = {id_: slot for slot, id_ in enumerate(chosen, start=1)}
        table = np.stack([_table({i: i for i in ids}, slots)] * self.config.views)
        pictures = [picture] * self.config.views
        kind = INSTANCE if by_instance else SEMANTIC
        return self._sample(source.source, pictures, mask=int(by_instance), table=table, kind=kind)

    def _sample(
        self,
        source: Source,
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

    def __init__(self, source: Source, config: PairsConfig) -> None:
        self.source = source
        self.pictures: dict[int, list[int]] = {}
        for number in range(len(source.entries)):
            for c in self.shown(number, config.min_area):
                self.pictures.setdefault(c, []).append(number)
        # Ids of a `regions` set mean nothing in another picture.
        alone = source.kind == "regions"
        self.pairable = [] if alone else [c for c, p in self.pictures.items() if len(p) > 1]
        self.filled = [n for n, e in enumerate(source.entries) if e.labels or e.instances]
        self.usable = bool(self.filled)

    def shown(self, picture: int, min_area: float) -> list[int]:
        """Return the classes that cover at least `min_area` of a picture."""
        return [c for c, area in self.source.entries[picture].areas.items() if area >= min_area]


def _table(classes: dict[int, int], slots: dict[int, int]) -> UInt8[np.ndarray, " ids"]:
    """Map every id of a mask to the slot of its class."""
    table = np.zeros(256, np.uint8)
    table[IGNORE] = IGNORE
    for id_, c in classes.items():
        table[id_] = slots.get(c, 0)
    return table


def collate(samples: Sequence[Sample]) -> dict[str, np.ndarray]:
    """Stack samples into a batch of arrays."""
    return {
        "pictures": np.stack([s.pictures for s in samples]),
        "mask": np.asarray([s.mask for s in samples], np.int32),
        "table": np.stack([s.table for s in samples]),
        "kind": np.asarray([s.kind for s in samples], np.int32),
    }


__all__ = ["Entry", "Sample", "Sampler", "collate"]
