"""Crops of an image in layers, and grids of points in each."""

import itertools
import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Crop:
    """A rectangle x0, y0, x1, y1 of the picture, and the layer that it is of."""

    box: Box
    layer: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        x0, y0, x1, y1 = self.box
        return y1 - y0, x1 - x0


def make_crops(size: tuple[int, int], *, layers: int, overlap: float) -> list[Crop]:
    """Return the whole picture, and then 2^i by 2^i crops for each layer i.

    Neighbours share `overlap` times the picture's shorter side, less in deeper layers
    (segment_anything/utils/amg.py, `generate_crop_boxes`).
    """
    height, width = size
    crops = [Crop((0, 0, width, height), 0)]
    for layer in range(1, layers + 1):
        count = 2**layer
        shared = int(overlap * min(size) * 2 / count)
        across, down = (math.ceil((shared * (count - 1) + n) / count) for n in (width, height))
        for column, row in itertools.product(range(count), repeat=2):
            x0, y0 = (across - shared) * column, (down - shared) * row
            box = (x0, y0, min(x0 + across, width), min(y0 + down, height))
            crops.append(Crop(box, layer))
    return crops


def make_grid(points_per_side: int) -> Float[np.ndarray, "n 2"]:
    """Return points (x, y) in 0..1 at the centres of equal squares, row by row."""
    line = (np.arange(points_per_side) + 0.5) / points_per_side
    return np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)


def make_grids(points_per_side: int, *, layers: int, factor: int) -> list[Float[np.ndarray, "_ 2"]]:
    """Return the grid of each layer; deeper layers have `factor` times fewer points a side."""
    return [make_grid(max(1, int(points_per_side / factor**layer))) for layer in range(layers + 1)]


def touches_crop(box: Box, crop: Crop, size: tuple[int, int], *, near_px: float = 20.0) -> bool:
    """Tell whether a box ends at an edge of its crop that is not an edge of the picture.

    What lies there is cut off, and some other crop shows it whole.
    """
    whole = (0, 0, size[1], size[0])
    return any(
        abs(side - edge) <= near_px < abs(side - border)
        for side, edge, border in zip(box, crop.box, whole, strict=True)
    )
