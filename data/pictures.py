"""The pictures of a data set's split, read one by one: what each shows, and its pixels when asked.

Nothing is kept but names; what is decoded for a sample is gone with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Integer, UInt8
from PIL import Image

from data.folder import Folder, Kind


@dataclass(frozen=True)
class Entry:
    """What a picture shows: the class of each id of its label mask and of its instance mask."""

    labels: dict[int, int]
    instances: dict[int, int]
    areas: dict[int, float]  # of each class, as a share of the picture


class Decoded(NamedTuple):
    """A picture squeezed to a square, and two masks of it.

    `ids` holds class ids (or region ids, or a picture's own ids, as `Entry.labels` says), and
    instance ids. 0 is background, 255 ignored.
    """

    image: UInt8[np.ndarray, "size size 3"]
    ids: Integer[np.ndarray, "size size 2"]


@runtime_checkable  # tests check annotations
class Source(Protocol):
    """The pictures of one data set, by number."""

    @property
    def name(self) -> str:
        """The data set's name."""
        ...

    @property
    def kind(self) -> Kind:
        """What its masks mean."""
        ...

    def __len__(self) -> int: ...

    def entry(self, number: int) -> Entry:
        """Return what a picture shows."""
        ...

    def read(self, number: int, size: int) -> Decoded:
        """Decode a picture and its masks."""
        ...


@dataclass(frozen=True, eq=False)
class FolderSource:
    """A split of a data set on disk."""

    folder: Folder
    names: Sequence[str]

    @property
    def name(self) -> str:
        """The data set's name."""
        return self.folder.name

    @property
    def kind(self) -> Kind:
        """What its masks mean."""
        return self.folder.kind

    def __len__(self) -> int:
        return len(self.names)

    def entry(self, number: int) -> Entry:
        """Return what a picture shows."""
        name = self.names[number]
        areas = self.folder.areas(name)
        return Entry({c: c for c in areas}, self.folder.instances(name), areas)

    def read(self, number: int, size: int) -> Decoded:
        """Decode a picture and its masks."""
        name = self.names[number]
        labels = squeeze(self.folder.labels(name), size, smooth=False)
        instances = np.zeros_like(labels)
        if self.folder.has_instances:
            instances = squeeze(self.folder.instance_ids(name), size, smooth=False)
        image = squeeze(self.folder.image(name), size, smooth=True)
        return Decoded(image, np.stack([labels, instances], axis=-1))


def squeeze(array: Integer[np.ndarray, "h w *c"], size: int, *, smooth: bool) -> np.ndarray:
    """Resize to a square, whatever the aspect: antialiased, or nearest for ids."""
    method = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(array).resize((size, size), method))


def open_sources(folders: Sequence[Folder], *, split: str = "train") -> list[FolderSource]:
    """Return a split of every data set that is not a sprite set.

    Raises:
        ValueError: if a data set lacks the split, or none has pictures.
    """
    sources = [
        FolderSource(folder, folder.pictures(split))
        for folder in folders
        if folder.kind != "sprites"
    ]
    if not any(map(len, sources)):
        raise ValueError(f"no pictures of split {split!r} in {[folder.name for folder in folders]}")
    return sources
