"""Where the pictures of an annotation file are: beside it, in the usual neighbours, or as told."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from incontext.annotations.naming import shown
from incontext.annotations.parse import Node, show
from incontext.files.images import IMAGE_SUFFIXES
from incontext.wording import option
from seggpt.errors import InputError, one_line

# Folders of pictures beside an annotation file, or beside its folder.
_FOLDERS = (
    *("", "images", "imgs", "img", "image", "photos", "pictures", "JPEGImages", "data"),
    *("train2017", "val2017", "train2014", "val2014", "train", "val", "valid", "test"),
)


def find_named(name: Node, file: Path, *, images: Path | None, climb: bool = False) -> Path | None:
    """Return the picture that an annotation file names; None if there is none.

    A name that leaves the file's folder counts by its last part alone. With `climb` one step up is
    no leaving: labelme writes `../images/a.jpg` where its files have a folder of their own.

    Raises:
        InputError: The name is no text, or leaves the folder for what is not found beside the file.
    """
    text = name.text().replace("\\", "/")
    parts = PurePosixPath(text).parts
    steps = parts[1:] if climb and parts[:1] == ("..",) else parts
    is_safe = bool(steps) and not {"..", "/", "//"} & set(steps) and ":" not in steps[0]
    if is_safe and steps is not parts and (path := _present(file.parent / "..", steps)):
        return path
    below = steps if is_safe else steps[-1:]
    if below and not {"..", "/", "//"} & set(below):
        for folder in _folders(file, images):
            path = _present(folder, below) or _present(folder, below[-1:])
            if path is not None:
                return path
    if not is_safe:
        raise name.error(
            f"{name.key} {show(name.value)} leaves the folder of the file; put the picture beside "
            f"it, or pass {option('images')}"
        )
    return None


def find_stem(stem: str, file: Path, *, images: Path | None) -> Path | None:
    """Return the picture whose name, with its suffix or without, is `stem`; None if there is none.

    Raises:
        InputError: There are two in one folder.
    """
    for folder in _folders(file, images):
        if Path(stem).suffix.lower() in IMAGE_SUFFIXES and (path := _present(folder, (stem,))):
            return path
        names = (f"{stem}{end}" for suffix in IMAGE_SUFFIXES for end in (suffix, suffix.upper()))
        found = [folder / name for name in names if os.path.isfile(folder / name)]
        if len({os.path.realpath(path) for path in found}) > 1:
            raise InputError(f"{one_line(file)}: which picture is it of, {shown(found)}? move one")
        if found:
            return found[0]
    return None


def missing(file: str, picture: str) -> InputError:
    """Return the error for a picture that is nowhere."""
    return InputError(
        f"{file}: picture {picture} is not beside it; pass {option('images')} with its folder"
    )


def _folders(file: Path, images: Path | None) -> Iterator[Path]:
    if images is not None:
        yield images
        return
    split = file.stem.rpartition("_")[2]  # instances_train2017.json
    for base in dict.fromkeys((file.parent, Path(os.path.normpath(file.parent / "..")))):
        yield from (base / name for name in _FOLDERS)
        yield from (base / name for name in (split, f"images/{split}"))


def _present(folder: Path, parts: tuple[str, ...]) -> Path | None:
    path = folder.joinpath(*parts)
    for name in (path.name, path.stem + path.suffix.lower(), path.stem + path.suffix.upper()):
        # Also false for names that no file can have.
        if name and os.path.isfile(other := path.parent / name):
            return other
    return None
