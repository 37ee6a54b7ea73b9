"""Files that appear whole or not at all."""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from seggpt.errors import InputError, one_line

_LONGEST_NAME = 200  # bytes; file systems allow 255, and the name of a part file is longer


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file or a folder under another name, then put it in the place of `path`.

    Raises:
        InputError: It cannot be written.
    """
    name = path.name
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    part = path.with_name(f"{name}.tmp-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(part)
            if part.is_dir() and path.is_dir():
                shutil.rmtree(path)
            part.replace(path)
        finally:
            if part.is_dir():
                shutil.rmtree(part)
            part.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        name = one_line(path)
        raise InputError(f"cannot write {name}: {reason}; choose another folder") from error
