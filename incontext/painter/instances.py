"""Class-agnostic instances: an object's colour says where its centre of mass lies.

Source: Painter/data/mmdet_custom/data/pipelines/transforms.py (encoding), Painter/eval/
coco_panoptic/COCOCAInstSegEvaluatorCustom.py and eval.sh (decoding), Painter/util/matrix_nms.py.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int16, Int64, Integer, UInt8

from incontext.painter.levels import Painted, color_distances, grey_levels
from seggpt.errors import InputError

_GRID = 80  # cells along each side of the picture
_FIRST_SORT = 2000  # candidates that reach the suppression
_CHUNK = 256  # rows or columns worked on at a time, which bounds memory


def _cell_colors() -> UInt8[np.ndarray, "6400 3"]:
    """Paint each cell: red counts 4x4 blocks of 20x20 cells, green rows and blue columns in one."""
    iy, ix = np.divmod(np.arange(_GRID**2), _GRID)
    red = 255 - 15 * (4 * (iy // 20) + ix // 20)
    colors = np.stack([red, 255 - 13 * (iy % 20), 255 - 13 * (ix % 20)], axis=1).astype(np.uint8)
    colors.setflags(write=False)
    return colors


INSTANCE_COLORS = _cell_colors()
"""The colour of cell (ix, iy) in row 80 iy + ix."""


@dataclass(frozen=True, eq=False)
class Instances:
    """Objects, best first; masks may overlap."""

    masks: Bool[np.ndarray, "n h w"]
    scores: Float32[np.ndarray, " n"]


def encode_instances(ids: Integer[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """Paint each object (id above 0) by its centre of mass, and the background (0) black.

    Objects whose centres share a cell share a colour. The reference leaves crowds unpainted.

    Raises:
        InputError: An id is negative.
    """
    if (ids < 0).any():
        raise InputError(f"ids holds {ids.min()}; give objects ids above 0, the background 0")
    h, w = ids.shape
    painted = np.zeros((h, w, 3), np.uint8)
    for label in np.unique(ids[ids > 0]):
        rows, cols = np.nonzero(ids == label)
        # 79 and not 80 as in the reference: the last row and column of cells stay empty.
        iy = int(rows.sum() / rows.size / h * (_GRID - 1))
        ix = int(cols.sum() / cols.size / w * (_GRID - 1))
        painted[rows, cols] = INSTANCE_COLORS[_GRID * iy + ix]
    return painted


def decode_instances(
    rgb: Painted, *, max_distance: float = 19.0, max_instances: int = 100
) -> Instances:
    """Find the objects: for each of the 6400 colours the pixels near it, then matrix NMS.

    A pixel is near a colour where the difference averaged over the channels is below
    `max_distance` (grey levels); a mask's score is 1 - its mean difference / the greatest one.
    19 comes from the reference's eval.sh. At 19 a mask also takes in objects of alike colours
    (neighbouring cells, and those 20, 40 or 60 columns away), and black is 15.3 from the colour of
    the last cell, so that the background comes back as an object of low score: the reference
    relies on scores (`merge_panoptic` takes those from 0.55), and so must the caller.

    Where nothing is near any colour, the reference returns one empty mask of score 0, this none.
    The reference resizes to the picture's size first (nearest). Equal scores stand in the order of
    the grid; the reference leaves that order open.

    Raises:
        InputError: `rgb` is no painted picture.
        ValueError: A limit is not positive.
    """
    if not max_distance > 0:
        raise ValueError(f"max_distance is {max_distance}; pass grey levels above 0, such as 19")
    if max_instances < 1:
        raise ValueError(f"max_instances is {max_instances}; pass 1 or more")
    levels = grey_levels(rgb)
    # Pixels of one colour are in the same masks, so masks are found over the distinct colours.
    palette, place, counts = np.unique(
        levels.reshape(-1, 3), axis=0, return_inverse=True, return_counts=True
    )
    limit = 3 * max_distance
    means = _mean_distances(palette, counts, limit=limit)
    best = np.argsort(means, kind="stable")[: min(_FIRST_SORT, int(np.isfinite(means).sum()))]
    near = (color_distances(palette, INSTANCE_COLORS[best]) < limit).T
    means = means[best]
    scores = 1 - means / max(means.max(initial=0), 1.0)
    decayed = scores * _decay(_intersections(near, counts), scores, sigma=2.0)
    order = np.argsort(-decayed, kind="stable")[:max_instances]
    masks = near[order][:, place.ravel()].reshape(-1, *levels.shape[:2])
    return Instances(masks=masks, scores=decayed[order].astype(np.float32))


def matrix_nms(
    masks: Bool[np.ndarray, "_ h w"], scores: Float32[np.ndarray, " n"], *, sigma: float = 2.0
) -> Float32[np.ndarray, " n"]:
    """Lower the scores of masks that better ones cover (SOLOv2, Gaussian kernel); keep the order.

    A score is multiplied by the least exp(-sigma iou^2) / exp(-sigma covered^2) over the better
    masks, where `covered` is the greatest IoU of that better mask with one better still.

    Raises:
        InputError: There is not one score a mask.
        ValueError: `sigma` is not positive.
    """
    if not sigma > 0:
        raise ValueError(f"sigma is {sigma}; pass a number above 0, such as 2")
    if len(masks) != len(scores):
        raise InputError(f"scores has {len(scores)} for {len(masks)} masks; pass one a mask")
    flat = masks.reshape(len(masks), int(np.prod(masks.shape[1:])))
    inter = _intersections(flat, np.ones(flat.shape[1], np.int64))
    return (scores * _decay(inter, scores, sigma=sigma)).astype(np.float32)


def _mean_distances(
    palette: Int16[np.ndarray, "u 3"], counts: Int64[np.ndarray, " u"], *, limit: float
) -> Float64[np.ndarray, " 6400"]:
    """Average each cell colour's difference (a channel) over the pixels near it; inf if none is."""
    means = np.full(len(INSTANCE_COLORS), np.inf)
    weights = counts.astype(np.float64)  # whole numbers still, but multiplied by fast routines
    for start in range(0, len(means), _CHUNK):
        distances = color_distances(palette, INSTANCE_COLORS[start : start + _CHUNK])
        near = distances < limit
        area = weights @ near.astype(np.float64)
        total = weights @ np.where(near, distances, 0.0)
        part = means[start : start + _CHUNK]
        np.divide(total, 3 * area, out=part, where=area > 0)
    return means


def _intersections(
    near: Bool[np.ndarray, "n u"], counts: Int64[np.ndarray, " u"]
) -> Float64[np.ndarray, "n n"]:
    """Count the pixels that each two masks share."""
    inter = np.zeros((len(near), len(near)))
    step = 16 * _CHUNK
    for start in range(0, near.shape[1], step):
        # float32 products are fast, and exact while a part of the picture has below 2^24 pixels.
        part = near[:, start : start + step].astype(np.float32)
        inter += (part * counts[start : start + step].astype(np.float32)) @ part.T
    return inter


def _decay(
    inter: Float64[np.ndarray, "n n"], scores: np.ndarray, *, sigma: float
) -> Float64[np.ndarray, " n"]:
    """Return the factor of matrix NMS for each mask, from the areas that masks share."""
    if len(scores) == 0:
        return np.zeros(0)
    order = np.argsort(-scores, kind="stable")
    inter = inter[order][:, order]
    areas = inter.diagonal()
    union = areas[:, None] + areas - inter
    iou = np.triu(inter / np.maximum(union, 1), k=1)  # row: the better mask
    covered = iou.max(axis=0)
    factors = np.empty(len(scores))
    factors[order] = np.exp(-sigma * (iou**2 - covered[:, None] ** 2)).min(axis=0)
    return factors
