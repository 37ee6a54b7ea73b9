"""Drawn masks with known labels, and what programs make of them."""

import io

import numpy as np
from PIL import Image, ImageDraw

SIZE = (160, 120)
COLORS = {1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0)}


def draw_labels() -> np.ndarray:
    """Return three discs and a bar, labelled 1, 2, 3 on 0."""
    image = Image.new("L", SIZE)
    pen = ImageDraw.Draw(image)
    pen.ellipse((12, 15, 45, 48), fill=1)
    pen.ellipse((70, 20, 115, 65), fill=2)
    pen.ellipse((25, 70, 60, 105), fill=3)
    pen.rectangle((100, 80, 140, 100), fill=2)
    return np.asarray(image)


LABELS = draw_labels()


def levels(*values: int) -> np.ndarray:
    """Return the labels with other values."""
    return np.array([0, *values], np.uint8)[LABELS]


def colored() -> Image.Image:
    table = np.zeros((4, 3), np.uint8)
    for label, color in COLORS.items():
        table[label] = color
    return Image.fromarray(table[LABELS])


def encode(image: Image.Image | np.ndarray, file_format: str = "PNG", **options) -> bytes:
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def tiff(array: np.ndarray, **options) -> bytes:
    import tifffile  # not every test needs it

    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


def indexed(values: np.ndarray, palette: list[tuple[int, int, int]]) -> Image.Image:
    image = Image.fromarray(values.astype(np.uint8))
    image.putpalette([channel for color in palette for channel in color])
    return image


def draw_cells(count: int, *, side: int = 7) -> np.ndarray:
    """Return so many little squares, each with an id of its own."""
    columns = 40
    rows = -(-count // columns)
    ids = np.zeros((rows * (side + 2), columns * (side + 2)), np.uint16)
    for number in range(count):
        top, left = divmod(number, columns)
        top, left = top * (side + 2), left * (side + 2)
        ids[top : top + side, left : left + side] = number + 1
    return ids
