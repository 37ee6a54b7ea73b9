"""Weights of image encoders: our own files, DINOv2 and DINOv3 as others have them."""

import hashlib
import logging
import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from flax import nnx

from seggpt.config import EncoderConfig
from seggpt.encoder import Encoder
from seggpt.errors import CheckpointError
from seggpt.pretrained import find_encoder
from seggpt.vit import ROTARY_BASE
from seggpt.weights.aligned import copy_aligned, empty_aligned
from seggpt.weights.checking import check_tensors
from seggpt.weights.containers import Tensors, list_files, open_tensors
from seggpt.weights.encoder_names import (
    ANCHORS,
    PERIODS,
    POSITIONS,
    UNUSED,
    Spelling,
    encoder_name_table,
    find_blocks,
    recognise_spelling,
)
from seggpt.weights.encoder_shapes import first_letters, infer_encoder
from seggpt.weights.files import file_sha256, is_own_file, load_weights
from seggpt.weights.graft import graft
from seggpt.weights.keys import Keys
from seggpt.weights.layouts import convert
from seggpt.weights.names import Dialect, Name
from seggpt.weights.shapes import ShapeError
from seggpt.weights.sniff import sniff
from seggpt.weights.tree import Params, unflatten

# What some files have in parts, in the order in which we have it in one.
_JOINED = {
    "attn.qkv": ("attn.query", "attn.key", "attn.value"),
    "mlp.fc1": ("mlp.gate", "mlp.passed"),
}
_PERIOD_ERROR = 0.01  # as a share; the authors' may have been rounded to bfloat16
_NAMES = {"dinov2": "DINOv2", "dinov3": "DINOv3"}

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LoadedEncoder:
    """An encoder in memory.

    Attributes:
        config: What the shapes are of.
        params: The tree that goes with `Encoder`; float32.
        metadata: Where the weights come from; for our own files what was saved with them.
        sha256: The checksum of the file, or of those of a folder, as they lie on the disk.
    """

    config: EncoderConfig
    params: Params
    metadata: dict[str, str]
    sha256: str


def load_encoder(name_or_path: str | os.PathLike[str] | None = None) -> LoadedEncoder:
    """Read the shipped encoder, by name or without one, or a file or folder with another.

    Takes our own files, and DINOv2 with or without registers or DINOv3's ViTs as a `.safetensors`
    file, a Hugging Face folder or a `.pth`, in their authors' or in Hugging Face's names, alone or
    inside a network whose other parts are left out.

    Raises:
        CheckpointError: if there is no such file, or it is damaged, unsafe or of another model;
            one line that counts all missing, unexpected and mis-shaped tensors.
    """
    path = find_encoder(name_or_path)
    if not path.is_dir() and sniff(path) == "safetensors" and is_own_file(path):
        loaded = load_weights(path)
        try:
            config = EncoderConfig.from_dict(loaded.config)
            _check(config, loaded.params)
        except (CheckpointError, ValueError) as error:
            raise CheckpointError(f"{path}: {error}") from error
        params, metadata = loaded.params, loaded.metadata
    else:
        with open_tensors(path) as tensors:
            config, params = convert_encoder(tensors, path=path)
        metadata = {"source": path.name}
    return LoadedEncoder(config=config, params=params, metadata=metadata, sha256=_checksum(path))


def read_encoder_config(name_or_path: str | os.PathLike[str] | None = None) -> EncoderConfig:
    """Return the architecture of what `load_encoder` takes, without reading its arrays.

    Raises:
        CheckpointError: as `load_encoder` does, for what names and shapes tell.
    """
    path = find_encoder(name_or_path)
    if not path.is_dir() and sniff(path) == "safetensors" and is_own_file(path):
        return load_encoder(path).config
    with open_tensors(path) as tensors:
        return _inspect(tensors, path=path).config


def convert_encoder(tensors: Tensors, *, path: Path) -> tuple[EncoderConfig, Params]:
    """Bring a published encoder into our names and layouts; `path` is what errors speak of.

    Raises:
        CheckpointError: if it is not a whole one, or one that `Encoder` does not run.
    """
    found = _inspect(tensors, path=path)
    if found.outside:
        _logger.info("%s: %d tensors are not the encoder's and left out", path, len(found.outside))
    flat = {
        name.ours: convert(tensors.read(found.prefix + name.theirs), name=name)
        for name in found.table
    }
    token = flat.pop("class_token")[None]
    if not found.spelling.is_rotary:
        table = tensors.read(found.prefix + POSITIONS[found.spelling.dialect])
        token = token + table[0, :1].astype(np.float32)
    rows = [token, flat.pop("registers")] if found.spelling.registers else [token]
    flat["vit.prefix_tokens"] = copy_aligned(np.concatenate(rows), np.float32)
    if "periods" in flat:
        _check_periods(flat.pop("periods"), path=path)
    for index in range(found.config.depth):
        _join_parts(flat, f"vit.blocks.{index}.")
        _mask_bias(flat, f"vit.blocks.{index}.attn.", path=path)
    return found.config, unflatten(flat)


@dataclass(frozen=True, kw_only=True)
class _Inspected:
    """What the names and shapes of a published encoder tell."""

    spelling: Spelling
    config: EncoderConfig
    prefix: str  # before every name in the file
    table: list[Name]
    outside: list[str]  # other names of the file


def _inspect(tensors: Tensors, *, path: Path) -> _Inspected:
    """Check the names and shapes of a published encoder."""
    prefix, dialect = _recognise(path, tensors.infos)
    inside = {name.removeprefix(prefix) for name in tensors.infos if name.startswith(prefix)}
    outside = [name for name in tensors.infos if not name.startswith(prefix)]
    spelling = recognise_spelling(inside, dialect)
    blocks = _list_blocks(inside, find_blocks(inside, dialect))
    table = encoder_name_table(spelling, blocks=blocks)
    values = check_tensors(
        path,
        tensors,
        table,
        prefix,
        model=_NAMES[spelling.family],
        spare=outside + [prefix + name for name in UNUSED],
        values=first_letters(tensors, [prefix + name.theirs for name in table]),
    )
    try:
        config = infer_encoder(spelling, values, depth=len(blocks), published=tensors.config)
    except (ShapeError, ValueError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    return _Inspected(spelling=spelling, config=config, prefix=prefix, table=table, outside=outside)


def _check(config: EncoderConfig, params: Params) -> None:
    """Make sure that arrays are those of a model."""
    abstract = nnx.eval_shape(lambda: Encoder(config, rngs=Keys(0)))
    graft(nnx.as_pure(nnx.state(abstract, nnx.Param)), params)


def _recognise(path: Path, names: Collection[str]) -> tuple[str, Dialect]:
    """Return what stands before an encoder's names, and whose names they are."""
    dialects: tuple[Dialect, ...] = ("huggingface", "authors")
    for dialect in dialects:
        prefixes = {
            name.removesuffix(ending)
            for name in names
            for ending in ANCHORS[dialect]
            if name == ending or name.endswith("." + ending)
        }
        if len(prefixes) > 1:
            found = ", ".join(sorted(repr(prefix[:80]) for prefix in prefixes)[:2])
            raise CheckpointError(f"{path}: more than one encoder in a file (below {found})")
        if prefixes:
            return prefixes.pop(), dialect
    example = next(iter(names), "")[:80]
    raise CheckpointError(
        f"{path}: not a ViT of DINOv2 or DINOv3; it holds {len(names)} tensors such as {example!r}"
    )


def _list_blocks(names: Collection[str], prefix: str) -> list[str]:
    """Return what the names of each block start with, in order.

    The authors' training code also writes them in chunks: `blocks.CHUNK.BLOCK`. A number that is
    skipped is in the list all the same, and its arrays are then missing.
    """
    pattern = re.compile(re.escape(prefix) + r"(\d{1,4}(?:\.\d{1,4})?)\.")
    found = {match[1] for name in names if (match := pattern.match(name))}
    by_index = {int(number.split(".")[-1]): number for number in found}
    numbers = (by_index.get(index, str(index)) for index in range(max(1, len(found))))
    return [f"{prefix}{number}." for number in numbers]


def _join_parts(flat: dict[str, np.ndarray], block: str) -> None:
    """Put layers that stand side by side behind each other, as one layer.

    A part without a bias has zeros: the keys of Hugging Face's DINOv3.
    """
    for joined, parts in _JOINED.items():
        if f"{block}{parts[0]}.kernel" not in flat:
            continue
        kernels = [flat.pop(f"{block}{part}.kernel") for part in parts]
        width = kernels[0].shape[1]
        none = np.zeros(width, np.float32)
        biases = [flat.pop(f"{block}{part}.bias", none) for part in parts]
        for array, values in (("kernel", kernels), ("bias", biases)):
            whole = empty_aligned((*values[0].shape[:-1], len(parts) * width), np.float32)
            flat[f"{block}{joined}.{array}"] = np.concatenate(values, axis=-1, out=whole)


def _mask_bias(flat: dict[str, np.ndarray], attention: str, *, path: Path) -> None:
    """Apply the mask that DINOv3's authors keep beside a bias (LinearKMaskedBias)."""
    mask = flat.pop(f"{attention}bias_mask", None)
    if mask is None:
        return
    if not np.isin(mask, (0, 1)).all():
        name = f"{attention}qkv.bias_mask".removeprefix("vit.")
        raise CheckpointError(f"{path}: {name} is not made of 0 and 1; get the file again")
    flat[f"{attention}qkv.bias"] *= mask


def _check_periods(periods: np.ndarray, *, path: Path) -> None:
    """Make sure that positions turn queries and keys as `seggpt.vit.make_rotation` does."""
    wanted = ROTARY_BASE ** (np.arange(len(periods)) / len(periods))
    if not np.allclose(periods, wanted, rtol=_PERIOD_ERROR, atol=0):
        raise CheckpointError(
            f"{path}: {PERIODS} are not the powers of {ROTARY_BASE:g} that DINOv3's ViTs have"
        )


def _checksum(path: Path) -> str:
    """Return the SHA-256 of a file; that of a list of theirs for a folder's shards."""
    sums = [file_sha256(file) for file in list_files(path)]
    return sums[0] if len(sums) == 1 else hashlib.sha256("\n".join(sums).encode()).hexdigest()
