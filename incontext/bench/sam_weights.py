"""Random weights for a promptable model, the same for every implementation that is measured.

Masks of independent random numbers are noise that nobody would keep. These weights make blobs:
positions are smooth over the picture, and the decoder's four pixels of a patch's side are alike.
"""

import math
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from seggpt.config import SAMConfig
from seggpt.resize import bilinear_matrix
from seggpt.weights.layouts import convert
from seggpt.weights.names import Name
from seggpt.weights.sam.names import TWINS, sam_name_table
from seggpt.weights.tree import unflatten

State = dict[str, Float32[np.ndarray, "..."]]
_BLOBS = 5  # along a side of the picture
_SHARPNESS = np.float32(32.0)  # logits of tens, as trained masks have


def draw_state(config: SAMConfig) -> State:
    """Draw all weights, in torch's layouts under Hugging Face's names."""
    rng = np.random.default_rng(0)
    values = _values(config)
    state = {name.theirs: _draw(name, values, rng) for name in _table(config)}
    return state | {TWINS[1]: state[TWINS[0]]}


def to_params(state: State, config: SAMConfig) -> dict[Any, Any]:
    """Return weights as our model takes them."""
    return unflatten({n.ours: convert(state[n.theirs], name=n) for n in _table(config)})


def _table(config: SAMConfig) -> list[Name]:
    return sam_name_table(dialect="huggingface", depth=config.depth)


def _values(config: SAMConfig) -> dict[str, int]:
    """Return what the letters of the name table's shapes stand for."""
    rows = {
        f"r{index}": 2 * (config.grid if index in config.global_blocks else config.window_size) - 1
        for index in range(config.depth)
    }
    return rows | {
        "d": config.width,
        "p": config.patch_size,
        "g": config.grid,
        "k": config.width // config.heads,
        "m": int(config.width * config.mlp_ratio),
        "z": config.prompt_width // 8,
        "u": config.decoder_mlp,
        "i": config.mask_width // 4,
    }


def _draw(name: Name, values: dict[str, int], rng: np.random.Generator) -> np.ndarray:
    shape = tuple(
        math.prod(int(part) if part.isdigit() else values[part] for part in product.split("*"))
        for product in name.shape.split()
    )
    match name.layout:
        case "norm":
            return np.ones(shape, np.float32)
        case "bias":
            return np.zeros(shape, np.float32)
        case "lattice":
            return _smooth(shape, rng)
        case "upscale":
            array = np.broadcast_to(_normal((*shape[:2], 1, 1), rng), shape)
            return np.ascontiguousarray(array / math.sqrt(shape[0]))
        case "token" | "table":
            scale = 0.02 if "rel_pos" in name.theirs else 1.0
            return scale * _normal(shape, rng)
        case _ if name.theirs.endswith("proj_out.weight") and "hypernetworks" in name.theirs:
            return _SHARPNESS * _normal(shape, rng) / np.float32(math.sqrt(shape[1]))
        case _:
            return _normal(shape, rng) / np.float32(math.sqrt(math.prod(shape[1:])))


def _smooth(shape: tuple[int, ...], rng: np.random.Generator) -> Float32[np.ndarray, "1 g g d"]:
    """Draw a field over the picture that changes slowly."""
    up = bilinear_matrix(_BLOBS, shape[1]).astype(np.float32)
    coarse = _normal((_BLOBS, _BLOBS, shape[-1]), rng)
    return np.einsum("ga,hb,abd->ghd", up, up, coarse, optimize=True)[None]


def _normal(shape: tuple[int, ...], rng: np.random.Generator) -> Float[np.ndarray, "..."]:
    return rng.standard_normal(shape, np.float32)
