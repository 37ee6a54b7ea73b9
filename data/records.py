"""Prepared data sets: encoded pictures and masks as records on disk, and tables of what they show.

    <set>/<version>/info.json         name, kind, classes, number of pictures of each split
                    *.array_record*   the records, as tensorflow-datasets writes them
                    index/*.npy       the tables, in the order of the pictures' names

`data.builders` writes them. A record has the parts `images`, `masks` and `instances`. Nothing of a
set stays in memory: the tables are mapped, and a record is read when it is asked for.
"""

from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

PARTS = ("images", "masks", "instances")
TABLES = (
    *("names", "places", "class_starts", "class_ids", "class_areas"),
    *("instance_starts", "instance_ids", "instance_classes"),
)
PREPARED = ".prepared"
"""Where a set is prepared unless told otherwise: a folder in the folder of its source."""

_RECENT = 16  # records that are kept, as their parts are asked for one by one


class Records(Mapping[str, dict[str, Any]]):
    """The pictures of a prepared set by name, each with what `index.json` has in a folder."""

    def __init__(self, root: Path, splits: Mapping[str, int]) -> None:
        self.root, self.splits = root, dict(splits)
        self._read_row = lru_cache(maxsize=_RECENT)(self._read)

    def __reduce__(self) -> tuple[Any, ...]:
        """Send where the set lies to another process, and not its tables."""
        return Records, (self.root, self.splits)

    def __len__(self) -> int:
        return len(self._tables["names"])

    def __iter__(self) -> Iterator[str]:
        return (name.decode() for name in self._tables["names"])

    def __getitem__(self, picture: str) -> dict[str, Any]:
        row = self._row(picture)
        return {"frac": dict(self.areas(row)), "instances": dict(self.instances(row))}

    def names(self, split: str) -> list[str]:
        """Return the names of a split's pictures, sorted."""
        number = list(self.splits).index(split)
        own = np.flatnonzero(self._tables["places"][:, 0] == number)
        return [name.decode() for name in self._tables["names"][own]]

    def areas(self, row: int) -> Iterator[tuple[int, float]]:
        """Yield the classes of the picture in a row of the tables, and their shares of it."""
        return self._pairs(row, "class_starts", "class_ids", "class_areas")

    def instances(self, row: int) -> Iterator[tuple[int, int]]:
        """Yield the instances of the picture in a row of the tables, and their classes."""
        return self._pairs(row, "instance_starts", "instance_ids", "instance_classes")

    def read(self, picture: str, part: str) -> bytes:
        """Return a part of a record, encoded."""
        return self._read_row(self._row(picture))[part]

    def _pairs(self, row: int, starts: str, keys: str, values: str) -> Iterator[tuple[int, Any]]:
        own = slice(*self._tables[starts][row : row + 2].tolist())
        return zip(
            self._tables[keys][own].tolist(), self._tables[values][own].tolist(), strict=True
        )

    def _row(self, picture: str) -> int:
        names, key = self._tables["names"], picture.encode()
        row = int(np.searchsorted(names, key))
        if row == len(names) or names[row] != key:
            raise KeyError(picture)
        return row

    def _read(self, row: int) -> dict[str, bytes]:
        split, place = map(int, self._tables["places"][row])
        record = self._sources[split][place]
        return {part: record[part] for part in PARTS}

    @cached_property
    def _tables(self) -> dict[str, np.ndarray]:
        return {
            name: np.load(self.root / "index" / f"{name}.npy", mmap_mode="r") for name in TABLES
        }

    @cached_property
    def _sources(self) -> list[Any]:
        return open_sources(self.root, list(self.splits))


def open_sources(root: Path, splits: list[str]) -> list[Any]:
    """Return the records of each split by place; what is encoded stays so."""
    # Slow to import, and not needed for sets that are folders.
    import tensorflow_datasets as tfds

    skip = {part: tfds.decode.SkipDecoding() for part in PARTS}
    builder: Any = tfds.builder_from_directory(str(root))
    return [builder.as_data_source(split, decoders=skip) for split in splits]
