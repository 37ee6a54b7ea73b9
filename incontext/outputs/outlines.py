"""Outlines of masks along the edges of their pixels, so that filling them gives the mask again."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int32

Ring = Int32[np.ndarray, "_ 2"]
"""A closed line of (x, y) in pixels, whole at their corners; the first point is not repeated."""

# Steps of a walk with the mask on its right: right, down, left, up.
_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))


@dataclass(frozen=True, eq=False)
class Outline:
    """The outline of one connected part of a mask (4-connectivity)."""

    exterior: Ring
    holes: tuple[Ring, ...] = ()

    def cut_open(self) -> Ring:
        """Return one ring that leaves the holes out, for formats without holes.

        Each hole is reached from the exterior over a line of no width, and left on the same one.
        """
        ring = self.exterior
        for hole in self.holes:
            distances = np.abs(ring[:, None] - hole).sum(axis=2)
            at, start = np.unravel_index(distances.argmin(), distances.shape)
            around = np.roll(hole, -start, axis=0)
            ring = np.concatenate([ring[: at + 1], around, around[:1], ring[at:]])
        return ring


def trace(mask: Bool[np.ndarray, "h w"]) -> list[Outline]:
    """Return the outlines of a mask's connected parts, from the top down."""
    rings = _walk(_edges(mask))
    exteriors = [ring for ring in rings if _area(ring) > 0]
    holes: defaultdict[int, list[Ring]] = defaultdict(list)
    for ring in rings:
        if _area(ring) < 0:
            holes[_owner(ring, exteriors)].append(ring)
    return [Outline(ring, tuple(holes[index])) for index, ring in enumerate(exteriors)]


def _edges(mask: Bool[np.ndarray, "h w"]) -> dict[tuple[int, int], list[int]]:
    """Return for each corner (x, y) the directions of the pixels' edges that start there."""
    padded = np.pad(mask, 1)
    inner = padded[1:-1, 1:-1]
    neighbours = (padded[:-2, 1:-1], padded[1:-1, 2:], padded[2:, 1:-1], padded[1:-1, :-2])
    starts = ((0, 0), (1, 0), (1, 1), (0, 1))  # of a pixel's upper, right, lower and left edge
    edges: dict[tuple[int, int], list[int]] = {}
    for direction, (beside, (dx, dy)) in enumerate(zip(neighbours, starts, strict=True)):
        rows, cols = np.nonzero(inner & ~beside)
        for x, y in zip((cols + dx).tolist(), (rows + dy).tolist(), strict=True):
            edges.setdefault((x, y), []).append(direction)
    return edges


def _walk(edges: dict[tuple[int, int], list[int]]) -> list[Ring]:
    """Join edges to rings; where two parts touch at a corner each keeps to itself."""
    rings = []
    for start in sorted(edges, key=lambda corner: corner[::-1]):
        while edges[start]:
            corner, direction = start, edges[start][0]
            ring, turned = [], -1
            while direction in edges[corner]:
                edges[corner].remove(direction)
                if direction != turned:
                    ring.append(corner)
                turned = direction
                corner = (corner[0] + _STEPS[direction][0], corner[1] + _STEPS[direction][1])
                right = (direction + 1) % 4
                options = edges[corner]
                direction = right if right in options else next(iter(options), direction)
            rings.append(np.array(ring, np.int32))
    return rings


def _area(ring: Ring) -> float:
    """Return a ring's area: positive if the mask is inside, negative for a hole."""
    x, y = ring.astype(np.int64).T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) / 2


def _owner(hole: Ring, exteriors: list[Ring]) -> int:
    """Return which part a hole is of: the smallest one around it."""
    # The upper left corner of a hole has a pixel of the part diagonally above it.
    x, y = hole[np.lexsort(hole.T)[0]] - 0.5
    around = [i for i, ring in enumerate(exteriors) if _is_inside(x, y, ring)]
    return min(around, key=lambda i: _area(exteriors[i]))


def _is_inside(x: float, y: float, ring: Ring) -> bool:
    """Tell whether a point that lies on no edge is inside a ring."""
    (x0, y0), (x1, y1) = ring.T, np.roll(ring, -1, axis=0).T
    crosses = ((y0 > y) != (y1 > y)) & (np.minimum(x0, x1) > x)  # edges run along the axes
    return bool(crosses.sum() % 2)
