"""What the shapes in a mask say of its values: soft edges, or the thin border of VOC's masks."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import scipy.ndimage
from jaxtyping import Bool, Integer, UInt8

IGNORE = 255
"""The label of pixels that count neither as an object nor as background (VOC's "void")."""

VOC_VOID = (224, 224, 192)
"""The colour of `IGNORE` in the palette of PASCAL VOC."""


def _make_voc_palette() -> UInt8[np.ndarray, "256 3"]:
    """Interleave the bits of the index: bit 3i goes to red, 3i + 1 to green, 3i + 2 to blue."""
    index = np.arange(256)[:, None]
    palette = np.zeros((256, 3), np.uint8)
    for i in range(8):
        bits = index >> (3 * i + np.arange(3)) & 1
        palette |= (bits << (7 - i)).astype(np.uint8)
    palette.flags.writeable = False
    return palette


VOC_PALETTE = _make_voc_palette()
"""The colours of the PASCAL VOC and DAVIS label files (VOCdevkit's VOClabelcolormap)."""

# Data sets that mark borders with 255 have labels up to the first of these (COCO's 91), and those
# that mark regions with it up to below the last (COCO-Stuff's 182). Grey levels that stand for
# classes (0, 85, 170, 255) begin above the second, or end above the last.
_SMALL_LABELS, _FIRST_LEVEL, _LAST_LEVEL = 91, 24, 183
_MIXED_PIXELS, _MIXED_SHARE = 50, 0.1  # of all objects
_BORDER_PX = 4  # half the width of a border at most; more in pictures above 400 pixels
_BORDER_SHARE = 0.01  # of the longer side
_ENCLOSED = 0.4  # of the rim of all labels; in VOC nearly all, in single masks less


def is_flat(values: Bool[np.ndarray, "h w"] | Integer[np.ndarray, "h w"]) -> bool:
    """Whether most values stand in flat parts, as labels do; values of soft edges do not."""
    if min(values.shape) == 1:
        return False  # a single row tells nothing
    padded = np.pad(values, 1, mode="edge")
    center = padded[1:-1, 1:-1]
    beside, above = np.zeros(values.shape, bool), np.zeros(values.shape, bool)
    beside[:, 1:] |= center[:, 1:] == center[:, :-1]
    beside[:, :-1] |= center[:, :-1] == center[:, 1:]
    above[1:] |= center[1:] == center[:-1]
    above[:-1] |= center[:-1] == center[1:]
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    inside = np.bincount(index.ravel(), (beside & above).ravel(), minlength=len(counts))
    return bool((inside < counts / 3).mean() <= 1 / 3)


def is_dithered(values: Integer[np.ndarray, "h w"]) -> bool:
    """Whether colours are mixed of others, pixel by pixel, inside of objects."""
    inner = values[1:-1, 1:-1]
    around = (values[:-2, 1:-1], values[2:, 1:-1], values[1:-1, :-2], values[1:-1, 2:])
    mixed = inner != 0
    for beside in around:
        mixed &= (beside != 0) & (beside != inner)
    count = int(mixed.sum())
    return count >= _MIXED_PIXELS and count >= _MIXED_SHARE * int((inner != 0).sum())


def judge_255(
    values: Integer[np.ndarray, "h w"],
    others: Sequence[int],
    *,
    palette: Mapping[int, tuple[int, int, int]],
) -> Literal["ignored", "label", "unclear"]:
    """Say what 255 means beside other labels in an 8-bit mask.

    It is ignored as a thin border around small labels, or in the colour of VOC's void. It is a
    label beside grey levels, or labels that run up to it. A solid part of 255 beside small labels
    is unclear: data sets mark unlabelled regions so, and people a class.
    """
    if palette.get(IGNORE) == VOC_VOID:
        return "ignored"
    if others[-1] <= _SMALL_LABELS and _is_border(values, others):
        return "ignored"
    if others[0] >= _FIRST_LEVEL or others[-1] >= _LAST_LEVEL:
        return "label"
    return "unclear"


def _is_border(values: Integer[np.ndarray, "h w"], others: Sequence[int]) -> bool:
    border = values == IGNORE
    labelled = np.isin(values, others)
    # The rim of the picture does not make a border thinner.
    padded = np.pad(border, 1, mode="edge")
    depth = np.asarray(scipy.ndimage.distance_transform_edt(padded))[1:-1, 1:-1]
    limit = max(_BORDER_PX, _BORDER_SHARE * max(values.shape))
    if np.percentile(depth[border], 95) > limit:
        return False
    grown = np.asarray(scipy.ndimage.binary_dilation(labelled, np.ones((3, 3), bool)), bool)
    rim = grown & ~labelled
    return not rim.any() or bool(border[rim].mean() >= _ENCLOSED)
