"""One view of the tensors in a safetensors file, a Hugging Face folder or a `.pth` file."""

import contextlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from seggpt.errors import CheckpointError
from seggpt.weights.files import is_floating, open_safetensors
from seggpt.weights.pth.read import open_pth
from seggpt.weights.sniff import check_regular_file, refuse, sniff

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
PICKLE_FILE = "pytorch_model.bin"
MODEL_TYPES = (
    "seggpt",
    "sam",
    "sam_hq",
    "dinov2",
    "dinov2_with_registers",
    "dinov3_vit",
)  # of a config.json
_MAX_JSON_BYTES = 16 << 20
_MAX_SHARDS = 1000
_FLOATS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_WRAPPERS = ("model", "state_dict", "teacher")  # published files; other trainers'; DINOv2's


@dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """What is known of a tensor before it is read."""

    shape: tuple[int, ...]
    size_bytes: int
    floating: bool


@dataclass(frozen=True, kw_only=True)
class Tensors:
    """Tensors of a checkpoint by name, read one at a time.

    `read` may give a view that lasts until the container is closed; `forget` drops what was read
    from memory. `config` is the config.json of a Hugging Face folder, or empty.
    """

    infos: dict[str, TensorInfo]
    read: Callable[[str], np.ndarray]
    size_bytes: int
    config: Mapping[str, Any] = field(default_factory=dict)
    forget: Callable[[], None] = lambda: None


@contextlib.contextmanager
def open_tensors(path: str | os.PathLike[str]) -> Iterator[Tensors]:
    """Open whatever holds published weights.

    A `.safetensors` file with a config.json beside it is read as the folder that it lies in.

    Raises:
        CheckpointError: if it is missing, damaged, or not a container of tensors.
    """
    path = Path(path)
    with contextlib.ExitStack() as stack:
        if path.is_dir():
            files = list_files(path)
            if files == [path / PICKLE_FILE]:
                yield _from_pth(files[0], config=_read_config(path))
            else:
                yield _from_safetensors(stack, files, config=_read_config(path))
        elif (kind := sniff(path)) == "safetensors":
            yield _from_safetensors(stack, [path], config=_read_config(path.parent))
        elif kind == "zip":
            yield _from_pth(path, config={})
        else:
            raise refuse(path, kind=kind)


def _from_safetensors(
    stack: contextlib.ExitStack, files: list[Path], *, config: Mapping[str, Any]
) -> Tensors:
    infos: dict[str, TensorInfo] = {}
    handles: dict[str, Any] = {}
    for path in files:
        handle = stack.enter_context(open_safetensors(path))
        for name in handle.keys():  # noqa: SIM118 (not a dict)
            if name in infos:
                raise CheckpointError(f"{path}: {name!r} is also in another shard")
            view = handle.get_slice(name)
            shape = tuple(view.get_shape())
            width = _FLOATS.get(view.get_dtype(), 0)
            infos[name] = TensorInfo(
                shape=shape, size_bytes=math.prod(shape) * width, floating=width > 0
            )
            handles[name] = handle
    size_bytes = sum(check_regular_file(path) for path in files)
    return Tensors(
        infos=infos,
        read=lambda name: handles[name].get_tensor(name),
        size_bytes=size_bytes,
        config=config,
    )


def _from_pth(path: Path, *, config: Mapping[str, Any]) -> Tensors:
    opened = open_pth(path)
    state: Mapping[Any, Any] = opened.objects
    for wrapper in _WRAPPERS:
        if isinstance(inner := opened.objects.get(wrapper), Mapping):
            state = inner
            break
    arrays = {
        name: array
        for name, array in state.items()
        if isinstance(name, str) and isinstance(array, np.ndarray)
    }
    if others := [str(name)[:60] for name in state if name not in arrays]:
        raise CheckpointError(
            f"{path}: not a state dict: {len(others)} of its {len(state)} entries are not tensors, "
            f"e.g. {others[0]!r}"
        )
    infos = {
        name: TensorInfo(
            shape=array.shape, size_bytes=array.nbytes, floating=is_floating(array.dtype)
        )
        for name, array in arrays.items()
    }
    return Tensors(
        infos=infos,
        read=arrays.__getitem__,
        size_bytes=check_regular_file(path),
        config=config,
        forget=opened.release,
    )


def list_files(folder: Path) -> list[Path]:
    """Return the weights files of a Hugging Face folder, or the one file itself.

    Raises:
        CheckpointError: if there is none in the folder.
    """
    if not folder.is_dir():
        return [folder]
    if (folder / INDEX_FILE).is_file():
        return [folder / name for name in _read_index(folder / INDEX_FILE)]
    for name in (SINGLE_FILE, PICKLE_FILE):
        if (folder / name).is_file():
            return [folder / name]
    raise CheckpointError(
        f"{folder}: no weights in this folder "
        f"(looked for {SINGLE_FILE}, {INDEX_FILE}, {PICKLE_FILE})"
    )


def _read_index(path: Path) -> list[str]:
    """Return the names of the shards; they must lie in the index's own folder."""
    weight_map = _read_json(path).get("weight_map")
    names = list(weight_map.values()) if isinstance(weight_map, dict) else []
    if not names or not all(isinstance(name, str) for name in names):
        raise CheckpointError(f"{path}: no usable weight_map")
    shards = sorted(set(names))
    if len(shards) > _MAX_SHARDS:
        raise CheckpointError(f"{path}: {len(shards)} shards; at most {_MAX_SHARDS} are read")
    for name in shards:
        if not name.endswith(".safetensors") or name != PureWindowsPath(name).name:
            raise CheckpointError(f"{path}: {name[:80]!r} is not the name of a shard")
    return shards


def _read_config(folder: Path) -> Mapping[str, Any]:
    """Return the folder's config.json if it is one of a model that we read, or an empty one."""
    path = folder / "config.json"
    if not path.is_file():
        return {}
    config = _read_json(path)
    return config if config.get("model_type") in MODEL_TYPES else {}


def _read_json(path: Path) -> dict[str, Any]:
    if check_regular_file(path) > _MAX_JSON_BYTES:
        raise CheckpointError(f"{path}: more than {_MAX_JSON_BYTES} bytes of JSON")
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError, OSError) as error:
        raise CheckpointError(f"{path}: not readable as JSON") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: not a JSON object")
    return value
