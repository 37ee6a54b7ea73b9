"""More detail than one look gives: the picture at more pixels, in tiles, or seen again in parts.

Tiles and second looks are boxes. What each box shows is laid over a finer grid with a weight that
falls to its rim, so that boxes meet without a seam.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32
from PIL import Image
from scipy import ndimage

Detail = Literal["plain", "large", "tiles", "refine"]

LARGE = 2  # times the model's size, along a side
TILES = 2  # along the shorter side of a picture
OVERLAP = 0.25  # of a tile, with the next one
MARGIN = 0.5  # of a found thing's size, on each side of it
LEAST = 0.25  # of a picture's side: no closer look than this, as models know no such scale
MOST_LOOKS = 8  # second looks at one picture
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


def closer_boxes(
    detail: Detail,
    chances: Float32[np.ndarray, "planes gh gw"],
    size: tuple[int, int],
    *,
    threshold: float,
) -> list[Box]:
    """Return where to look again at a picture of that size."""
    if detail == "tiles":
        return tile_boxes(size)
    return found_boxes(chances[0] < 1 - threshold, size)


def found_boxes(found: Bool[np.ndarray, "gh gw"], size: tuple[int, int]) -> list[Box]:
    """Return boxes around the things found on a coarse grid, the largest things first.

    A thing that lies in an earlier box is not looked at again, nor is one that fills the picture.
    """
    things = np.zeros(found.shape, np.int32)
    ndimage.label(found, structure=np.ones((3, 3)), output=things)
    spans = [span for span in ndimage.find_objects(things) if span is not None]
    areas = np.bincount(things.ravel())[1:]
    boxes: list[Box] = []
    for index in np.argsort(-areas, kind="stable"):
        rows, cols = spans[index]
        top, bottom = _widened(rows, found.shape[0], size[0])
        left, right = _widened(cols, found.shape[1], size[1])
        inside = any(
            b.top <= top and bottom <= b.bottom and b.left <= left and right <= b.right
            for b in boxes
        )
        if not inside and (bottom - top, right - left) != size:
            boxes.append(Box(top, left, bottom, right))
        if len(boxes) == MOST_LOOKS:
            break
    return boxes


def _widened(span: slice, cells: int, length: int) -> tuple[int, int]:
    """Return the pixels of a span of cells with its margin, but never too close a look."""
    start, stop = span.start / cells, span.stop / cells
    reach = max((stop - start) * (1 + 2 * MARGIN), LEAST) / 2
    center = min(max((start + stop) / 2, min(reach, 0.5)), max(1 - reach, 0.5))
    return max(0, round((center - reach) * length)), min(length, round((center + reach) * length))


def blend(
    coarse: Float32[np.ndarray, "planes gh gw"],
    boxes: Sequence[Box],
    looks: Sequence[Float32[np.ndarray, "planes _ _"]],
    *,
    size: tuple[int, int],
) -> Float32[np.ndarray, "planes fh fw"]:
    """Lay closer looks over the coarse one, on a grid as fine as the closest of them."""
    if not boxes:
        return coarse
    fine = tuple(_fine(coarse.shape[axis + 1], boxes, size, axis) for axis in (0, 1))
    total = resize_planes(coarse, fine)
    weights = np.ones(fine, np.float32)
    for box, look in zip(boxes, looks, strict=True):
        top, bottom = _cells(box.top, box.bottom, fine[0] / size[0])
        left, right = _cells(box.left, box.right, fine[1] / size[1])
        shape = (bottom - top, right - left)
        # Where the box ends inside the picture its weight ends; at the picture's rim it does not.
        rim = (box.top > 0, box.bottom < size[0], box.left > 0, box.right < size[1])
        weight = 50 * np.outer(_ramp(shape[0], *rim[:2]), _ramp(shape[1], *rim[2:]))
        total[:, top:bottom, left:right] += weight * resize_planes(look, shape)
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


def resize_planes(
    planes: Float32[np.ndarray, "planes gh gw"], shape: tuple[int, ...]
) -> Float32[np.ndarray, "planes h w"]:
    """Resize planes (bilinear)."""
    height, width = shape
    resized = [
        Image.fromarray(p).resize((width, height), Image.Resampling.BILINEAR) for p in planes
    ]
    return np.stack([np.asarray(p, np.float32) for p in resized])
