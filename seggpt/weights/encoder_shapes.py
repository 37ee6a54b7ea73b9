"""What shapes and a config.json say about an image encoder's architecture."""

import math
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from seggpt.config import EncoderConfig, choose_taps
from seggpt.weights.containers import Tensors
from seggpt.weights.encoder_names import PERIODS, Spelling
from seggpt.weights.shapes import ShapeError, check_fields, divide

HEAD_WIDTH = 64  # of every published size (hub/backbones.py of the authors)
# Fields of a Hugging Face config.json that change the computation and have one value here.
_FIXED: dict[str, dict[str, Any]] = {
    "dinov2": {
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
        "qkv_bias": True,
        "num_channels": 3,
        "mlp_ratio": 4,
    },
    "dinov3": {
        "layer_norm_eps": 1e-5,
        "rope_theta": 100,
        "query_bias": True,
        "key_bias": False,
        "value_bias": True,
        "proj_bias": True,
        "mlp_bias": True,
        "num_channels": 3,
    },
}


def first_letters(tensors: Tensors, names: Collection[str]) -> dict[str, int]:
    """Return what most arrays say of the width, so that a single wrong one is named as wrong.

    The giant's gated MLP has two thirds of a plain one's width, up to a multiple of 8
    (dinov2/layers/swiglu_ffn.py).
    """
    shapes = [tensors.infos[name].shape for name in names if name in tensors.infos]
    lengths = Counter(shape[0] for shape in shapes if len(shape) == 1)
    if not lengths:
        return {}
    width = lengths.most_common(1)[0][0]
    return {"d": width, "m": -(-int(4 * width * 2 / 3) // 8) * 8}


def infer_encoder(
    spelling: Spelling, values: Mapping[str, int], *, depth: int, published: Mapping[str, Any]
) -> EncoderConfig:
    """Return the config that shapes have; `published` is a Hugging Face config.json, or empty.

    Raises:
        ShapeError: if they fit no table or heads, or the config.json contradicts them.
        ValueError: if they make no encoder.
    """
    width, gated = values["d"], spelling.gated
    heads = published.get("num_attention_heads")
    head_width = 4 * values["f"] if "f" in values else HEAD_WIDTH
    if "f" in values and (head_width < 1 or width % head_width):
        raise ShapeError(
            f"{PERIODS} has {values['f']} numbers, but heads of 4 times as many are no part of "
            f"a width of {width}"
        )
    if type(heads) is not int or heads < 1:
        heads = divide(width, head_width, "heads")
    others: dict[str, Any] = {}
    if spelling.is_rotary:
        others = {"positions": "rotary", "norm_epsilon": 1e-5}
    else:
        others["pos_grid"] = (_table_side(values["n"]),) * 2
    if gated:
        others["activation"] = "swiglu"
    if gated and not spelling.is_rotary:
        others["mlp_ratio"] = values["m"] / width
    config = EncoderConfig(
        patch_size=values["p"],
        width=width,
        depth=depth,
        heads=heads,
        registers=values.get("r", 0),
        taps=choose_taps(depth),
        **others,
    )
    _check_published(spelling, config, published)
    return config


def _table_side(rows: int) -> int:
    side = math.isqrt(rows - 1)
    if side < 1 or side**2 != rows - 1:
        raise ShapeError(f"a position table of {rows} rows is not a square and a class row")
    return side


def _check_published(
    spelling: Spelling, config: EncoderConfig, published: Mapping[str, Any]
) -> None:
    wanted: dict[str, Any] = {
        "hidden_size": config.width,
        "num_attention_heads": config.heads,
        "num_register_tokens": config.registers,
        "num_hidden_layers": config.depth,
        "patch_size": config.patch_size,
    }
    if spelling.is_rotary:
        wanted |= {
            "hidden_act": "silu" if spelling.gated else "gelu",
            "use_gated_mlp": spelling.gated,
            "intermediate_size": 4 * config.width,
        }
    else:
        wanted |= {
            "image_size": config.pos_grid[0] * config.patch_size,
            "use_swiglu_ffn": spelling.gated,
        }
    check_fields(published, _FIXED[spelling.family] | wanted)
