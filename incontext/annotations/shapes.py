"""What is marked in a picture: polygons, run lengths and small masks, painted into a label map."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int32
from PIL import Image, ImageDraw

from incontext.annotations.parse import Points
from incontext.files import rle
from incontext.files.decode import MAX_PIXELS, check_size, find_facts, source_name
from incontext.files.images import load_image
from seggpt.errors import InputError

IGNORED = -1
"""The value of pixels that do not count."""

# Polygons are drawn so many times larger, and what the middle of a pixel hits decides.
_SCALE = 4
_BAND_PIXELS = 1 << 22  # of the larger drawing at a time


@dataclass(frozen=True)
class Class:
    """What a file says of a class: its number, its name, or both."""

    number: int | None = None
    name: str | None = None


@dataclass(frozen=True, eq=False)
class Polygons:
    """Polygons, each an exterior and its holes; x and y run along the corners of pixels."""

    parts: tuple[tuple[Points, ...], ...]


@dataclass(frozen=True, eq=False)
class Patch:
    """A small mask, and where its upper left pixel lies."""

    mask: Bool[np.ndarray, "h w"]
    left: int
    top: int


Shape = Polygons | Patch | rle.RunLengths


@dataclass(frozen=True, eq=False)
class Region:
    """A shape and its class; without one its pixels do not count. `place` is for messages."""

    shape: Shape
    of: Class | None
    place: str


@dataclass(frozen=True, eq=False)
class Annotated:
    """A picture, and what a file says of it.

    Attributes:
        image: The picture's file, or what is in it.
        name: File and picture in words fit for a message.
        regions: Later ones lie on top.
        size: (width, height) of the picture by the file, where that says so.
    """

    image: Path | bytes
    name: str
    regions: tuple[Region, ...]
    size: tuple[int, int] | None = None


def fit(picture: Annotated, *, max_pixels: int | None = None) -> Annotated:
    """Check that annotations fit their picture; return them with its size.

    Raises:
        InputError: The picture cannot be read or is too large, the file says another size, or a
            shape leaves the picture.
    """
    try:
        width, height = find_size(picture.image)
    except InputError as error:
        raise InputError(f"{picture.name}: {error}") from error
    check_size((width, height), name=picture.name, max_pixels=max_pixels or MAX_PIXELS)
    if picture.size not in (None, (width, height)):
        said, real = "x".join(map(str, picture.size or ())), f"{width}x{height}"
        swapped = picture.size == (height, width)
        mend = "before its EXIF rotation? turn" if swapped else "on a resized picture? export"
        raise InputError(
            f"{picture.name}: annotated as {said}, and {source_name(picture.image)} is {real}; "
            f"was that {mend} the annotations again"
        )
    for region in picture.regions:
        _check(region, width, height)
    return replace(picture, size=(width, height))


def draw(picture: Annotated, labels: Mapping[Class, int]) -> Int32[np.ndarray, "h w"]:
    """Return a label map of what is annotated in a picture of known size; the rest is 0."""
    assert picture.size is not None  # fit
    width, height = picture.size
    canvas = np.zeros((height, width), np.int32)
    for region in sorted(picture.regions, key=lambda region: region.of is not None):
        value = IGNORED if region.of is None else labels[region.of]
        match region.shape:
            case rle.RunLengths() as runs:
                canvas[rle.decode(runs)] = value
            case Patch(mask, left, top):
                rows, cols = mask.shape
                canvas[top : top + rows, left : left + cols][mask] = value
            case Polygons(parts):
                for part in parts:
                    _fill(canvas, part, value)
    return canvas


def find_size(image: Path | bytes) -> tuple[int, int]:
    """Return width and height of an upright picture.

    Raises:
        InputError: It cannot be read.
    """
    facts = find_facts(image)
    if facts is None:
        height, width = load_image(image).shape[:2]
        return width, height
    width, height = facts.size
    return (height, width) if facts.orientation >= 5 else (width, height)


def _check(region: Region, width: int, height: int) -> None:
    """Refuse what is of another picture.

    Raises:
        InputError: Run lengths have another size, a mask leaves the picture, or a point is further
            outside of it than it is large.
    """
    real = f"{width}x{height}"
    match region.shape:
        case rle.RunLengths(size) if size != (height, width):
            raise InputError(
                f"{region.place}: run lengths of {size[1]}x{size[0]} for a picture of {real}; "
                "export the file again"
            )
        case Patch(mask, left, top):
            rows, cols = mask.shape
            if left < 0 or top < 0 or left + cols > width or top + rows > height:
                raise InputError(
                    f"{region.place}: a mask of {cols}x{rows} at {left},{top} leaves the picture "
                    f"of {real}"
                )
        case Polygons(parts):
            size = np.array((width, height))
            for ring in (ring for part in parts for ring in part):
                far = ((ring < -size) | (ring > 2 * size)).any(axis=1)
                if far.any():
                    number = int(far.argmax())
                    x, y = ring[number]
                    raise InputError(
                        f"{region.place}: point {number + 1} ({x:g}, {y:g}) lies far outside of "
                        f"{real}; was another size of the picture annotated?"
                    )


def _fill(canvas: Int32[np.ndarray, "h w"], rings: tuple[Points, ...], value: int) -> None:
    """Fill a polygon: a pixel is inside if its middle is."""
    height, width = canvas.shape
    (left, top), (right, bottom) = rings[0].min(axis=0), rings[0].max(axis=0)
    x0, x1 = max(0, math.floor(left)), min(width, math.ceil(right))
    y0, y1 = max(0, math.floor(top)), min(height, math.ceil(bottom))
    if x0 >= x1 or y0 >= y1:
        return
    step = max(1, _BAND_PIXELS // (_SCALE**2 * (x1 - x0)))
    for row in range(y0, y1, step):
        rows = min(step, y1 - row)
        drawing = Image.new("L", (_SCALE * (x1 - x0) + 1, _SCALE * rows + 1))
        pen = ImageDraw.Draw(drawing)
        for fill, ring in zip((1, *[0] * (len(rings) - 1)), rings, strict=True):
            corners = np.rint((ring - (x0, row)) * _SCALE).astype(int)
            pen.polygon(corners.ravel().tolist(), fill=fill)
        inside = np.asarray(drawing)[_SCALE // 2 :: _SCALE, _SCALE // 2 :: _SCALE] > 0
        canvas[row : row + rows, x0:x1][inside] = value
