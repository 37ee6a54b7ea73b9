"""What the shapes of a SAM checkpoint say about its architecture, and the little they do not."""

from collections.abc import Mapping
from typing import Any

from seggpt.config import SAM_MODEL
from seggpt.weights.shapes import ShapeError, check_fields, divide

# Leaves no trace in the shapes: build_sam.py of the authors, for all three models.
DECODER_HEADS = 8
# Fields of a Hugging Face config.json that change the computation and have one value here. The
# epsilon of its decoder's norms is 1e-6 there; the weights were made with the authors' 1e-5.
_FIXED = {
    "vision_config": {
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
        "qkv_bias": True,
        "use_abs_pos": True,
        "use_rel_pos": True,
        "num_channels": 3,
    },
    "prompt_encoder_config": {"hidden_act": "gelu", "layer_norm_eps": 1e-6},
    "mask_decoder_config": {"hidden_act": "relu", "num_hidden_layers": 2, "iou_head_depth": 3},
}


def infer_sam_config(
    values: Mapping[str, int], *, depth: int, published: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the fields of `SAMConfig` as JSON holds them.

    `values` are the letters of `sam_names.py`; `published` is a Hugging Face config.json, or empty.

    Raises:
        ShapeError: if the shapes fit no picture, heads or windows, or the config.json contradicts
            them or asks for what this model cannot do.
    """
    grid = values["g"]
    window, global_blocks = _windows([values[f"r{index}"] for index in range(depth)], grid)
    sections = {name: _section(published, name) for name in _FIXED}
    heads = sections["mask_decoder_config"].get("num_attention_heads", DECODER_HEADS)
    if type(heads) is not int or heads < 1 or 4 * values["z"] % heads:
        raise ShapeError(f"a mask decoder of width {8 * values['z']} does not divide into {heads}")
    config = {
        "model": SAM_MODEL,
        "image_size": grid * values["p"],
        "patch_size": values["p"],
        "width": values["d"],
        "depth": depth,
        "heads": divide(values["d"], values["k"], "heads"),
        "window_size": window,
        "global_blocks": global_blocks,
        "mlp_ratio": values["m"] / values["d"],
        "prompt_width": 8 * values["z"],
        "mask_width": 4 * values["i"],
        "decoder_heads": heads,
        "decoder_mlp": values["u"],
    }
    wanted = {
        "vision_config": {
            "image_size": config["image_size"],
            "hidden_size": config["width"],
            "num_hidden_layers": depth,
            "num_attention_heads": config["heads"],
            **({"window_size": window, "global_attn_indexes": global_blocks} if window else {}),
        },
        "prompt_encoder_config": {"image_size": config["image_size"]},
        "mask_decoder_config": {},
    }
    for name, section in sections.items():
        check_fields(section, _FIXED[name] | wanted[name])
    return config


def _windows(rows: list[int], grid: int) -> tuple[int, list[int]]:
    """Return the side of the windows and the blocks without, from the rows of relative tables."""
    whole = 2 * grid - 1
    sides = sorted({count for count in rows if count != whole})
    if len(sides) > 1 or any(count % 2 == 0 or count > whole for count in sides):
        raise ShapeError(
            f"relative tables of {', '.join(map(str, sides))} rows do not belong to windows of one "
            f"size in a picture of {grid} patches"
        )
    if not sides:
        return 0, []
    return (sides[0] + 1) // 2, [index for index, count in enumerate(rows) if count == whole]


def _section(published: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = published.get(name) or {}
    if not isinstance(section, Mapping):
        raise ShapeError(f"config.json: {name} must be an object")
    return section
