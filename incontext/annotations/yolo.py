"""YOLO's text files of polygons, a file a picture, and the names of the classes beside them."""

import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from incontext.annotations.parse import read_text, show
from incontext.annotations.shapes import Annotated, Class, Polygons, Region, find_size
from seggpt.errors import InputError, one_line

NAME_FILES = ("data.yaml", "data.yml", "dataset.yaml", "classes.txt", "obj.names")
"""Files with the names of classes."""

_SLACK = 0.02  # coordinates so far outside of 0..1 are rounding
_FOLDER_OF_LABELS = "labels"
_MOST_NAMES_BYTES = 1 << 20
_MOST_CLASSES = 65535


def label_file(picture: Path) -> Path | None:
    """Return the text file of a picture: in `labels` for `images`, as YOLO has it, or beside it."""
    candidates = [picture.with_suffix(".txt")]
    folders = picture.parent.parts
    for place in reversed(range(len(folders))):
        if folders[place].lower() == "images":
            moved = Path(*folders[:place], _FOLDER_OF_LABELS, *folders[place + 1 :])
            candidates.insert(0, moved / candidates[-1].name)
            break
    else:
        candidates.append(picture.parent / _FOLDER_OF_LABELS / candidates[-1].name)
    return next((path for path in candidates if path.is_file()), None)


def picture_folder(file: Path) -> Path:
    """Return the folder of pictures that YOLO has for a folder of labels; else the file's own."""
    folders = file.parent.parts
    for place in reversed(range(len(folders))):
        if folders[place] == _FOLDER_OF_LABELS:
            return Path(*folders[:place], "images", *folders[place + 1 :])
    return file.parent


def find_names(folder: Path) -> tuple[Path | None, list[str]]:
    """Return the file of names nearest to a folder, up to two folders above it, and the names.

    Raises:
        InputError: It cannot be read.
    """
    here = folder.absolute()
    for above in (here, *here.parents[:2]):
        for name in NAME_FILES:
            if (file := above / name).is_file():
                return file, _read_names(file)
    return None, []


def read_yolo(picture: Path, file: Path, names: Sequence[str]) -> Annotated:
    """Read the polygons of one picture.

    Raises:
        InputError: A line makes no sense.
    """
    place = one_line(file)
    rows = [
        (number, line.split())
        for number, line in enumerate(read_text(file).splitlines(), 1)
        if line.strip()
    ]
    size = find_size(picture) if rows else None
    regions = []
    for number, words in rows:
        where = f"{place}: line {number}"
        ring = _ring(words, place=where) * np.array(size, np.float64)
        of = _class(words[0], names, place=where)
        regions.append(Region(Polygons(((ring,),)), of, where))
    return Annotated(picture, place, tuple(regions), size)


def _class(word: str, names: Sequence[str], *, place: str) -> Class:
    index = int(word) if re.fullmatch("[0-9]{1,6}", word) else -1
    if not 0 <= index < _MOST_CLASSES:
        raise InputError(f"{place}: {show(word)} is no class; it must be a whole number from 0")
    if names and index >= len(names):
        raise InputError(f"{place}: class {index}, and there are {len(names)} names, from 0")
    return Class(index + 1, names[index] if names else None)


def _ring(words: Sequence[str], *, place: str) -> np.ndarray:
    try:
        numbers = [float(word) for word in words[1:]]
    except ValueError:
        numbers = [math.nan]
    if len(numbers) == 4 and all(map(math.isfinite, numbers)):
        raise InputError(
            f"{place}: a box (4 numbers), and boxes are no masks; export polygons (YOLO-seg)"
        )
    bad = next((n for n in numbers if not -_SLACK <= n <= 1 + _SLACK), None)  # NaN is neither
    if bad is not None:
        raise InputError(f"{place}: coordinates must be shares of the picture in 0..1 ({bad:g})")
    if len(numbers) % 2:
        raise InputError(f"{place}: {len(numbers)} numbers, and x and y come in pairs")
    if len(numbers) < 6:
        raise InputError(f"{place}: polygon needs 3 points or more, and has {len(numbers) // 2}")
    return np.array(numbers).reshape(-1, 2)


def _read_names(file: Path) -> list[str]:
    text = read_text(file, max_bytes=_MOST_NAMES_BYTES)
    if file.suffix not in (".yaml", ".yml"):
        return [line.strip() for line in text.splitlines() if line.strip()]
    names = _yaml_names(text)
    if names is None:
        raise InputError(
            f"{one_line(file)}: no names; write them as names: [leaf, stem], or one a line"
        )
    return names


def _yaml_names(text: str) -> list[str] | None:
    """Return the names of a data.yaml, in any of the ways that it is written.

    Only these lines are understood: YAML as a whole can name Python objects.
    """
    match = re.search(
        r"^names[ \t]*:(.*(?:\n[ \t-].*|\n[ \t]*(?=\n)|\n[\]}])*)", text, re.MULTILINE
    )
    if match is None:
        return None
    body = "\n".join(re.sub(r"(^|\s)#.*", "", line) for line in match[1].splitlines()).strip()
    if body[:1] in ("[", "{"):
        entries = body.strip("[]{}").replace("\n", " ").split(",")
    else:
        entries = [line.strip().removeprefix("- ") for line in body.splitlines()]
    found: dict[int, str] = {}
    for entry in filter(None, map(str.strip, entries)):
        keyed = re.fullmatch(r"['\"]?([0-9]{1,6})['\"]?\s*:\s*(.+)", entry)
        number = int(keyed[1]) if keyed else len(found)
        found[number] = (keyed[2] if keyed else entry).strip().strip("'\"")
    if not found or sorted(found) != list(range(len(found))) or not all(found.values()):
        return None
    return [found[number] for number in range(len(found))]
