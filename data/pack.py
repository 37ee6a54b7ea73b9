"""Pictures decoded once to one size, and the tables that say what is in them."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from data.folder import Folder, Kind

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """What a picture shows: the class of each id of its label mask and of its instance mask."""

    labels: dict[int, int]
    instances: dict[int, int]
    areas: dict[int, float]  # of each class, as a share of the picture


@dataclass(frozen=True)
class Source:
    """A data set inside a pack: its pictures are `start` to `start + len(entries)`."""

    name: str
    kind: Kind
    start: int
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Pack:
    """All pictures of several data sets, squeezed to squares, in memory.

    `ids` holds two masks: class ids (or region ids, or a picture's own ids, as `Entry.labels`
    says), and instance ids. 0 is background, 255 ignored.
    """

    images: UInt8[np.ndarray, "n size size 3"]
    ids: UInt8[np.ndarray, "n size size 2"]
    sources: tuple[Source, ...]


def squeeze(array: UInt8[np.ndarray, "h w *c"], size: int, *, smooth: bool) -> np.ndarray:
    """Resize to a square, whatever the aspect: antialiased, or nearest for ids."""
    method = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(array).resize((size, size), method))


def pack_folders(folders: Sequence[Folder], *, size: int, split: str | None = "train") -> Pack:
    """Decode a split of every data set that is not a sprite set.

    Raises:
        ValueError: if a data set lacks the split, or none has pictures.
    """
    images, ids, sources = [], [], []
    start = 0
    for folder in folders:
        if folder.kind == "sprites":
            continue
        names = folder.pictures(split)
        with ThreadPoolExecutor() as pool:
            decoded = list(pool.map(lambda name, f=folder: _decode(f, name, size), names))
        images += [image for image, _ in decoded]
        ids += [mask for _, mask in decoded]
        entries = tuple(_entry(folder, name) for name in names)
        sources.append(Source(folder.name, folder.kind, start, entries))
        start += len(names)
        logger.info("%s: %d pictures", folder.name, len(names))
    if not images:
        raise ValueError(f"no pictures of split {split!r} in {[folder.name for folder in folders]}")
    return Pack(np.stack(images), np.stack(ids), tuple(sources))


def join(packs: Sequence[Pack]) -> Pack:
    """Put packs of one size behind each other."""
    sources, start = [], 0
    for pack in packs:
        sources += [replace(source, start=start + source.start) for source in pack.sources]
        start += len(pack.images)
    images = np.concatenate([pack.images for pack in packs])
    return Pack(images, np.concatenate([pack.ids for pack in packs]), tuple(sources))


def _decode(folder: Folder, name: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    labels = squeeze(folder.labels(name), size, smooth=False)
    instances = np.zeros_like(labels)
    if folder.has_instances:
        instances = squeeze(folder.instance_ids(name), size, smooth=False)
    return squeeze(folder.image(name), size, smooth=True), np.stack([labels, instances], axis=-1)


def _entry(folder: Folder, name: str) -> Entry:
    areas = folder.areas(name)
    return Entry({c: c for c in areas}, folder.instances(name), areas)
