"""Regions of a label map: all of a label, or each connected component by itself."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int32
from scipy import ndimage


@dataclass(frozen=True, eq=False)
class Region:
    """A part of a label map.

    Attributes:
        label: Its label.
        mask: Of its box alone.
        left: The box's first column.
        top: The box's first row.
    """

    label: int
    mask: Bool[np.ndarray, "h w"]
    left: int
    top: int

    @property
    def area(self) -> int:
        """Pixels."""
        return int(self.mask.sum())

    @property
    def box(self) -> tuple[int, int, int, int]:
        """x, y, width and height in pixels."""
        height, width = self.mask.shape
        return self.left, self.top, width, height


def find_regions(label_map: Int32[np.ndarray, "h w"], *, instances: bool) -> Iterator[Region]:
    """Yield the regions of a label map, label by label, from the top down.

    With `instances` connected components (8-connectivity) are regions of their own.
    """
    for label in np.unique(label_map[label_map != 0]).tolist():
        own = label_map == label
        parts = np.empty(own.shape, np.int32)
        if instances:
            ndimage.label(own, structure=np.ones((3, 3)), output=parts)
        else:
            parts[:] = own
        for number, place in enumerate(ndimage.find_objects(parts), start=1):
            rows, cols = place
            yield Region(label, parts[place] == number, cols.start, rows.start)


def number_instances(label_map: Int32[np.ndarray, "h w"]) -> Int32[np.ndarray, "h w"]:
    """Return a map in which every connected component of every label has a number of its own."""
    numbers = np.zeros(label_map.shape, np.int32)
    for number, region in enumerate(find_regions(label_map, instances=True), start=1):
        height, width = region.mask.shape
        box = numbers[region.top : region.top + height, region.left : region.left + width]
        box[region.mask] = number
    return numbers
