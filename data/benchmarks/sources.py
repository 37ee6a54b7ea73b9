"""Where a benchmark's pictures come from: a download as it is, or a prepared set."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from data.builders.contents import MOST_PIXELS, Contents, Item
from data.folder import IGNORE, Folder, Ids, open_folder
from incontext.files.images import load_image


@runtime_checkable  # tests check annotations
class Pictures(Protocol):
    """Pictures with a class a pixel, as `Folder` reads them."""

    @property
    def classes(self) -> Mapping[int, str]:
        """Class names by id."""
        ...

    def pictures(self, split: str | None = None) -> list[str]:
        """Return the names of a split's pictures, or of all, sorted."""
        ...

    def areas(self, picture: str) -> dict[int, float]:
        """Return the share of a picture that each of its classes covers."""
        ...

    def image(self, picture: str) -> UInt8[np.ndarray, "h w 3"]:
        """Read a picture as RGB."""
        ...

    def labels(self, picture: str) -> Ids:
        """Read a picture's class mask."""
        ...


@dataclass(frozen=True, eq=False)
class Download:
    """A set as it was downloaded."""

    contents: Contents

    @property
    def classes(self) -> Mapping[int, str]:
        """Class names by id."""
        return self.contents.classes

    def pictures(self, split: str | None = None) -> list[str]:
        """Return the names of a split's pictures, or of all, sorted."""
        splits = self.contents.splits
        return sorted(item.name for own in splits if split in (None, own) for item in splits[own])

    def areas(self, picture: str) -> dict[int, float]:
        """Return the share of a picture that each of its classes covers."""
        labels = self.labels(picture)
        ids, counts = np.unique(labels, return_counts=True)
        shares = zip(ids.tolist(), (counts / labels.size).tolist(), strict=True)
        return {own: share for own, share in shares if own not in (0, IGNORE)}

    def image(self, picture: str) -> UInt8[np.ndarray, "h w 3"]:
        """Read a picture as RGB."""
        image = self._items[picture].image
        return load_image(image if isinstance(image, Path) else image(), max_pixels=MOST_PIXELS)

    def labels(self, picture: str) -> Ids:
        """Read a picture's class mask."""
        return self._items[picture].read().labels.astype(np.uint16)

    @cached_property
    def _items(self) -> dict[str, Item]:
        return {item.name: item for items in self.contents.splits.values() for item in items}


def find_prepared(path: Path) -> dict[str, Folder]:
    """Return what `data.prepare` wrote into a folder, or into one in it, by name."""
    found = {}
    for depth in range(4):  # .prepared/NAME/VERSION
        for file in sorted(path.glob("*/" * depth + "info.json")):
            try:
                info = json.loads(file.read_text())
            except ValueError:  # another program's
                continue
            if isinstance(info, dict) and info.get("is_prepared"):
                found[info["name"]] = open_folder(file.parent)
    return found
