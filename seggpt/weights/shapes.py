"""What the shapes of a checkpoint say about its architecture, and the little that they do not.

`merge_block` and `taps` leave no trace in the shapes: they come from a Hugging Face config.json, or
are those of the published models. All such values stand at the top of this file.
"""

import math
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

# Of the authors' models_seggpt.py and models_painter.py, function ..._vit_large_patch16_...
MERGE_BLOCK = 2
# Fields of a Hugging Face config.json that change the computation and have one value here, and
# their values there if they are left out (transformers 5.23, configuration_seggpt.py).
_FIXED = {"hidden_act": "gelu", "layer_norm_eps": 1e-6, "qkv_bias": True, "num_channels": 3}
_HEADS, _IMAGE_SIZE = 16, 448  # only asked for where there are no relative tables to tell


class ShapeError(ValueError):
    """Shapes or config fields that contradict each other; one line without the file's name."""


def match_shape(pattern: str, *, shape: Sequence[int], values: dict[str, int]) -> bool:
    """Compare a shape with a pattern like "p*p*c t*d", learning letters not yet in `values`."""
    products = pattern.split()
    if len(products) != len(shape):
        return False
    return all(_match_extent(*pair, values) for pair in zip(products, shape, strict=True))


def spell_shape(pattern: str, *, values: Mapping[str, int]) -> str:
    """Write a pattern with the letters that are known as numbers."""
    extents: list[str] = []
    for product in pattern.split():
        known, letters = _split(product, values)
        number = [str(known)] if known != 1 or not letters else []
        extents.append("*".join(number + letters))
    return f"({', '.join(extents)})"


def infer_config(
    values: Mapping[str, int],
    *,
    depth: int,
    type_tokens: bool,
    published: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the fields of `SegGPTConfig` as JSON holds them.

    `values` are the letters of `names.py`, without k, v and w for a model without relative
    position; `published` is a Hugging Face config.json, or empty.

    Raises:
        ShapeError: if the shapes fit no picture or heads, or the config.json contradicts them or
            asks for what this model cannot do.
    """
    width, patch = values["d"], values["p"]
    rel_pos = "k" in values
    if rel_pos:
        heads, side = divide(width, values["k"], "heads"), _picture_side(values)
    else:
        heads = _published_int(published, "num_attention_heads", _HEADS)
        side = _published_int(published, "image_size", _IMAGE_SIZE)
        divide(width, heads, "heads")
    pos_side = math.isqrt(values["n"] - 1)
    if pos_side < 1 or pos_side**2 != values["n"] - 1:
        raise ShapeError(f"a position table of {values['n']} rows is not a square and a class row")
    merge_block, taps = _read_blocks(published, depth=depth, count=values["t"])
    config = {
        "image_size": side,
        "patch_size": patch,
        "width": width,
        "depth": depth,
        "heads": heads,
        "mlp_ratio": values["m"] / width,
        "pos_grid": [pos_side, pos_side],
        "decoder_width": values["c"],
        "merge_block": merge_block,
        "taps": taps,
        "attention": "mutual",
        "type_tokens": type_tokens,
        "rel_pos": rel_pos,
        "activation": "gelu",
    }
    _check_published(published, config)
    return config


def _match_extent(product: str, extent: int, values: dict[str, int]) -> bool:
    known, letters = _split(product, values)
    if letters:
        if len(letters) > 1 or not known or extent < known or extent % known:
            return False
        values[letters[0]] = extent // known
        return True
    return known == extent


def _split(product: str, values: Mapping[str, int]) -> tuple[int, list[str]]:
    """Return the product of the known factors, and the letters of the unknown ones."""
    known, letters = 1, []
    for factor in product.split("*"):
        if factor.isdigit() or factor in values:
            known *= int(factor) if factor.isdigit() else values[factor]
        else:
            letters.append(factor)
    return known, letters


def divide(whole: int, part: int, what: str) -> int:
    """Return how many parts of a size the width has.

    Raises:
        ShapeError: if they are not a whole number.
    """
    if part < 1 or whole < 1 or whole % part:
        raise ShapeError(f"a width of {whole} does not divide into {what} of {part}")
    return whole // part


def _picture_side(values: Mapping[str, int]) -> int:
    """Return the pixels along a picture: the tables span two stacked ones, see `ViTConfig.grid`."""
    grid = (values["w"] + 1) // 2
    if values["w"] != 2 * grid - 1 or values["v"] != 4 * grid - 1:
        raise ShapeError(
            f"relative tables of {values['v']} and {values['w']} rows do not belong to two "
            "stacked square pictures"
        )
    return grid * values["p"]


def _read_blocks(published: Mapping[str, Any], *, depth: int, count: int) -> tuple[int, list[int]]:
    """Return the merge block and the taps; by default the taps close equal parts of the depth."""
    ends = [-(-depth * (part + 1) // count) - 1 for part in range(count)]
    taps = published.get("intermediate_hidden_state_indices", ends)
    merge_block = published.get("merge_index", min(MERGE_BLOCK, ends[0]))
    is_list = isinstance(taps, list) and all(type(tap) is int and 0 <= tap < depth for tap in taps)
    if not is_list or len(taps) != count:
        raise ShapeError(
            f"config.json: intermediate_hidden_state_indices must be {count} blocks of {depth}"
        )
    if type(merge_block) is not int or not 0 <= merge_block <= min(taps):
        raise ShapeError(f"config.json: merge_index must be a block from 0 to {min(taps)}")
    return merge_block, taps


def _check_published(published: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Compare a config.json with what was found, and with what this model can do."""
    side, patch = config["image_size"], config["patch_size"]
    wanted = {
        **_FIXED,
        "hidden_size": config["width"],
        "num_hidden_layers": config["depth"],
        "num_attention_heads": config["heads"],
        "patch_size": patch,
        "mlp_dim": round(config["mlp_ratio"] * config["width"]),
        "decoder_hidden_size": config["decoder_width"],
        "image_size": [2 * side, side],
        "pretrain_image_size": config["pos_grid"][0] * patch,
        "use_relative_position_embeddings": config["rel_pos"],
    }
    check_fields(published, wanted)


def check_fields(published: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Compare the fields of a config.json with the values that they must have if they are there.

    Raises:
        ShapeError: naming the first that differs.
    """
    for field, value in wanted.items():
        given = published.get(field)
        same = given == value or (isinstance(given, list) and given == [value, value])
        if given is not None and not same:
            raise ShapeError(
                f"config.json: {field} is {reprlib.repr(given)}, but {value} is needed"
            )


def _published_int(published: Mapping[str, Any], field: str, default: int) -> int:
    """Return a positive number of config.json, the last of a list (width, of height and width)."""
    value = published.get(field, default)
    value = value[-1] if isinstance(value, list) and value else value
    if type(value) is not int or value < 1:
        raise ShapeError(f"config.json: {field} must be a positive number")
    return value
