"""Human keypoints in a crop of one person: red says how near, green and blue say which.

Source: Painter/eval/mmpose_custom/data/pipelines/custom_transform.py (encoding), model/top_down.py
(decoding) and configs/coco_256x192_*.py, which rest on mmpose 0.x: its `_msra_generate_target` and
the `default` post-processing of its `keypoints_from_heatmaps`. The config's `modulate_kernel` has
no effect under that post-processing.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from incontext.painter.levels import Painted, grey_levels
from seggpt.errors import InputError

_CROP = (256, 192)  # height and width of the reference's crops
_KERNEL_SIGMA_PX = 3.0  # of the red bump; it ends at 3 sigma

# A code is painted where mmpose's bump of sigma 1.5 is not zero. It spans 3 sigma to both sides,
# cut to whole pixels, which comes to 5 before the keypoint and 4 after it.
_CODE_BEFORE_PX, _CODE_AFTER_PX = 5, 4


def _codes() -> UInt8[np.ndarray, "17 2"]:
    index = np.arange(17)
    codes = (255 - 51 * np.stack([index // 5, index % 5], axis=1)).astype(np.uint8)
    codes.setflags(write=False)
    return codes


KEYPOINT_CODES = _codes()
"""Green and blue of COCO's 17 keypoints in COCO's order: a lattice of 5 x 5 levels, step 51."""

FLIP_PAIRS = ((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16))
"""COCO's left and right keypoints, which change places in a mirrored crop."""


@dataclass(frozen=True, eq=False)
class Keypoints:
    """COCO's 17 keypoints in pixels of the crop, x first; (-1, -1) of score 0 was not found."""

    xy: Float32[np.ndarray, "17 2"]
    scores: Float32[np.ndarray, " 17"]


def encode_keypoints(
    xy: Float[np.ndarray, "17 2"],
    visible: Bool[np.ndarray, " 17"],
    *,
    shape: tuple[int, int] = _CROP,
) -> UInt8[np.ndarray, "h w 3"]:
    """Paint the visible keypoints of a crop of `shape` (height, width); coordinates are its pixels.

    Keypoints are rounded to whole pixels. Where the codes of two meet, the nearer one's is painted.
    The reference cuts the crop from the person's box widened 1.25 times; that is the caller's part.

    Raises:
        InputError: A visible keypoint has no place.
        ValueError: `shape` is empty.
    """
    if min(shape) < 1:
        raise ValueError(f"shape is {shape}; pass height and width in pixels, such as {_CROP}")
    if not np.isfinite(xy[visible]).all():
        wrong = np.flatnonzero(visible & ~np.isfinite(xy).all(axis=1))
        raise InputError(f"xy of keypoint {wrong[0]} is {xy[wrong[0]]}; mark it as not visible")
    place = np.trunc(np.where(visible[:, None], xy, 0) + 0.5)[:, :, None, None]
    dx = np.arange(shape[1])[None, None, :] - place[:, 0]
    dy = np.arange(shape[0])[None, :, None] - place[:, 1]
    seen = visible[:, None, None]
    reach = 3 * _KERNEL_SIGMA_PX
    bumps = np.exp(-(dx**2 + dy**2).astype(np.float32) / np.float32(2 * _KERNEL_SIGMA_PX**2))
    bumps *= seen & (np.abs(dx) <= reach) & (np.abs(dy) <= reach)
    coded = seen & _is_coded(dx) & _is_coded(dy)
    # The strongest bump owns a pixel that several codes claim, even if its own code ends before.
    claims = coded.sum(axis=0)
    owner = np.where(claims > 1, bumps.argmax(axis=0), coded.argmax(axis=0))
    painted = np.zeros((*shape, 3), np.uint8)
    painted[..., 0] = bumps.max(axis=0) * 255
    painted[..., 1:] = np.where((claims > 0)[..., None], KEYPOINT_CODES[owner], 0)
    return painted


def keypoint_heatmaps(rgb: Painted) -> Float32[np.ndarray, "17 h w"]:
    """Split a painted crop into a heatmap for each keypoint, 0..1.

    A pixel's red goes to the keypoint whose code is nearest in green and blue (L1), or to none if
    (0, 0) is. The reference resizes to the crop first (nearest) and reads whole levels.

    Raises:
        InputError: `rgb` is no painted picture.
    """
    levels = grey_levels(rgb)
    codes = np.concatenate([KEYPOINT_CODES, [[0, 0]]]).astype(np.int16)
    distances = np.abs(levels[..., None, 1:] - codes).sum(axis=-1)
    owner = distances.argmin(axis=-1)
    mine = owner == np.arange(len(KEYPOINT_CODES))[:, None, None]
    return (mine * levels[..., 0] / 255).astype(np.float32)


def average_flipped(
    heatmaps: Float32[np.ndarray, "17 h w"], flipped: Float32[np.ndarray, "17 _ _"]
) -> Float32[np.ndarray, "17 h w"]:
    """Average the heatmaps of a crop with those of its mirror image, as the reference's flip test.

    The mirror image's are turned back, left and right keypoints exchanged, and moved one pixel to
    the right; the first column stays (mmpose's `shift_heatmap`).

    Raises:
        InputError: The two differ in size.
    """
    if heatmaps.shape != flipped.shape:
        raise InputError(f"flipped has shape {flipped.shape}, not heatmaps' {heatmaps.shape}")
    order = np.arange(len(heatmaps))
    for left, right in FLIP_PAIRS:
        order[[left, right]] = right, left
    turned = flipped[order, :, ::-1]
    moved = np.concatenate([turned[..., :1], turned[..., :-1]], axis=-1)
    return (heatmaps + moved) / 2


def decode_keypoints(heatmaps: Float32[np.ndarray, "17 h w"]) -> Keypoints:
    """Place each keypoint at its heatmap's peak, a quarter pixel towards the higher neighbour.

    The quarter pixel is left out within two pixels of the left and top and one of the right and
    bottom border. A peak's height is the score. Coordinates are the crop's; bringing them back into
    the picture is the caller's part.

    Raises:
        InputError: The heatmaps hold NaN.
    """
    if np.isnan(heatmaps).any():
        raise InputError("heatmaps holds NaN; mend the painted crop that they come from")
    h, w = heatmaps.shape[1:]
    xy = np.full((len(heatmaps), 2), -1, np.float32)
    scores = heatmaps.max(axis=(1, 2), initial=0)
    for k in np.flatnonzero(scores > 0):
        y, x = divmod(int(heatmaps[k].argmax()), w)
        xy[k] = x, y
        if 1 < x < w - 1 and 1 < y < h - 1:
            across = heatmaps[k, y, x + 1] - heatmaps[k, y, x - 1]
            down = heatmaps[k, y + 1, x] - heatmaps[k, y - 1, x]
            xy[k] += 0.25 * np.sign([across, down])
    return Keypoints(xy=xy, scores=scores)


def _is_coded(offset_px: np.ndarray) -> Bool[np.ndarray, "..."]:
    return (offset_px >= -_CODE_BEFORE_PX) & (offset_px <= _CODE_AFTER_PX)
