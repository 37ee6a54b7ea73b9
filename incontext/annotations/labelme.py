"""labelme's JSON, a file a picture: polygons, rectangles, circles and masks."""

import base64
import binascii
import math
from pathlib import Path

import numpy as np

from incontext.annotations import pictures
from incontext.annotations.parse import Node, Points, show
from incontext.annotations.shapes import Annotated, Class, Patch, Polygons, Region, Shape
from incontext.files.decode import MAX_PIXELS, decode
from seggpt.errors import InputError

BACKGROUND, IGNORED = "_background_", "__ignore__"
"""Labels that labelme's own converters take for nothing, and for what does not count."""

_MOST_CORNERS = 720  # of a circle


def read_labelme(data: Node, file: Path, *, images: Path | None) -> Annotated:
    """Read a file of labelme.

    Raises:
        InputError: Something in it makes no sense, or the picture is missing.
    """
    size = None
    if data.has("imageWidth") and data.has("imageHeight"):
        size = (data["imageWidth"].whole(least=1), data["imageHeight"].whole(least=1))
    regions = [
        Region(_shape(shape), _class(shape), shape.place)
        for shape in data["shapes"].items("shape")
        if shape["label"].text() != BACKGROUND
    ]
    return Annotated(_picture(data, file, images), data.place, tuple(regions), size)


def _class(shape: Node) -> Class | None:
    label = shape["label"].text().strip()
    return None if label == IGNORED else Class(name=label)


def _shape(shape: Node) -> Shape:
    kind = shape["shape_type"].text() if shape.has("shape_type") else "polygon"
    points = shape["points"]
    match kind:
        case "polygon":
            return Polygons(((points.points(),),))
        case "rectangle":
            (x0, y0), (x1, y1) = _two(points, kind)
            return Polygons(((np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)]),),))
        case "circle":
            center, edge = _two(points, kind)
            radius = math.hypot(*(edge - center))
            turns = np.linspace(0, 2 * np.pi, _corners(radius), endpoint=False)
            return Polygons(
                ((center + radius * np.stack([np.cos(turns), np.sin(turns)], axis=1),),)
            )
        case "mask":
            return _patch(shape)
    raise shape.error(
        f"shape_type {show(kind)} has no area; outline it as a polygon, rectangle, circle or mask"
    )


def _two(points: Node, kind: str) -> Points:
    found = points.points(least=2)
    if len(found) != 2:
        raise points.error(f"{kind} needs 2 points, and has {len(found)}")
    return found


def _corners(radius: float) -> int:
    return int(min(max(32, math.pi * radius), _MOST_CORNERS))


def _patch(shape: Node) -> Patch:
    """Read a mask: a PNG between two pixels."""
    (x0, y0), (x1, y1) = _two(shape["points"], "mask").astype(int).tolist()
    data = _bytes(shape["mask"])
    try:
        image = decode(data, max_pixels=MAX_PIXELS).image
    except InputError as error:
        raise shape.error(f"mask: {error}") from error
    if image.size != (x1 - x0 + 1, y1 - y0 + 1):
        raise shape.error(
            f"mask of {image.width}x{image.height} between the pixels {x0},{y0} and {x1},{y1}"
        )
    return Patch(np.asarray(image.convert("L")) > 0, x0, y0)


def _bytes(node: Node) -> bytes:
    try:
        return base64.b64decode(node.text(), validate=True)
    except (binascii.Error, ValueError) as error:
        raise node.error(f"{node.key} is no base64; export it again") from error


def _picture(data: Node, file: Path, images: Path | None) -> Path | bytes:
    """Return the picture that the file names, the one with its name, or the one in it."""
    refused: InputError | None = None
    if data.has("imagePath") and data.value["imagePath"] != "":
        try:
            found = pictures.find_named(data["imagePath"], file, images=images, climb=True)
        except InputError as error:
            refused, found = error, None
        if found is not None:
            return found
    if (beside := pictures.find_stem(file.stem, file, images=images)) is not None:
        return beside
    if data.has("imageData"):
        return _bytes(data["imageData"])
    raise refused or pictures.missing(data.place, show(data.value.get("imagePath") or file.stem))
