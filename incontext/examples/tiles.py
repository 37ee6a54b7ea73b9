"""Overlapping tiles of an image, and their probabilities blended over those of the whole.

A tile's weight falls to 0 at its rim, so that tiles meet without a seam.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32
from PIL import Image

TILES = 2  # along the shorter side of a picture
MOST_TILES = 19  # with the look at the whole picture 20
OVERLAP = 0.25  # of a tile, with the next one
WEIGHT = 50.0  # of a tile, beside the whole image's 1
FINEST = 4  # the fine grid has at most so many cells along a side for each of the coarse one


@dataclass(frozen=True)
class Box:
    """A part of a picture in its pixels; right and bottom are outside."""

    top: int
    left: int
    bottom: int
    right: int


def tile_boxes(size: tuple[int, int]) -> list[Box]:
    """Return overlapping boxes of one size that cover a picture, `MOST_TILES` at most.

    They are about square. A long picture has one row of them, and a very long one longer boxes.
    """
    for rows in range(TILES, 0, -1):
        side = min(size) / (rows - (rows - 1) * OVERLAP)
        sides = (side, side)
        if rows * _count(max(size), side) <= MOST_TILES:
            break
    else:
        longer = max(size) / (MOST_TILES - (MOST_TILES - 1) * OVERLAP)
        shorter = float(min(size))
        sides = (longer, shorter) if size[0] > size[1] else (shorter, longer)
    height, width = sides
    return [
        Box(top, left, min(size[0], top + round(height)), min(size[1], left + round(width)))
        for top in _starts(size[0], height)
        for left in _starts(size[1], width)
    ]


def _count(length: int, side: float) -> int:
    return max(1, int(np.ceil((length - side * OVERLAP) / (side * (1 - OVERLAP)) - 1e-6)))


def _starts(length: int, side: float) -> list[int]:
    last = length - min(length, round(side))
    return [round(start) for start in np.linspace(0, last, _count(length, side))]


def spread(length: int, side: int) -> list[tuple[slice, Float32[np.ndarray, " cells"]]]:
    """Return the overlapping spans of one side of a picture, and their weights.

    Those of all spans over a pixel sum to 1. Tiles are products of spans, and so are their weights.
    """
    spans = [slice(start, min(length, start + side)) for start in _starts(length, float(side))]
    ramps = [_ramp(s.stop - s.start, s.start > 0, s.stop < length) for s in spans]
    total = np.zeros(length, np.float32)
    for span, ramp in zip(spans, ramps, strict=True):
        total[span] += ramp
    return [(span, ramp / total[span]) for span, ramp in zip(spans, ramps, strict=True)]


def blend(
    coarse: Float32[np.ndarray, "k gh gw"],
    boxes: Sequence[Box],
    tiles: Sequence[Float32[np.ndarray, "k _ _"]],
    *,
    size: tuple[int, int],
) -> Float32[np.ndarray, "k fh fw"]:
    """Lay tiles over the whole image, on a grid as fine as that of the finest tile."""
    fine = tuple(_fine(coarse, boxes, tiles, size, axis) for axis in (0, 1))
    total = resize_channels(coarse, fine)
    weights = np.ones(fine, np.float32)
    for box, tile in zip(boxes, tiles, strict=True):
        top, bottom = _cells(box.top, box.bottom, fine[0] / size[0])
        left, right = _cells(box.left, box.right, fine[1] / size[1])
        shape = (bottom - top, right - left)
        # Where the box ends inside the picture its weight ends; at the picture's rim it does not.
        rim = (box.top > 0, box.bottom < size[0], box.left > 0, box.right < size[1])
        weight = WEIGHT * np.outer(_ramp(shape[0], *rim[:2]), _ramp(shape[1], *rim[2:]))
        total[:, top:bottom, left:right] += weight * resize_channels(tile, shape)
        weights[top:bottom, left:right] += weight
    return total / weights


def _fine(
    coarse: Float32[np.ndarray, "k gh gw"],
    boxes: Sequence[Box],
    tiles: Sequence[Float32[np.ndarray, "k _ _"]],
    size: tuple[int, int],
    axis: int,
) -> int:
    cells = coarse.shape[axis + 1]
    span = min((b.bottom - b.top, b.right - b.left)[axis] for b in boxes)
    finer = cells * min(FINEST, size[axis] / span)
    if span == size[axis]:  # one row of tiles: they see more of it than the whole picture does
        finer = min(FINEST * cells, max(tile.shape[axis + 1] for tile in tiles))
    return max(cells, min(size[axis], round(finer)))


def _cells(start: int, stop: int, cells_per_px: float) -> tuple[int, int]:
    """Return the cells that stand for a span of pixels: one at least."""
    first = int(start * cells_per_px)
    return first, max(first + 1, round(stop * cells_per_px))


def _ramp(cells: int, falls_first: bool, falls_last: bool) -> Float32[np.ndarray, " cells"]:
    """Return weights of 0..1 that fall to 0 over a quarter at the ends that are asked for."""
    place = (np.arange(cells, dtype=np.float32) + 0.5) / cells
    rising = np.clip(4 * place, 0, 1) if falls_first else np.ones(cells, np.float32)
    falling = np.clip(4 * (1 - place), 0, 1) if falls_last else np.ones(cells, np.float32)
    return np.minimum(rising, falling)


def resize_channels(
    channels: Float32[np.ndarray, "k gh gw"], shape: tuple[int, ...]
) -> Float32[np.ndarray, "k h w"]:
    """Resize channels (bilinear)."""
    height, width = shape
    resized = [
        Image.fromarray(p).resize((width, height), Image.Resampling.BILINEAR) for p in channels
    ]
    return np.stack([np.asarray(p, np.float32) for p in resized])
