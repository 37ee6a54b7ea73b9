"""The resizing rule of every model here: a picture becomes a square, whatever its aspect."""

import numpy as np
from jaxtyping import Float32, Int32, UInt8
from PIL import Image


def squeeze_image(image: UInt8[np.ndarray, "h w 3"], size: int) -> Float32[np.ndarray, "s s 3"]:
    """Resize a picture (bicubic, antialiased) and return RGB in 0..1."""
    resized = Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(resized, np.float32) / 255


def squeeze_labels(labels: Int32[np.ndarray, "h w"], size: int) -> Int32[np.ndarray, "s s"]:
    """Resize a label map (nearest)."""
    image = Image.fromarray(labels.astype(np.int32), mode="I")
    return np.asarray(image.resize((size, size), Image.Resampling.NEAREST), np.int32)
