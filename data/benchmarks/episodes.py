"""Fixed episodes over any data set: example pictures of a class, and a query to find it in.

The draw follows HSNet, whose code later few-shot papers share: the class is uniform over the
classes, the query uniform over the class's pictures, and the examples are other pictures of it.
Regions have no meaning outside their picture, so there a picture and a flipped crop of it make an
episode, and every region is a class of its own.
"""

import zlib
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, UInt8

from data.folder import IGNORE, Folder, Ids

MIN_AREA = 0.005
"""Least share of a picture that a class must cover for the picture to be used for it."""

CACHED_PICTURES = 512  # of 448 pixels and less: at most 0.4 GB

Reader = Callable[[str], tuple[UInt8[np.ndarray, "h w 3"], Ids]]
"""Reads a picture and its class mask by name."""


@dataclass(frozen=True)
class Episode:
    """What to show and what to ask, by name; `class_name` tells a data set's classes apart."""

    dataset: str
    class_id: int
    class_name: str
    query: str
    examples: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Pair:
    """A picture, where the episode's class is in it, and which pixels do not count."""

    image: UInt8[np.ndarray, "h w 3"]
    mask: Bool[np.ndarray, "h w"]
    ignore: Bool[np.ndarray, "h w"]


def make_episodes(
    folder: Folder, *, shots: int, count: int, seed: int, split: str | None
) -> list[Episode]:
    """Draw `count` episodes from a split's pictures, or from all of them.

    A class needs two pictures in which it covers `MIN_AREA`. An episode has fewer than `shots`
    examples if its class has no more other pictures; a region has one, always. Episodes may
    repeat. There are none if no class is fit, and none for sprites.

    The draw depends on the seed, the data set and the split alone: fewer episodes are the first
    ones, and more shots add examples to the same queries.

    Raises:
        ValueError: if the data set has no such split, or `shots` or `count` is not positive.
    """
    if shots < 1 or count < 1:
        raise ValueError(f"shots {shots} and count {count} must be at least 1")
    if folder.kind == "sprites":
        return []
    rng = np.random.default_rng([seed, zlib.crc32(folder.name.encode())])
    pictures = folder.pictures(split)
    if folder.kind == "regions":
        return _region_episodes(folder, pictures, count=count, rng=rng)
    return _class_episodes(folder, pictures, shots=shots, count=count, rng=rng)


def make_reader(folder: Folder) -> Reader:
    """Return a reader that keeps what it has decoded."""
    return lru_cache(maxsize=CACHED_PICTURES)(
        lambda picture: (folder.image(picture), folder.labels(picture))
    )


def load_episode(
    folder: Folder, episode: Episode, *, read: Reader | None = None
) -> tuple[list[Pair], Pair]:
    """Read an episode's examples and its query."""
    read = read or make_reader(folder)
    examples = [_pair(*read(picture), episode.class_id) for picture in episode.examples]
    image, labels = read(episode.query)
    if folder.kind == "regions":
        image, labels = _flipped_crop(image), _flipped_crop(labels)
    return examples, _pair(image, labels, episode.class_id)


def _class_episodes(
    folder: Folder, pictures: list[str], *, shots: int, count: int, rng: np.random.Generator
) -> list[Episode]:
    usable = defaultdict(list)
    for picture in pictures:
        for class_id, area in folder.areas(picture).items():
            if area >= MIN_AREA and class_id != IGNORE:
                usable[class_id].append(picture)
    fit = sorted(class_id for class_id, named in usable.items() if len(named) > 1)
    episodes = []
    for _ in range(count if fit else 0):
        class_id = fit[rng.integers(len(fit))]
        # All pictures are shuffled whatever `shots` is: see `make_episodes`.
        query, *others = rng.permutation(usable[class_id]).tolist()
        name = folder.classes.get(class_id, str(class_id))
        episodes.append(Episode(folder.name, class_id, name, query, tuple(others[:shots])))
    return episodes


def _region_episodes(
    folder: Folder, pictures: list[str], *, count: int, rng: np.random.Generator
) -> list[Episode]:
    episodes = []
    regions = lru_cache(maxsize=None)(lambda picture: _fit_regions(folder.labels(picture)))
    # A picture may have no fit region; the bound ends the search where none has.
    for _ in range(10 * count if pictures else 0):
        picture = pictures[rng.integers(len(pictures))]
        if fit := regions(picture):
            region = fit[rng.integers(len(fit))]
            name = f"{picture} region {region}"
            episodes.append(Episode(folder.name, region, name, picture, (picture,)))
        if len(episodes) == count:
            break
    return episodes


def _fit_regions(labels: Ids) -> list[int]:
    """Return the regions that cover `MIN_AREA` of the picture and of its flipped crop."""
    views = [np.bincount(view.ravel(), minlength=256) for view in (labels, _flipped_crop(labels))]
    shares = np.minimum(*(view / view.sum() for view in views))
    return [region for region in np.flatnonzero(shares >= MIN_AREA).tolist() if 0 < region < IGNORE]


def _flipped_crop(pixels: UInt8[np.ndarray, "h w *c"]) -> UInt8[np.ndarray, "newh neww *c"]:
    """Cut out the central three quarters of both sides and flip them left to right."""
    y, x = pixels.shape[0] // 8, pixels.shape[1] // 8
    return pixels[y : pixels.shape[0] - y, x : pixels.shape[1] - x][:, ::-1]


def _pair(image: UInt8[np.ndarray, "h w 3"], labels: Ids, class_id: int) -> Pair:
    return Pair(image, labels == class_id, labels == IGNORE)
