"""Files that appear whole or not at all."""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from seggpt.errors import InputError, one_line

_LONGEST_NAME = 200  # bytes; file systems allow 255, and the name of a part file is longer


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file or a folder under another name, then put it in the place of `path`.

    Raises:
        InputError: It cannot be written.
    """
    part = path.with_name(f"{_part_stem(path)}.tmp-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(part)
            if part.is_dir() and path.is_dir():
                shutil.rmtree(path)
            part.replace(path)
        finally:
            _remove(part)
    except OSError as error:
        reason = error.strerror or str(error)
        name = one_line(path)
        raise InputError(f"cannot write {name}: {reason}; choose another folder") from error


def remove_parts(paths: Iterable[Path]) -> None:
    """Remove what killed processes left of these files; nobody may be writing them now."""
    stems: dict[Path, set[str]] = {}
    for path in paths:
        stems.setdefault(path.parent, set()).add(_part_stem(path))
    for folder, known in stems.items():
        if not folder.is_dir():
            continue
        for name in os.listdir(folder):
            stem, mark, number = name.rpartition(".tmp-")
            if mark and number.isdecimal() and stem in known:
                _remove(folder / name)


def _part_stem(path: Path) -> str:
    name = os.fsencode(path.name)
    return path.name if len(name) <= _LONGEST_NAME else hashlib.sha256(name).hexdigest()


def _remove(part: Path) -> None:
    if part.is_dir() and not part.is_symlink():
        shutil.rmtree(part)
    else:
        part.unlink(missing_ok=True)
