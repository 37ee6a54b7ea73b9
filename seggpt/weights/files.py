"""Our own weights files: safetensors with flat dotted names, a config and a checksum.

The metadata `sha256` is that of the whole file with the 64 digits themselves written as zeros, so
it covers names, shapes and config too. The library `safetensors` reads these files, as it reads
anybody's; writing is done here because the checksum stands before what it sums up, and because the
library orders metadata at random: the same weights would give different bytes each time.
"""

import contextlib
import hashlib
import json
import os
import secrets
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from seggpt.errors import CheckpointError
from seggpt.weights.aligned import copy_aligned
from seggpt.weights.sniff import MAX_HEADER_BYTES, refuse, sniff
from seggpt.weights.tree import Params, flatten, unflatten

FORMAT = 1
_RESERVED = ("seggpt_format", "config", "sha256")
_NO_HASH = "0" * 64
_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
_WRITABLE = {
    np.dtype(np.float32): "F32",
    np.dtype(np.float16): "F16",
    _BFLOAT16: "BF16",
    np.dtype(np.int32): "I32",
    np.dtype(np.uint8): "U8",
    np.dtype(np.bool_): "BOOL",
}


@dataclass(frozen=True, kw_only=True)
class LoadedWeights:
    """Weights in memory: nested arrays, the architecture's fields, and where they come from."""

    params: Params
    config: dict[str, Any]
    metadata: dict[str, str]


def save_weights(
    path: str | os.PathLike[str],
    params: Mapping[Any, Any],
    *,
    config: Mapping[str, Any],
    metadata: Mapping[str, str] | None = None,
    dtype: Literal["float32", "bfloat16"] | None = None,
) -> None:
    """Write weights, whole or not at all; the same input gives the same bytes.

    `params` is what `nnx.as_pure` gives, with int keys for lists. `dtype` converts the floating
    arrays, one at a time; None keeps each as it is.

    Raises:
        ValueError: for a key, a metadata name or an array type that the file cannot hold.
        CheckpointError: if the file cannot be written (no such folder, no space).
    """
    path = Path(path)
    leaves = flatten(params)
    dtypes = {
        name: _stored_dtype(name, np.dtype(leaf.dtype), dtype) for name, leaf in leaves.items()
    }
    if clash := sorted(set(metadata or {}) & set(_RESERVED)):
        raise ValueError(f"metadata may not name {clash}: seggpt writes them itself")
    fields = {
        **(metadata or {}),
        "seggpt_format": str(FORMAT),
        "config": json.dumps(config, sort_keys=True),
    }
    # Widest types first, as the library does, so that every tensor is aligned to its type.
    order = sorted(leaves, key=lambda name: (-dtypes[name].itemsize, name))
    shapes = {name: (tuple(leaves[name].shape), dtypes[name]) for name in order}
    try:
        with _replacing(path) as file:
            header = _header(shapes, {**fields, "sha256": _NO_HASH})
            file.write(header)
            digest = hashlib.sha256(header)
            for name in order:
                data = _bytes_of(np.asarray(leaves[name], dtype=dtypes[name], order="C"))
                digest.update(data)
                file.write(data)
            file.seek(0)
            file.write(_header(shapes, {**fields, "sha256": digest.hexdigest()}))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({error.strerror})") from error


def load_weights(path: str | os.PathLike[str]) -> LoadedWeights:
    """Read a file that `save_weights` wrote, and check every byte of it.

    bfloat16 and float16 arrays come back as float32, list indices as ints. Never more than one
    tensor is held twice.

    Raises:
        CheckpointError: if the file is missing, damaged, of a newer seggpt or not ours.
    """
    with open_safetensors(path) as file:
        metadata: dict[str, str] = dict(file.metadata() or {})
        config = _read_config(path, metadata)
        digest = hashlib.sha256(_blank_header(path, metadata.get("sha256", "")))
        arrays: dict[str, np.ndarray] = {}
        for name in file.offset_keys():
            stored = file.get_tensor(name)
            digest.update(_bytes_of(stored))
            wide = np.float32 if is_floating(stored.dtype) else stored.dtype
            arrays[name] = copy_aligned(stored, wide)
        params = unflatten(arrays)
    if digest.hexdigest() != metadata.get("sha256"):
        raise CheckpointError(
            f"{path}: SHA-256 mismatch: this is not what was saved; copy the file again"
        )
    metadata = {name: text for name, text in metadata.items() if name not in _RESERVED}
    return LoadedWeights(params=params, config=config, metadata=metadata)


def is_own_file(path: str | os.PathLike[str]) -> bool:
    """Tell whether a safetensors file was written by `save_weights`.

    Raises:
        CheckpointError: if the file is missing, damaged or not safetensors.
    """
    with open_safetensors(path) as file:
        return "seggpt_format" in (file.metadata() or {})


@contextlib.contextmanager
def open_safetensors(path: str | os.PathLike[str]) -> Iterator[Any]:
    """Open a safetensors file; what goes wrong with its data inside is a one-line error.

    The handle is the library's `safe_open`. It reads with `pread`: nothing is mapped, so nothing
    counts twice in memory, and a file that shrinks meanwhile cannot crash the process.

    Raises:
        CheckpointError: if the file is missing, damaged or not safetensors.
    """
    if (kind := sniff(path)) != "safetensors":
        raise refuse(path, kind=kind)
    try:
        with safe_open(os.fspath(path), framework="np", backend="pread") as file:
            yield file
    except (SafetensorError, OSError, ValueError, TypeError, MemoryError) as error:
        reason = "".join(c if c.isprintable() else " " for c in str(error)[:200])
        raise CheckpointError(f"{path}: damaged safetensors file ({reason})") from error


def is_floating(dtype: np.dtype) -> bool:
    """Tell whether a type is a float, including bfloat16, which numpy does not count as one."""
    return dtype.kind == "f" or dtype == _BFLOAT16


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a whole file, for lists of checksums and for provenance.

    Raises:
        CheckpointError: if the file cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error


def _stored_dtype(name: str, own: np.dtype, dtype: str | None) -> np.dtype:
    """Return the type that an array is stored in."""
    stored = np.dtype(getattr(ml_dtypes, dtype, dtype)) if dtype and is_floating(own) else own
    if stored not in _WRITABLE:
        raise ValueError(f"{name} has type {stored}; give dtype='float32' or convert it first")
    return stored


def _bytes_of(array: np.ndarray) -> memoryview:
    """View an array's bytes; flat first, because a 0-d array has no byte view."""
    return array.reshape(-1).view(np.uint8).data


def _header(shapes: Mapping[str, Any], metadata: Mapping[str, str]) -> bytes:
    """Spell the header of the safetensors format: length, JSON, spaces to a multiple of 8."""
    entries: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    start = 0
    for name, (shape, dtype) in shapes.items():
        end = start + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        entries[name] = {
            "dtype": _WRITABLE[dtype],
            "shape": list(shape),
            "data_offsets": [start, end],
        }
        start = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER_BYTES:
        raise ValueError(f"a header of {len(text)} bytes; at most {MAX_HEADER_BYTES} are allowed")
    return struct.pack("<Q", len(text)) + text


def _blank_header(path: str | os.PathLike[str], sha256: str) -> bytes:
    """Return the header as it was before its checksum was filled in."""
    with Path(path).open("rb") as file:
        (size,) = struct.unpack("<Q", length := file.read(8))
        text = file.read(min(size, MAX_HEADER_BYTES))
    return length + text.replace(sha256.encode() or b"\0", _NO_HASH.encode())


def _read_config(path: str | os.PathLike[str], metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return the config of one of our files, after checking that it is one we know."""
    if (version := metadata.get("seggpt_format")) is None:
        raise CheckpointError(
            f"{path}: not written by seggpt (no seggpt_format in its metadata); "
            "a published checkpoint is read by load_published or converted by seggpt convert"
        )
    if version != str(FORMAT):
        raise CheckpointError(
            f"{path}: format {version[:20]!r}, this seggpt reads format {FORMAT}; upgrade seggpt"
        )
    try:
        config = json.loads(metadata.get("config", ""))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: the config in its metadata is not JSON") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: the config in its metadata is not a JSON object")
    return config


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a new file beside `path` that takes its place only when all went well."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
