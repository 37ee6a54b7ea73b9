"""A closer look at what a prompt is about: for models that see pictures small.

A picture squeezed to a model of few pixels loses small things. So the part around the prompt, or
around what was found so far, is cut out and looked at by itself. Masks that go from one look to
the next stay logits in the square of the whole picture.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32

MARGIN = 0.1  # of a thing's size, on each side of it
LEAST = 24  # pixels along a side: closer, there is nothing more to see
WORTH = 0.7  # a look at more of a picture than this is not worth another
NARROW = 0.6  # least ratio of a look's sides
OUTSIDE = -10.0  # the logit of what a look does not show


@dataclass(frozen=True)
class Look:
    """A part of a picture of `size` (height, width), in its pixels: x0, y0, x1, y1."""

    box: tuple[int, int, int, int]
    size: tuple[int, int]

    @classmethod
    def all_of(cls, size: tuple[int, int]) -> "Look":
        """Return a look at a whole picture."""
        return cls((0, 0, size[1], size[0]), size)

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the part."""
        x0, y0, x1, y1 = self.box
        return y1 - y0, x1 - x0

    def into(self, mask: Float[np.ndarray, "*b m m"]) -> Float32[np.ndarray, "*b m m"]:
        """Bring logits of the whole picture's square to the part's."""
        rows, cols = (_zoom_in(*span, mask.shape[-1]) for span in self._spans())
        return (rows @ mask @ cols.T).astype(np.float32)

    def out_of(self, mask: Float[np.ndarray, "*b m m"]) -> Float32[np.ndarray, "*b m m"]:
        """Bring logits of the part's square to the whole picture's."""
        rows, cols = (_zoom_out(*span, mask.shape[-1]) for span in self._spans())
        shown = np.outer(rows.sum(axis=1), cols.sum(axis=1))
        return (rows @ mask @ cols.T + (1 - shown) * OUTSIDE).astype(np.float32)

    def _spans(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Return start and end as shares of the picture's height, and of its width."""
        x0, y0, x1, y1 = self.box
        height, width = self.size
        return (y0 / height, y1 / height), (x0 / width, x1 / width)


def look_around(
    low: Float[np.ndarray, " 2"], high: Float[np.ndarray, " 2"], size: tuple[int, int]
) -> Look | None:
    """Return the part of a picture around a thing from `low` to `high` (x, y), with a margin.

    None if that is most of the picture.
    """
    extent = np.maximum((high - low) * (1 + 2 * MARGIN), LEAST)
    extent = np.maximum(extent, NARROW * extent.max())
    limit = np.array([size[1], size[0]], float)
    extent = np.minimum(extent, limit)
    start = np.clip((low + high) / 2 - extent / 2, 0, limit - extent)
    x0, y0 = np.floor(start).astype(int).tolist()
    x1, y1 = np.ceil(start + extent).astype(int).tolist()
    if (x1 - x0) * (y1 - y0) > WORTH * size[0] * size[1]:
        return None
    return Look((x0, y0, min(x1, size[1]), min(y1, size[0])), size)


def look_at(
    points: Float[np.ndarray, "k 2"], size: tuple[int, int], *, scale: float
) -> Look | None:
    """Return a part of a picture around points (x, y), with a share of its sides.

    None if it would not show all of them.
    """
    limit = np.array([size[1], size[0]], float)
    extent = np.minimum(np.maximum(scale * limit, LEAST), limit)
    low, high = points.min(axis=0), points.max(axis=0) + 1
    if (high - low > extent).any():
        return None
    start = np.clip((low + high) / 2 - extent / 2, 0, limit - extent)
    x0, y0 = np.floor(start).astype(int).tolist()
    x1, y1 = np.ceil(start + extent).astype(int).tolist()
    return Look((x0, y0, min(x1, size[1]), min(y1, size[0])), size)


def _zoom_in(start: float, end: float, cells: int) -> Float[np.ndarray, "new old"]:
    """Return the matrix that samples a span of an axis, linear between the cells' centres."""
    place = (start + (np.arange(cells) + 0.5) / cells * (end - start)) * cells - 0.5
    place = np.clip(place, 0, cells - 1)
    left = np.minimum(place.astype(int), cells - 2)
    matrix = np.zeros((cells, cells))
    matrix[np.arange(cells), left] = 1 - (place - left)
    matrix[np.arange(cells), left + 1] += place - left
    return matrix


def _zoom_out(start: float, end: float, cells: int) -> Float[np.ndarray, "new old"]:
    """Return the matrix that averages a span's cells over those of the whole axis.

    A row's sum is the share of its cell that the span covers.
    """
    fine = (start + np.arange(cells + 1) / cells * (end - start)) * cells
    whole = np.arange(cells + 1)
    low = np.maximum(fine[None, :-1], whole[:-1, None])
    high = np.minimum(fine[None, 1:], whole[1:, None])
    return np.maximum(high - low, 0.0)
