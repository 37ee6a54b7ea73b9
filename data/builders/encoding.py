"""Pictures and masks as the bytes of a record."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped
from PIL import Image

from data.builders.contents import MOST_PIXELS, Item
from incontext.files.decode import find_facts
from incontext.files.images import load_image
from incontext.files.masks import check_same_size
from seggpt.errors import one_line

_KEPT = (b"\xff\xd8", b"\x89PNG")  # what JPEG and PNG begin with


def encode(item: Item, *, wide: bool) -> dict[str, Any]:
    """Return a picture and its masks as a record; with `wide` class ids have 16 bits.

    Raises:
        InputError: One of them cannot be read, or they have two sizes.
    """
    name = one_line(item.image) if isinstance(item.image, Path) else item.name
    image, size = encode_image(item.image if isinstance(item.image, Path) else item.image())
    maps = item.read()
    canvas = np.broadcast_to(np.uint8(0), (*size, 3))
    check_same_size(canvas, maps.labels, image_name=name, mask_name=f"{name}: its mask")
    instances = maps.instances
    if instances is None:
        instances = np.zeros(maps.labels.shape, np.uint16)
    classes, counts = np.unique(maps.labels, return_counts=True)
    of_instances = sorted(maps.instance_classes.items())
    return {
        "name": item.name,
        "images": image,
        "masks": encode_png(maps.labels.astype(np.uint16 if wide else np.uint8)),
        "instances": encode_png(instances.astype(np.uint16)),
        "classes": classes[classes > 0].astype(np.int32),
        "areas": (counts[classes > 0] / maps.labels.size).astype(np.float32),
        "instance_classes": np.array(of_instances, np.int32).reshape(-1, 2),
    }


def encode_image(image: Path | bytes) -> tuple[bytes, tuple[int, int]]:
    """Return a picture's bytes, and its height and width.

    A JPEG or PNG that all programs read alike stays as it is; others (turned by EXIF, of 16 bits,
    TIFF, ...) become PNG.

    Raises:
        InputError: It cannot be read.
    """
    pixels = load_image(image, max_pixels=MOST_PIXELS)  # damage is found now, not in training
    size = (pixels.shape[0], pixels.shape[1])
    data = image if isinstance(image, bytes) else image.read_bytes()
    if data.startswith(_KEPT) and (facts := find_facts(data)) and facts.orientation == 1:
        with Image.open(io.BytesIO(data)) as opened:
            if opened.mode in ("RGB", "L"):
                return data, size
    return encode_png(pixels), size


def encode_png(pixels: Shaped[np.ndarray, "h w *c"]) -> bytes:
    """Return pixels of 8 or 16 bits as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()
