"""Label maps as pictures: palettes, overlays, cutouts, and PNG files of them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int32, UInt8
from PIL import Image

from incontext.files.atomic import write_whole
from incontext.files.mask_rules import Color
from incontext.files.mask_shapes import VOC_PALETTE

# Outline thickness is the longer side divided by this: one pixel up to about 900, four at 2400.
_OUTLINE_FRACTION = 600
_ROWS = 256


def make_palette(colors: Mapping[int, Color] | None = None) -> UInt8[np.ndarray, "256 3"]:
    """Return VOC's colours with some of them replaced.

    Args:
        colors: RGB of the labels that shall look otherwise; labels outside 0..255 are left out.
    """
    palette = VOC_PALETTE.copy()
    for label, color in (colors or {}).items():
        if 0 <= label < len(palette):
            palette[label] = color
    return palette


def draw_overlay(
    image: UInt8[np.ndarray, "h w 3"],
    label_map: Int32[np.ndarray, "h w"],
    *,
    palette: UInt8[np.ndarray, "256 3"] = VOC_PALETTE,
    opacity: float = 0.5,
) -> UInt8[np.ndarray, "h w 3"]:
    """Tint each region with its colour and draw its edge.

    The edge is a bright line just inside the region with a dark line just outside, so that it shows
    on any picture.

    Args:
        image: The picture, RGB.
        label_map: 0..255; 0 is left as it is.
        palette: The colour of each label.
        opacity: 0 shows the picture, 1 hides it.
    """
    overlay = image.copy()
    for top in range(0, len(image), _ROWS):
        rows = slice(top, top + _ROWS)
        inside = label_map[rows] != 0
        tint = palette[label_map[rows][inside]]
        mixed = overlay[rows][inside] * np.float32(1 - opacity) + tint * np.float32(opacity)
        overlay[rows][inside] = np.rint(mixed)
    edge = _edge(label_map)
    inner, outer = edge & (label_map != 0), edge & (label_map == 0)
    bright = (palette.astype(np.uint16) + 2 * 255) // 3
    overlay[inner] = bright[label_map[inner]]
    overlay[outer] //= 3
    return overlay


def cut_out(
    image: UInt8[np.ndarray, "h w 3"], label_map: Int32[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "h w 4"]:
    """Make all background transparent; nothing of it stays hidden below."""
    inside = (label_map != 0)[:, :, None]
    return np.concatenate([image * inside, inside * np.uint8(255)], axis=2)


def save_png(path: Path, image: Image.Image, *, compress_level: int = 6) -> None:
    """Write a PNG that is either whole or absent, with nothing in it but the pixels.

    The same pixels give the same bytes (with one build of zlib).

    Raises:
        InputError: The file cannot be written.
    """
    write_whole(path, lambda part: image.save(part, "PNG", compress_level=compress_level))


def _edge(label_map: Int32[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Mark the pixels on both sides of every border between two labels."""
    edge = np.zeros(label_map.shape, bool)
    thickness = max(1, round(max(label_map.shape) / _OUTLINE_FRACTION))
    for shift in range(1, thickness + 1):
        differ = label_map[shift:] != label_map[:-shift]
        edge[shift:] |= differ
        edge[:-shift] |= differ
        differ = label_map[:, shift:] != label_map[:, :-shift]
        edge[:, shift:] |= differ
        edge[:, :-shift] |= differ
    return edge
