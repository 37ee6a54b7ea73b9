"""Which relative of SAM a checkpoint is, and how its tensors become ours.

Constants that leave no trace in the shapes are those of the authors' build_sam.py (MobileSAM) and
build_efficient_sam.py (EfficientSAM), and stand at the top of this file.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from seggpt.config import SAM_MODEL
from seggpt.errors import CheckpointError
from seggpt.weights.names import Dialect, Name
from seggpt.weights.sam.family_names import (
    EFFICIENT_MARK,
    HQ_TOKENS,
    NORM_PARTS,
    TINY_STAGES,
    TINY_STEM,
    TINY_UNUSED,
    efficient_name_table,
    hq_name_table,
    stage_widths,
    tiny_vit_name_table,
)
from seggpt.weights.sam.names import BLOCK_PREFIXES, heads_name_table, sam_name_table
from seggpt.weights.sam.shapes import DECODER_HEADS, infer_sam_config
from seggpt.weights.shapes import ShapeError, divide

READ = "SAM, HQ-SAM, MobileSAM and EfficientSAM"
IMAGE_SIZE = 1024  # of MobileSAM and EfficientSAM
_HEAD_WIDTH = 64  # of EfficientSAM's ViTs
_NORM_EPSILON = 1e-5  # torch's default for batch norms
_EARLY_STAGE = 2  # whose width a TinyViT's early features have
_COUNTER = ".bn.num_batches_tracked"  # of torch's batch norms in training

# What a tensor's name must hold somewhere. SAM 3 has parts that are called as SAM 2's, and EdgeTAM
# is a SAM 2 with another encoder and a perceiver, so they come first.
_UNREAD: dict[str, tuple[str, ...]] = {
    "SAM 3": (
        "detector.backbone.",
        "detector_model.",
        "geometry_encoder.",
        "detr_encoder.",
        "presence_token",
        "vision_encoder.backbone.layers.",
    ),
    "EdgeTAM": ("spatial_perceiver.", "image_encoder.trunk.body.", "backbone.timm_model."),
    "SAM 2": (
        "obj_score_token",
        "memory_attention.",
        "image_encoder.trunk.",
        "no_memory_embedding",
        "sam_mask_decoder.",
    ),
    "EfficientViT-SAM": ("image_encoder.backbone.",),
    "FastSAM": ("model.22.cv4.", "model.22.proto."),
}


def refuse_unread(path: Path, names: Collection[str]) -> None:
    """Name a relative that is known and not read.

    Raises:
        CheckpointError: It is one.
    """
    for title, marks in _UNREAD.items():
        if any(mark in name for name in names for mark in marks):
            raise CheckpointError(
                f"{path}: a {title} checkpoint, which is not read; of SAM and its relatives "
                f"{READ} are"
            )


def recognise_relative(names: Collection[str]) -> "Relative":
    """Tell what a checkpoint with some of SAM's names is of; SAM, if nothing says otherwise."""
    if EFFICIENT_MARK in names:
        return Relative(encoder="plain", decoder="efficient")
    tiny = any(name.startswith((TINY_STEM, TINY_STAGES)) for name in names)
    hq = any(token in names for token in HQ_TOKENS.values())
    return Relative(encoder="tiny_vit" if tiny else "vit", decoder="hq" if hq else "sam")


@dataclass(frozen=True, kw_only=True)
class Relative:
    """SAM or a relative: which image encoder a checkpoint has, and which heads."""

    encoder: Literal["vit", "tiny_vit", "plain"]
    decoder: Literal["sam", "hq", "efficient"]

    @property
    def title(self) -> str:
        """What people call it."""
        if self.decoder == "efficient":
            return "EfficientSAM"
        tiny = self.encoder == "tiny_vit"
        if self.decoder == "hq":
            return "Light HQ-SAM" if tiny else "HQ-SAM"
        return "MobileSAM" if tiny else "SAM"

    def name_table(self, names: Collection[str], *, dialect: Dialect, twin: str) -> list[Name]:
        """List every array that a checkpoint with these tensors should hold."""
        if self.decoder == "efficient":
            return efficient_name_table(_count(names, BLOCK_PREFIXES["authors"]))
        early = "d"
        if self.encoder == "tiny_vit":
            depths = _stage_depths(names)
            dialect, early = "authors", stage_widths(len(depths))[_EARLY_STAGE]
            table = tiny_vit_name_table(depths) + heads_name_table(dialect=dialect)
        else:
            depth = _count(names, BLOCK_PREFIXES[dialect])
            table = sam_name_table(dialect=dialect, depth=depth, twin=twin)
        return table + (hq_name_table(dialect=dialect, early=early) if self.decoder == "hq" else [])

    def unused(self, names: Collection[str]) -> list[str]:
        """List what such checkpoints hold besides, and nothing reads."""
        if self.encoder != "tiny_vit":
            return []
        return [*TINY_UNUSED, *(name for name in names if name.endswith(_COUNTER))]

    def infer_config(
        self,
        values: Mapping[str, int],
        names: Collection[str],
        *,
        dialect: Dialect,
        published: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Return the fields of `SAMConfig` as JSON holds them, of the letters of the shapes.

        Raises:
            ShapeError: if the shapes fit no picture, heads or windows, or a config.json contradicts
                them.
        """
        if self.encoder == "tiny_vit":
            config = _tiny_vit_config(values, _stage_depths(names))
        elif self.encoder == "plain":
            config = _plain_config(values, _count(names, BLOCK_PREFIXES["authors"]))
        else:
            depth = _count(names, BLOCK_PREFIXES[dialect])
            config = infer_sam_config(values, depth=depth, published=published)
        return config | ({"decoder": self.decoder} if self.decoder != "sam" else {})

    def finish(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Put batch norms into the convolutions before them."""
        return _fold(arrays) if self.encoder == "tiny_vit" else arrays


def _count(names: Collection[str], prefix: str) -> int:
    """Count the numbers after a prefix, at least 1; if some are skipped, names show it later."""
    return max(
        1, len({n.removeprefix(prefix).split(".")[0] for n in names if n.startswith(prefix)})
    )


def _stage_depths(names: Collection[str]) -> list[int]:
    """Return how many blocks each stage of a TinyViT has."""
    stages = max(3, _count(names, TINY_STAGES))
    return [_count(names, f"{TINY_STAGES}{stage}.blocks.") for stage in range(stages)]


def _tiny_vit_config(values: Mapping[str, int], depths: list[int]) -> dict[str, Any]:
    widths = [2 * values["e"]]
    widths += [values[letter] for letter in stage_widths(len(depths))[1:]]
    # The first stage has no attention; the numbers are those of the published model.
    stages = [[widths[0], depths[0], 2, 7]]
    for index in range(1, len(depths)):
        window = math.isqrt(values[f"v{index}"])
        if window**2 != values[f"v{index}"]:
            raise ShapeError(f"a table of {values[f'v{index}']} biases is of no square window")
        divide(widths[index], values[f"h{index}"], "heads")
        stages.append([widths[index], depths[index], values[f"h{index}"], window])
    patch = 1 << len(stages)
    shape = (widths[-1], depths[-1], values[f"h{len(depths) - 1}"])
    if IMAGE_SIZE % patch:
        raise ShapeError(f"{len(stages)} stages do not divide a picture of {IMAGE_SIZE} pixels")
    return _config(values, patch=patch, shape=shape) | {"stages": stages}


def _plain_config(values: Mapping[str, int], depth: int) -> dict[str, Any]:
    side = math.isqrt(values["n"] - 1)
    if side < 1 or side**2 != values["n"] - 1:
        raise ShapeError(f"a position table of {values['n']} rows is not a square and a class row")
    if IMAGE_SIZE % values["p"]:
        raise ShapeError(f"patches of {values['p']} do not divide a picture of {IMAGE_SIZE} pixels")
    heads = divide(values["d"], min(_HEAD_WIDTH, values["d"]), "heads")
    config = _config(values, patch=values["p"], shape=(values["d"], depth, heads))
    return config | {"pos_side": side, "mlp_ratio": values["m"] / values["d"]}


def _config(
    values: Mapping[str, int], *, patch: int, shape: tuple[int, int, int]
) -> dict[str, Any]:
    width, depth, heads = shape
    if 4 * values["z"] % DECODER_HEADS:
        raise ShapeError(
            f"a mask decoder of width {8 * values['z']} does not divide into {DECODER_HEADS}"
        )
    return {
        "model": SAM_MODEL,
        "image_size": IMAGE_SIZE,
        "patch_size": patch,
        "width": width,
        "depth": depth,
        "heads": heads,
        "window_size": 0,
        "global_blocks": [],
        "prompt_width": 8 * values["z"],
        "mask_width": 4 * values.get("i", 4),
        "decoder_heads": DECODER_HEADS,
        "decoder_mlp": values["u"],
    }


def _fold(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Scale each kernel as the batch norm after it does, and give it the rest as a bias."""
    folded = dict(arrays)
    suffix = ".norm_scale"
    for base in [name.removesuffix(suffix) for name in arrays if name.endswith(suffix)]:
        scale, bias, mean, spread = (folded.pop(f"{base}.{part}") for part in NORM_PARTS)
        factor = scale / np.sqrt(spread + _NORM_EPSILON)
        folded[f"{base}.kernel"] *= factor  # of our layouts the last axis is that of the outputs
        folded[f"{base}.bias"] = bias - mean * factor
    return folded
