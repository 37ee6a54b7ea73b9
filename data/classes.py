"""Which pictures show which classes, of all data sets together: samples for learning to tell them.

Class ids mean nothing across data sets, so every data set has a range of its own, whose first is
its background.
"""

from collections.abc import Sequence

import numpy as np

from data.config import PairsConfig
from data.folder import IGNORE
from data.pack import Pack, Source
from data.pairs import SEMANTIC, Sample

MOST_CLASSES = 64  # of a data set; where ids are more, all that is marked is one class


class ClassSampler:
    """Draws single pictures with all their classes; a draw depends on its generator alone.

    Attributes:
        ranges: The first class of each data set, and the one behind its last.
        shares: How much of its data set's pictures each class covers.
    """

    def __init__(self, pack: Pack, config: PairsConfig) -> None:
        self.sources = [s for s in pack.sources if any(e.labels for e in s.entries)]
        if not self.sources:
            raise ValueError("nothing is marked in any picture")
        known = [_classes(source) for source in self.sources]
        ends = np.cumsum([len(classes) + 1 for classes in known])
        if ends[-1] > IGNORE:
            raise ValueError(f"{ends[-1]} classes in all; the most are {IGNORE}: use fewer sets")
        starts = ends - [len(classes) + 1 for classes in known]
        self.ranges = list(zip(starts.tolist(), ends.tolist(), strict=True))
        self.places = [
            {c: start + 1 + n for n, c in enumerate(classes)}
            for start, classes in zip(starts.tolist(), known, strict=True)
        ]
        self.shares = np.concatenate(
            [_shares(s, classes) for s, classes in zip(self.sources, known, strict=True)]
        )
        self.showing = [
            _showing(source, classes) for source, classes in zip(self.sources, known, strict=True)
        ]
        weights = [
            len(s.entries) ** config.temperature * config.weights.get(s.name, 1.0)
            for s in self.sources
        ]
        self.weights = np.asarray(weights) / sum(weights)

    def draw(self, rng: np.random.Generator, *, progress: float) -> Sample:
        """Draw a data set, one of its classes, and a picture that shows it."""
        del progress
        number = int(rng.choice(len(self.sources), p=self.weights))
        showing = self.showing[number]
        pictures = showing[rng.integers(len(showing))]
        picture = int(pictures[rng.integers(len(pictures))])
        return self.sample_of(self.sources[number], number, picture)

    def sample_of(self, source: Source, number: int, picture: int) -> Sample:
        """Return a picture of any split of a data set with all classes; `kind` is the number."""
        places = self.places[number]
        start, end = self.ranges[number]
        table = np.full(256, start, np.uint8)
        table[IGNORE] = IGNORE
        for id_, c in source.entries[picture].labels.items():
            table[id_] = start + 1 if end == start + 2 else places.get(c, start)
        where = np.asarray([source.start + picture], np.int32)
        return Sample(where, SEMANTIC, table[None], number)


def _classes(source: Source) -> list[int]:
    classes = sorted({c for entry in source.entries for c in entry.labels.values()})
    return classes if len(classes) <= MOST_CLASSES else classes[:1]


def _shares(source: Source, classes: Sequence[int]) -> np.ndarray:
    totals = np.zeros(len(classes) + 1)
    for entry in source.entries:
        for c, area in entry.areas.items():
            totals[1 if len(classes) == 1 else 1 + classes.index(c)] += area
    totals[0] = max(len(source.entries) - totals.sum(), 0)
    return totals / len(source.entries)


def _showing(source: Source, classes: Sequence[int]) -> list[list[int]]:
    """Return the pictures that show each class."""
    rows: list[list[int]] = [[] for _ in classes]
    for number, entry in enumerate(source.entries):
        for c in set(entry.labels.values()):
            rows[0 if len(classes) == 1 else classes.index(c)].append(number)
    return [found for found in rows if found]
