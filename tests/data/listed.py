"""Pictures that are nothing but lists of what they show."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data.folder import Kind
from data.pictures import Decoded, Entry


@dataclass(frozen=True, eq=False)
class Listed:
    name: str
    kind: Kind
    entries: Sequence[Entry]

    def __len__(self) -> int:
        return len(self.entries)

    def entry(self, number: int) -> Entry:
        return self.entries[number]

    def read(self, number: int, size: int) -> Decoded:
        """Show the first ids of each mask, and the picture's number in red."""
        entry = self.entries[number]
        image = np.full((size, size, 3), (number % 256, 0, 0), np.uint8)
        ids = np.zeros((size**2, 2), np.uint16)
        for mask, own in enumerate((entry.labels, entry.instances)):
            ids[: len(own), mask] = list(own)[: size**2]
        return Decoded(image, ids.reshape(size, size, 2))
