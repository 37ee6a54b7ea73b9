"""Weights of image encoders: our own files, and DINOv2 as its authors and Hugging Face have it."""

import hashlib
import logging
import math
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from seggpt.config import EncoderConfig
from seggpt.encoder import Encoder
from seggpt.errors import CheckpointError
from seggpt.pretrained import find_encoder
from seggpt.weights.aligned import copy_aligned, empty_aligned
from seggpt.weights.checking import check_tensors
from seggpt.weights.containers import Tensors, list_files, open_tensors
from seggpt.weights.encoder_names import (
    BLOCKS,
    CLASS_TOKEN,
    GATED,
    POSITIONS,
    REGISTERS,
    UNUSED,
    encoder_name_table,
)
from seggpt.weights.files import file_sha256, is_own_file, load_weights
from seggpt.weights.graft import graft
from seggpt.weights.layouts import convert
from seggpt.weights.names import Dialect
from seggpt.weights.shapes import ShapeError, check_fields, divide
from seggpt.weights.sniff import sniff
from seggpt.weights.tree import Params, unflatten

HEAD_WIDTH = 64  # of every DINOv2 (hub/backbones.py of its authors)
# Where the blocks that are read end, as shares of the depth: 6, 9 and 11 of twelve.
_TAPS = (6, 9, 11)
_TWELVE = 12
# Fields of a Hugging Face config.json that change the computation and have one value here.
_FIXED = {
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
    "qkv_bias": True,
    "num_channels": 3,
    "mlp_ratio": 4,
    "use_swiglu_ffn": False,
}
_JOINED = ("query", "key", "value")

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

    Takes our own files, and DINOv2 with or without registers as a `.safetensors` file, a Hugging
    Face folder or a `.pth`, in its authors' or in Hugging Face's names, alone or inside a network
    whose other parts are left out.

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


def convert_encoder(tensors: Tensors, *, path: Path) -> tuple[EncoderConfig, Params]:
    """Bring a published DINOv2 into our names and layouts; `path` is what errors speak of.

    Raises:
        CheckpointError: if it is not a whole DINOv2, or one that `Encoder` does not run.
    """
    prefix, dialect = _recognise(path, tensors.infos)
    inside = {name.removeprefix(prefix) for name in tensors.infos if name.startswith(prefix)}
    if any(name.endswith(GATED) for name in inside):
        raise CheckpointError(
            f"{path}: a DINOv2 with gated MLPs (SwiGLU, the giant size), which is not supported; "
            "use small, base or large"
        )
    blocks = _list_blocks(inside, BLOCKS[dialect])
    registers = REGISTERS[2 if dialect == "huggingface" else 1] in inside
    table = encoder_name_table(dialect=dialect, blocks=blocks, registers=registers)
    outside = [name for name in tensors.infos if not name.startswith(prefix)]
    spare = outside + [prefix + name for name in UNUSED]
    values = check_tensors(path, tensors, table, prefix, model="DINOv2", spare=spare)
    try:
        config = _infer_config(values, depth=len(blocks), published=tensors.config)
    except (ShapeError, ValueError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    if outside:
        _logger.info("%s: %d tensors are not the encoder's and left out", path, len(outside))
    flat = {name.ours: convert(tensors.read(prefix + name.theirs), name=name) for name in table}
    position = tensors.read(prefix + POSITIONS[dialect])[0, :1].astype(np.float32)
    prefixes = [flat.pop("class_token")[None] + position]
    if registers:
        prefixes.append(flat.pop("registers"))
    flat["vit.prefix_tokens"] = copy_aligned(np.concatenate(prefixes), np.float32)
    if dialect == "huggingface":
        _join_heads(flat, depth=len(blocks))
    return config, unflatten(flat)


def _check(config: EncoderConfig, params: Params) -> None:
    """Make sure that arrays are those of a model."""
    abstract = nnx.eval_shape(lambda: Encoder(config, rngs=nnx.Rngs(0)))
    graft(nnx.as_pure(nnx.state(abstract, nnx.Param)), params)


def _recognise(path: Path, names: Collection[str]) -> tuple[str, Dialect]:
    """Return what stands before an encoder's names, and whose names they are."""
    dialects: tuple[Dialect, ...] = ("huggingface", "authors")
    for dialect in dialects:
        known = {CLASS_TOKEN[dialect], POSITIONS[dialect]}
        prefixes = {
            name.removesuffix(ending)
            for name in names
            for ending in known
            if name == ending or name.endswith("." + ending)
        }
        if len(prefixes) > 1:
            found = ", ".join(sorted(repr(prefix[:80]) for prefix in prefixes)[:2])
            raise CheckpointError(f"{path}: more than one encoder in a file (below {found})")
        if prefixes:
            return prefixes.pop(), dialect
    example = next(iter(names), "")[:80]
    raise CheckpointError(
        f"{path}: not a DINOv2 checkpoint; it holds {len(names)} tensors such as {example!r}"
    )


def _list_blocks(names: Collection[str], prefix: str) -> list[str]:
    """Return the blocks as the names number them, in order.

    The authors' training code also writes them in chunks: `blocks.CHUNK.BLOCK`. A number that is
    skipped is in the list all the same, and its arrays are then missing.
    """
    pattern = re.compile(re.escape(prefix) + r"(\d{1,4}(?:\.\d{1,4})?)\.")
    found = {match[1] for name in names if (match := pattern.match(name))}
    by_index = {int(number.split(".")[-1]): number for number in found}
    return [by_index.get(index, str(index)) for index in range(max(1, len(found)))]


def _infer_config(
    values: Mapping[str, int], *, depth: int, published: Mapping[str, Any]
) -> EncoderConfig:
    """Return the config that shapes have; `published` is a Hugging Face config.json, or empty."""
    width, patch = values["d"], values["p"]
    side = math.isqrt(values["n"] - 1)
    if side < 1 or side**2 != values["n"] - 1:
        raise ShapeError(f"a position table of {values['n']} rows is not a square and a class row")
    heads = published.get("num_attention_heads")
    if type(heads) is not int or heads < 1:
        heads = divide(width, HEAD_WIDTH, "heads")
    config = EncoderConfig(
        patch_size=patch,
        width=width,
        depth=depth,
        heads=heads,
        pos_grid=(side, side),
        registers=values.get("r", 0),
        taps=tuple(-(-depth * tap // _TWELVE) - 1 for tap in _TAPS),
    )
    wanted = {
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_register_tokens": config.registers,
        "num_hidden_layers": depth,
        "patch_size": patch,
        "image_size": side * patch,
    }
    check_fields(published, _FIXED | wanted)
    return config


def _join_heads(flat: dict[str, np.ndarray], *, depth: int) -> None:
    """Put the layers for query, key and value behind each other, as one layer."""
    for index in range(depth):
        attention = f"vit.blocks.{index}.attn."
        for array in ("kernel", "bias"):
            parts = [flat.pop(f"{attention}{part}.{array}") for part in _JOINED]
            *rows, width = parts[0].shape
            joined = empty_aligned((*rows, len(parts) * width), np.float32)
            flat[f"{attention}qkv.{array}"] = np.concatenate(parts, axis=-1, out=joined)


def _checksum(path: Path) -> str:
    """Return the SHA-256 of a file; that of a list of theirs for a folder's shards."""
    sums = [file_sha256(file) for file in list_files(path)]
    return sums[0] if len(sums) == 1 else hashlib.sha256("\n".join(sums).encode()).hexdigest()
