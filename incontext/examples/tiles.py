"""Overlapping tiles of an image, and their probabilities blended over those of the whole.

A tile's weight falls to 0 at its rim, so that tiles meet without a seam.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32
from PIL import Image

TILES = 2  # along the shorter side of a picture
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
    """Return overlapping boxes, about square and of one size, that cover a picture."""
    side = min(size) / (TILES - (TILES - 1) * OVERLAP)
    return [
        Box(top, left, min(size[0], top + round(side)), min(size[1], left + round(side)))
        for top in _starts(size[0], side)
        for left in _starts(size[1], side)
    ]


def _starts(length: int, side: float) -> list[int]:
    count = max(1, int(np.ceil((length - side * OVERLAP) / (side * (1 - OVERLAP)) - 1e-6)))
    return [round(start) for start in np.linspace(0, length - min(length, round(side)), count)]


def blend(
    coarse: Float32[np.ndarray, "k gh gw"],
    boxes: Sequence[Box],
    tiles: Sequence[Float32[np.ndarray, "k _ _"]],
    *,
    size: tuple[int, int],
) -> Float32[np.ndarray, "k fh fw"]:
    """Lay tiles over the whole image, on a grid as fine as that of the finest tile."""
    fine = tuple(_fine(coarse.shape[axis + 1], boxes, size, axis) for axis in (0, 1))
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


def _fine(cells: int, boxes: Sequence[Box], size: tuple[int, int], axis: int) -> int:
    spans = [(b.bottom - b.top, b.right - b.left)[axis] for b in boxes]
    return max(cells, min(size[axis], round(cells * min(FINEST, size[axis] / min(spans)))))


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
