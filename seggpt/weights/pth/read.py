"""Read torch's `.pth` files without torch and without running what is in them.

The file is a zip of a pickle, `data.pkl`, and one entry of raw bytes per storage, as
torch/serialization.py (torch 1.6 to 2.13) writes it. `zipstore` checks the archive, `unpickle`
interprets the pickle, and this file makes numpy arrays of the storages, mapped and not copied.
"""

import logging
import math
import mmap
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path

import ml_dtypes
import numpy as np

from seggpt.errors import CheckpointError
from seggpt.weights.pth.archive import Entry, ZipError, check_contents, read_entries
from seggpt.weights.pth.unpickle import MAX_PICKLE_BYTES, Global, PickleError, interpret
from seggpt.weights.sniff import refuse, sniff

_MAX_DIMS = 16
_MAX_EXTENT = 1 << 48  # of one dimension: keeps numpy's own arithmetic far from its limits

_DTYPES = {
    "torch float32": np.dtype(np.float32),
    "torch float64": np.dtype(np.float64),
    "torch float16": np.dtype(np.float16),
    "torch bfloat16": np.dtype(ml_dtypes.bfloat16),
    "torch float8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "torch float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
    "torch int64": np.dtype(np.int64),
    "torch int32": np.dtype(np.int32),
    "torch int16": np.dtype(np.int16),
    "torch int8": np.dtype(np.int8),
    "torch uint64": np.dtype(np.uint64),
    "torch uint32": np.dtype(np.uint32),
    "torch uint16": np.dtype(np.uint16),
    "torch uint8": np.dtype(np.uint8),
    "torch bool": np.dtype(np.bool_),
}
_STORAGES = {
    "torch FloatStorage": _DTYPES["torch float32"],
    "torch DoubleStorage": _DTYPES["torch float64"],
    "torch HalfStorage": _DTYPES["torch float16"],
    "torch BFloat16Storage": _DTYPES["torch bfloat16"],
    "torch LongStorage": _DTYPES["torch int64"],
    "torch IntStorage": _DTYPES["torch int32"],
    "torch ShortStorage": _DTYPES["torch int16"],
    "torch CharStorage": _DTYPES["torch int8"],
    "torch ByteStorage": _DTYPES["torch uint8"],
    "torch BoolStorage": _DTYPES["torch bool"],
    "torch.storage UntypedStorage": _DTYPES["torch uint8"],
}
_TENSOR_V2 = "torch._utils _rebuild_tensor_v2"
_TENSOR_V3 = "torch._utils _rebuild_tensor_v3"
_PARAMETERS = {
    "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_parameter_with_state",
}
_VALUES = {"torch Size", "torch device"}  # kept as their argument
_KNOWN = {*_DTYPES, *_STORAGES, _TENSOR_V2, _TENSOR_V3, *_PARAMETERS, *_VALUES}

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PthFile:
    """What a `.pth` file holds; `release` gives the memory of pages already read back."""

    objects: Mapping[str, object]
    release: Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class _Storage:
    """A run of bytes in the mapped file."""

    dtype: np.dtype
    start: int
    size_bytes: int


def read_pth(path: str | os.PathLike[str]) -> Mapping[str, object]:
    """Read a `.pth` file as dicts, lists, numbers, strings and read-only numpy arrays.

    The arrays look into the mapped file. Training options and numpy scalars come back as inert
    `Stub`s, dtypes as `Global`s. Nothing of the file is executed or imported.

    Raises:
        CheckpointError: if the file is missing, damaged, of another format, or its pickle asks
            for anything but tensors and plain values.
    """
    return open_pth(path).objects


def open_pth(path: str | os.PathLike[str]) -> PthFile:
    """Read a `.pth` file as `read_pth` does, and keep hold of its mapping.

    Raises:
        CheckpointError: as `read_pth`.
    """
    path = Path(path)
    if (kind := sniff(path)) != "zip":
        raise refuse(path, kind=kind)
    try:
        with path.open("rb") as file:
            entries = read_entries(file, file_size=os.fstat(file.fileno()).st_size)
            prefix = _find_pickle(entries)
            # An archive of older torch has no byteorder entry; it was written on such a machine.
            byteorder = _read_small(file, entries.get(f"{prefix}byteorder"), default=b"little")
            if byteorder != b"little":
                raise ZipError(f"byte order {byteorder[:20]!r}; only little is read")
            data = _read_small(file, entries[f"{prefix}data.pkl"])
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            tensors = _TensorReader(mapped, entries, prefix)
            objects = interpret(data, known=_KNOWN, call=tensors.call, load=tensors.load)
            check_contents(file, entries.values())
    except (ZipError, PickleError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (OSError, ValueError, OverflowError, MemoryError) as error:
        raise CheckpointError(f"{path}: cannot be read ({type(error).__name__})") from error
    if type(objects) is not dict or not all(type(key) is str for key in objects):
        raise CheckpointError(f"{path}: holds a {type(objects).__name__}, not a named collection")
    _logger.debug("%s: %d entries, %d tensors", path, len(entries), tensors.count)
    return PthFile(objects=objects, release=lambda: _forget_pages(mapped))


def _find_pickle(entries: Mapping[str, Entry]) -> str:
    """Return the folder of the archive's one pickle."""
    found = [name for name in entries if name.rpartition("/")[2] == "data.pkl"]
    if not found:
        raise ZipError("a zip archive without data.pkl, so not a torch checkpoint")
    if len(found) > 1:
        raise ZipError("two data.pkl in one archive")
    prefix = found[0].removesuffix("data.pkl")
    if any(name.startswith((f"{prefix}code/", f"{prefix}constants.pkl")) for name in entries):
        raise ZipError(
            "a TorchScript program, not a state dict; load it with torch.jit.load and save again: "
            "torch.save(model.state_dict(), p)"
        )
    return prefix


def _read_small(file: BufferedIOBase, entry: Entry | None, *, default: bytes = b"") -> bytes:
    if entry is None:
        return default
    if entry.size > MAX_PICKLE_BYTES:
        raise ZipError(
            f"{entry.name!r} has {entry.size} bytes; at most {MAX_PICKLE_BYTES} are read"
        )
    check_contents(file, [entry])
    file.seek(entry.start)
    return file.read(entry.size)


def _forget_pages(mapped: mmap.mmap) -> None:
    """Let go of the mapped pages; they are read again from the file if they are touched again."""
    if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
        mapped.madvise(mmap.MADV_DONTNEED)


class _TensorReader:
    """Makes arrays from the pickle's descriptions, inside the bounds of the mapped file."""

    def __init__(self, mapped: mmap.mmap, entries: Mapping[str, Entry], prefix: str) -> None:
        self._mapped, self._entries, self._prefix = mapped, entries, prefix
        self.count = 0

    def load(self, identity: object) -> _Storage:
        """Find the storage of a persistent id: ("storage", type, key, device, elements)."""
        if type(identity) is not tuple or len(identity) not in (5, 6):
            raise PickleError("a persistent id that is not a storage")
        tag, kind, key, _, count, *_ = identity
        dtype = _STORAGES.get(kind.name) if type(kind) is Global else None
        if type(tag) is not str or tag != "storage" or dtype is None:
            raise PickleError("a persistent id that is not a storage")
        if type(key) is not str or type(count) is not int:
            raise PickleError("a storage without a key or a size")
        entry = self._entries.get(f"{self._prefix}data/{key}")
        if entry is None:
            raise PickleError(f"storage {key[:40]!r} is missing from the archive")
        if count * dtype.itemsize != entry.size:
            raise PickleError(f"storage {key[:40]!r} has {entry.size} bytes, not what is declared")
        return _Storage(dtype=dtype, start=entry.start, size_bytes=entry.size)

    def call(self, name: str, arguments: tuple[object, ...]) -> object:
        """Do what a known name means with its arguments."""
        if name == _TENSOR_V2 and len(arguments) in (6, 7):
            return self._tensor(*arguments[:4], dtype=None)
        if name == _TENSOR_V3 and len(arguments) in (7, 8):
            return self._tensor(*arguments[:4], dtype=arguments[6])
        if name in _PARAMETERS and arguments and isinstance(arguments[0], np.ndarray):
            return arguments[0]
        if name in _VALUES and len(arguments) in (1, 2):
            return arguments[0]
        raise PickleError(f"calls {name.replace(' ', '.')} in an unknown way")

    def _tensor(
        self, storage: object, offset: object, size: object, stride: object, *, dtype: object
    ) -> np.ndarray:
        if type(storage) is not _Storage or type(size) is not tuple or type(stride) is not tuple:
            raise PickleError("a tensor without a storage, size or stride")
        if len(size) != len(stride) or len(size) > _MAX_DIMS:
            raise PickleError(f"a tensor of {len(size)} dimensions and {len(stride)} strides")
        if type(offset) is not int or not all(
            type(n) is int and 0 <= n < _MAX_EXTENT for n in (offset, *size, *stride)
        ):
            raise PickleError("a tensor with a negative, huge or non-integer size")
        own = _DTYPES.get(dtype.name) if type(dtype) is Global else storage.dtype
        if own is None or (dtype is not None and type(dtype) is not Global):
            raise PickleError("a tensor of unknown type")
        self.count += 1
        if not (count := math.prod(size)):
            if math.prod(n for n in size if n) >= _MAX_EXTENT:
                raise PickleError("an empty tensor of huge size")
            return np.empty(size, own)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        # The second test stops a stride of 0 from blowing one number up to a terabyte.
        if max(last + 1, count) * own.itemsize > storage.size_bytes:
            raise PickleError("a tensor larger than its storage")
        return np.ndarray(
            size,
            own,
            buffer=self._mapped,
            offset=storage.start + offset * own.itemsize,
            strides=[step * own.itemsize for step in stride],
        )
