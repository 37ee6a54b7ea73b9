"""Masks that are no picture files: drawn of annotations when they are needed, or `.npy` arrays."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from incontext.files.decode import check_size, source_name
from seggpt.errors import InputError

_DEEP = "save the labels as PNG or TIFF, or with numpy.save(file, masks)"


@dataclass(frozen=True, eq=False)
class DrawnMask:
    """A mask that is made each time it is read, so that hundreds need no memory.

    Attributes:
        name: In words fit for a message.
        make: Returns the array of (h, w).
        is_labels: Whether its numbers are labels for certain, and -1 is what does not count; else
            they are read as those of any array.
    """

    name: str
    make: Callable[[], np.ndarray]
    is_labels: bool = True

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return the mask as numpy's."""
        return np.asarray(self.make(), dtype)

    def __repr__(self) -> str:
        return f"DrawnMask({self.name!r})"


def array_file(source: object, *, max_pixels: int | None = None) -> DrawnMask | None:
    """Return the mask of a `.npy` file; None where the source is something else.

    Raises:
        InputError: It holds no array of (h, w), or Python objects: reading those could run code.
    """
    if not isinstance(source, str | os.PathLike) or Path(source).suffix.lower() != ".npy":
        return None
    path = Path(source)
    array = _read(path, name=source_name(path), max_pixels=max_pixels)
    return DrawnMask(source_name(path), lambda: array, is_labels=False)


def _read(path: Path, *, name: str, max_pixels: int | None) -> np.ndarray:
    try:
        if not path.is_file():
            raise InputError(f"no such file: {name}")
        with path.open("rb") as file:
            shape, dtype = _header(file)
            if dtype.hasobject:
                raise InputError(f"{name}: {_what_pickle(path)}; {_DEEP}")
            while len(shape) > 2 and shape[0] == 1:
                shape = shape[1:]
            if len(shape) != 2:
                sides = "x".join(map(str, shape))
                raise InputError(f"{name}: an array of {sides or 'one number'}, not (h, w)")
            check_size((shape[1], shape[0]), name=name, max_pixels=max_pixels)
            here = file.tell()
            left = os.fstat(file.fileno()).st_size - here
            if left < math.prod(shape) * dtype.itemsize:
                raise InputError(f"{name}: truncated array; copy or download it again")
            file.seek(0)
            return np.load(file, allow_pickle=False).reshape(shape)
    except OSError as error:
        raise InputError(f"{name}: cannot read: {error.strerror or error}") from error
    except InputError:
        raise
    # numpy lets out what its parts do on a damaged header.
    except Exception as error:
        raise InputError(f"{name}: not a .npy array; {_DEEP}") from error


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, _, dtype = read(file)
    return shape, dtype


def _what_pickle(path: Path) -> str:
    if path.stem.endswith("_seg"):
        return "cellpose's _seg.npy holds pickled objects, which could run code"
    return "the array holds pickled objects, which could run code"
