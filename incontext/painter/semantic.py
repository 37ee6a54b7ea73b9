"""Semantic segmentation: one fixed colour a class.

Source: Painter/data/ade20k/gen_color_ade20k_sem.py, Painter/data/coco_semseg/
gen_color_coco_panoptic_segm.py and, for decoding, Painter/eval/{ade20k_semantic,coco_panoptic}/
*SemSegEvaluatorCustom.py.
"""

import numpy as np
from jaxtyping import Int16, Int32, Integer, UInt8

from incontext.painter.levels import Painted, color_distances, grey_levels
from seggpt.errors import InputError

IGNORE = 255
"""The label of pixels without a class. Painter paints them black and leaves them out of its loss;
it never learns to paint "no class", so decoding never returns this label."""


def _lattice(classes: int, *, base: int) -> UInt8[np.ndarray, "k 3"]:
    """Count down from white in steps of 256 // base, blue fastest."""
    index = np.arange(classes)
    digits = np.stack([index // base**2, index // base % base, index % base], axis=1)
    colors = (255 - 256 // base * digits).astype(np.uint8)
    colors.setflags(write=False)
    return colors


ADE20K_COLORS = _lattice(150, base=int(150 ** (1 / 3)) + 1)
"""ADE20K's 150 classes: step 42. Row k is the class that ADE20K's own files number k + 1."""

COCO_COLORS = _lattice(133, base=7)
"""COCO panoptic's 133 categories in the order of panoptic_coco_categories.json, 80 things and then
53 stuff: step 36. The reference fixes base 7, where ADE20K's rule would give 6."""


def encode_semantic(
    labels: Integer[np.ndarray, "h w"], colors: UInt8[np.ndarray, "k 3"]
) -> UInt8[np.ndarray, "h w 3"]:
    """Paint labels 0..k-1 with their colours, and `IGNORE` black.

    Raises:
        InputError: A label has no colour.
    """
    ignored = labels == IGNORE
    wrong = labels[~ignored & ((labels < 0) | (labels >= len(colors)))]
    if wrong.size:
        raise InputError(
            f"labels holds {wrong[0]}; labels are 0..{len(colors) - 1}, or {IGNORE} for none"
        )
    painted = colors[np.where(ignored, 0, labels)]
    painted[ignored] = 0
    return painted


def semantic_distances(
    rgb: Painted, colors: UInt8[np.ndarray, "k 3"]
) -> Int16[np.ndarray, "h w k"]:
    """Measure how far each pixel is from each class's colour: L1 over the channels, 0..765.

    Raises:
        InputError: `rgb` is no painted picture.
    """
    return color_distances(grey_levels(rgb), colors)


def decode_semantic(rgb: Painted, colors: UInt8[np.ndarray, "k 3"]) -> Int32[np.ndarray, "h w"]:
    """Give every pixel the class of the nearest colour, the first of equals, never background.

    The reference resizes to the picture's size first (bilinear, not antialiased).

    Raises:
        InputError: `rgb` is no painted picture, or there are no colours.
    """
    if len(colors) == 0:
        raise InputError("colors is empty; pass a colour a class, such as ADE20K_COLORS")
    return semantic_distances(rgb, colors).argmin(axis=-1).astype(np.int32)
