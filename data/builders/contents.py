"""What a reader of a data set gives: its pictures by split, and how to read what is marked."""

import gzip
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Integer, Shaped, UInt8
from PIL import Image

from data.folder import IGNORE, Kind
from incontext.files.decode import decode
from seggpt.errors import InputError, one_line

MOST_PIXELS = 200_000_000  # iSAID's largest pictures have 100 Mpx
_SPLITS: Mapping[str, str] = {"valid": "val", "validation": "val"}
_SPLIT = re.compile(r"(?<![a-z])(train|valid|validation|val|test)(?![a-z])")


@dataclass(frozen=True, eq=False)
class Maps:
    """The masks of a picture.

    Attributes:
        labels: Class ids; 0 is background, `IGNORE` does not count.
        instances: Ids of instances from 1; 0 elsewhere.
        instance_classes: The class of each instance.
    """

    labels: Integer[np.ndarray, "h w"]
    instances: Integer[np.ndarray, "h w"] | None = None
    instance_classes: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Item:
    """A picture, or what gives its bytes, and how its masks are read when its turn comes."""

    name: str
    image: Path | Callable[[], bytes]
    read: Callable[[], Maps]


@dataclass(frozen=True, eq=False)
class Contents:
    """All that is in a data set; no pictures or masks yet.

    Attributes:
        kind: What its masks mean.
        classes: Names of classes by id.
        splits: The pictures of each split.
        files: What is kept beside the records as it is.
    """

    kind: Kind
    classes: Mapping[int, str]
    splits: Mapping[str, Sequence[Item]]
    files: Sequence[Path] = ()


def class_id(place: int) -> int:
    """Return the id of the class at a place from 1: the place, with `IGNORE` left out."""
    return place if place < IGNORE else place + 1


def number(names: Sequence[str]) -> dict[int, str]:
    """Return names by the ids of their places."""
    return {class_id(place): name for place, name in enumerate(names, 1)}


def need(path: Path) -> Path:
    """Return a path that must be there.

    Raises:
        InputError: It is not.
    """
    if not path.exists():
        raise InputError(f"{one_line(path)}: no such file or folder")
    return path


def find_split(text: str) -> str:
    """Return the split that the words of a path name, `train` if none."""
    found = _SPLIT.findall(text.lower())
    last: str = found[-1] if found else "train"
    return _SPLITS.get(last, last)


def paired(
    folder: Path,
    pattern: str,
    mask_of: Callable[[Path], Path],
    read: Callable[[Path], Maps],
    *,
    name_of: Callable[[Path], str] = lambda picture: picture.name.split(".")[0],
) -> list[Item]:
    """Pair the pictures of a pattern with their masks.

    Raises:
        InputError: There are none, or a mask is missing.
    """
    pictures = sorted(need(folder).glob(pattern))
    if not pictures:
        raise InputError(f"{one_line(folder / pattern)}: no such pictures")
    items = []
    for picture in pictures:
        mask = need(mask_of(picture))
        image = partial(read_bytes, picture) if picture.suffix == ".gz" else picture
        items.append(Item(name_of(picture), image, partial(read, mask)))
    return items


def listed(items: Sequence[Item], file: Path) -> list[Item]:
    """Return those of some pictures that a text file names.

    Raises:
        InputError: One of them is missing.
    """
    known = {item.name: item for item in items}
    names = need(file).read_text().split()
    if lost := [name for name in names if name not in known]:
        raise InputError(f"{one_line(file)}: no picture {lost[0]!r}")
    return [known[name] for name in names]


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a file, which may be gzipped.

    Raises:
        InputError: It is a damaged archive.
    """
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if path.suffix == ".gz" else data
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{one_line(path)}: damaged; copy or download it again") from error


def read_pixels(path: Path) -> Shaped[np.ndarray, "h w *c"]:
    """Return the numbers in a picture file, which may be gzipped: indices, not a palette's colours.

    Raises:
        InputError: It cannot be read.
    """
    return np.asarray(_decode(path))


def read_grey(path: Path) -> UInt8[np.ndarray, "h w"]:
    """Return how bright a picture file shows each pixel.

    Raises:
        InputError: It cannot be read.
    """
    return np.asarray(_decode(path).convert("L"))


def _decode(path: Path) -> Image.Image:
    try:
        return decode(read_bytes(path), max_pixels=MOST_PIXELS).image
    except InputError as error:
        raise InputError(f"{one_line(path)}: {error}") from error


def read_ids(path: Path, table: Integer[np.ndarray, " stored"]) -> Maps:
    """Read a mask of stored numbers; `table` has the class id of each.

    Raises:
        InputError: It is coloured, or has another number.
    """
    stored = read_pixels(path)
    if stored.ndim != 2:
        raise InputError(f"{one_line(path)}: coloured, and must have a number a pixel")
    if (most := int(stored.max(initial=0))) >= len(table):
        raise InputError(f"{one_line(path)}: value {most}, and {len(table) - 1} is the largest")
    return Maps(table[stored])


def read_marked(path: Path) -> Maps:
    """Read a mask of one class: what is brighter than half of what its file can hold."""
    stored = read_pixels(path)
    brightest = stored if stored.ndim == 2 else stored[..., :3].max(axis=-1)
    return Maps(_is_bright(brightest).astype(np.uint8))


def _is_bright(values: Shaped[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    if values.dtype == bool or values.max(initial=0) == 1:
        return values > 0
    return values > np.iinfo(values.dtype).max // 2
