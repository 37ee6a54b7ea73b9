"""Masks that lossy compression or soft edges have dirtied: back to the few colours drawn.

What was drawn is flat: most pixels have four neighbours of nearly their colour, and those pixels
have few colours between them. Edges take the colour, of those found near by, that is nearest to
theirs. A photograph has no few colours, and is left alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int, Int16, Int32

from incontext.files.mask_rules import MaskValues, RawMask

# All in levels of 8 bits: how far neighbours inside a flat part may differ, how far its pixels may
# lie from its colour, how near to it most of them lie, and which colours of two masks are one.
# JPEG of quality 50 keeps to them.
_SMOOTH, _REACH, _NEAR, _SAME = 12, 32, 20, 12
_ROUND = 5  # levels by which a colour may miss 0, 64, 128, 192 or 255, of which palettes are made
_LEAST_FLAT = 0.4  # of the pixels; a photograph of texture has less
_LEAST_NEAR = 0.97  # of the flat pixels; a photograph of sky has less
_MOST_SPREAD = 4  # levels between a flat pixel and its colour, on average
_GATHERED = 10  # the same for one colour: a soft edge wanders evenly over the levels
_LEAST_SHARE = 1e-3  # of the pixels: fewer of one colour are dirt
_LEAST_PIXELS = 12
_MOST_COLORS = 32
_RADIUS = 4  # pixels around an edge in which its colours are looked for
_CHUNK = 1 << 16


@dataclass(frozen=True, eq=False)
class Snapped:
    """A mask of few colours, packed as 0xRRGGBB or as grey values, and how many it had before."""

    values: Int32[np.ndarray, "h w"]
    colors: tuple[int, ...]
    before: int


def snap(raw: RawMask, *, known: Sequence[int] = ()) -> Snapped | None:
    """Return a mask's pixels in the few colours drawn; None where there are no few.

    Args:
        raw: Grey, or packed colours.
        known: Colours of other masks of the same set, taken for those that are nearly the same.
    """
    if raw.form not in ("grey", "rgb") or raw.values.max() > (
        255 if raw.form == "grey" else 1 << 24
    ):
        return None
    pixels = _unpack(raw.values, colored=raw.form == "rgb")
    found = _find_colors(pixels)
    if found is None:
        return None
    index = _assign(pixels, found)
    colors = np.array([_settle(color, known, colored=raw.form == "rgb") for color in found])
    values = colors[index].astype(np.int32)
    return Snapped(values, tuple(sorted(map(int, np.unique(values)))), np.unique(raw.values).size)


def _unpack(values: MaskValues, *, colored: bool) -> Int16[np.ndarray, "h w c"]:
    shifts = (16, 8, 0) if colored else (0,)
    wide = values.astype(np.int32)
    return np.stack([(wide >> shift & 255).astype(np.int16) for shift in shifts], axis=2)


def _pack(pixels: Int16[np.ndarray, "n c"]) -> Int32[np.ndarray, " n"]:
    packed = np.zeros(len(pixels), np.int32)
    for channel in pixels.T:
        packed = packed << 8 | channel
    return packed


def _flat_part(pixels: Int16[np.ndarray, "h w c"]) -> Bool[np.ndarray, "h w"]:
    flat = np.ones(pixels.shape[:2], bool)
    down = abs(np.diff(pixels, axis=0)).max(axis=2) <= _SMOOTH
    right = abs(np.diff(pixels, axis=1)).max(axis=2) <= _SMOOTH
    flat[:-1] &= down
    flat[1:] &= down
    flat[:, :-1] &= right
    flat[:, 1:] &= right
    return flat


def _find_colors(pixels: Int16[np.ndarray, "h w c"]) -> Int[np.ndarray, "k c"] | None:
    """Return the colours of the flat parts, most frequent first; None where they are not few."""
    flat = pixels[_flat_part(pixels)]
    total = pixels.shape[0] * pixels.shape[1]
    if len(flat) < _LEAST_FLAT * total:
        return None
    _, first, counts = np.unique(_pack(flat), return_index=True, return_counts=True)
    tones, left = flat[first], np.ones(len(first), bool)
    least, found, near, spread = max(_LEAST_PIXELS, _LEAST_SHARE * total), [], 0, 0.0
    while left.any():
        center = tones[np.argmax(np.where(left, counts, 0))]
        distance = abs(tones - center).max(axis=1)
        members = left & (distance <= _REACH)
        weight = counts[members].sum()
        around = (distance * counts)[members].sum()
        if weight >= least and around <= _GATHERED * weight:
            found.append(center)
            near += counts[members & (distance <= _NEAR)].sum()
            spread += around
        elif counts[left].max() < least / 8:
            break
        left &= ~members
        if len(found) > _MOST_COLORS:
            return None
    if len(found) < 2 or near < _LEAST_NEAR * len(flat) or spread > _MOST_SPREAD * near:
        return None
    return np.array(found, int)


def _assign(
    pixels: Int16[np.ndarray, "h w c"], colors: Int[np.ndarray, "k c"]
) -> Int[np.ndarray, "h w"]:
    """Return the colour of each pixel; those of none of them choose among those around."""
    index = np.full(pixels.shape[:2], -1)
    best = np.full(pixels.shape[:2], _REACH + 1, np.int16)
    for number, color in enumerate(colors.astype(np.int16)):
        distance = abs(pixels - color).max(axis=2)
        closer = distance < best
        index[closer], best[closer] = number, distance[closer]
    index[~_flat_part(pixels)] = -1
    rows, cols = np.nonzero(index < 0)
    around = np.pad(index, _RADIUS, constant_values=-1)
    for start in range(0, len(rows), _CHUNK):
        row, col = rows[start : start + _CHUNK], cols[start : start + _CHUNK]
        here = pixels[row, col].astype(int)
        away = ((here[:, None] - colors) ** 2).sum(axis=2)
        seen = np.zeros(away.shape, bool)
        for down in range(2 * _RADIUS + 1):
            for right in range(2 * _RADIUS + 1):
                number = around[row + down, col + right]
                known = number >= 0
                seen[np.nonzero(known)[0], number[known]] = True
        seen[~seen.any(axis=1)] = True
        index[row, col] = np.where(seen, away, np.iinfo(int).max).argmin(axis=1)
    return index


def _settle(color: Int[np.ndarray, " c"], known: Sequence[int], *, colored: bool) -> int:
    """Return a colour as it was probably drawn: one of another mask, black, white, or a round one.

    Grey values are label numbers, and none of them is rounder than others.
    """
    size = 3 if colored else 1
    for candidate in (*known, 0, (1 << 8 * size) - 1):
        channels = [candidate >> shift & 255 for shift in range(8 * (size - 1), -1, -8)]
        if abs(color - channels).max() <= _SAME:
            return candidate
    if colored:
        steps = np.array([0, 64, 128, 192, 255])
        nearest = steps[abs(color[:, None] - steps).argmin(axis=1)]
        color = np.where(abs(color - nearest) <= _ROUND, nearest, color)
    return int(_pack(color[None].astype(np.int16))[0])
