"""Tasks whose target is a picture of numbers: depth, denoising, deraining, low light.

Source: Painter/data/pairdataset.py (encoding) and Painter/eval/{nyuv2_depth,sidd,derain,lol}/
painter_inference_*.py (decoding).
"""

import numpy as np
from jaxtyping import Float, Float32, Int32, Integer, UInt8

from incontext.painter.levels import Painted, float_levels
from seggpt.errors import InputError

_DEPTH_RANGE_MM = 10_000  # NYUv2 reaches 10 m (pairdataset.py)


def encode_depth(
    depth_mm: Integer[np.ndarray, "h w"] | Float[np.ndarray, "h w"],
) -> UInt8[np.ndarray, "h w 3"]:
    """Paint depth in millimetres as grey, 0..10 m on levels 0..255.

    Levels are cut, not rounded, as Pillow turns floats into RGB: one level is 39.2 mm. What lies
    beyond 10 m is 255. Level 0 also stands for "not measured"; Painter's loss leaves it out.

    Raises:
        InputError: A depth is negative or not a number.
    """
    if not (depth_mm >= 0).all():
        raise InputError(
            f"depth_mm holds {depth_mm.min()}; depths are millimetres from 0, and 0 is unknown"
        )
    levels = np.clip(depth_mm.astype(np.float64) / _DEPTH_RANGE_MM * 255, 0, 255)
    return np.repeat(levels.astype(np.uint8)[..., None], 3, axis=-1)


def decode_depth(rgb: Painted) -> Int32[np.ndarray, "h w"]:
    """Read depth in whole millimetres, 0..10000: the mean of the channels, cut.

    The reference clips, then resizes to the picture's size (bilinear, not antialiased), and takes
    the mean last. Its scores count only 1 mm..10 m inside rows 45..470, columns 41..600 of 640x480.

    Raises:
        InputError: `rgb` is no painted picture.
    """
    # One division at the end keeps 8-bit levels exact: level 51 is 2000 mm, not 1999.
    return (float_levels(rgb).sum(axis=-1) * _DEPTH_RANGE_MM / (3 * 255)).astype(np.int32)


def decode_restored(rgb: Painted) -> Float32[np.ndarray, "h w 3"]:
    """Read a denoised, derained or brightened picture: RGB clipped to 0..1.

    The reference resizes first (bicubic, a = -0.75, as `seggpt.canvas.bicubic_resize` does) and
    clips what overshoots after that; its PNGs are the result times 255, cut.

    Raises:
        InputError: `rgb` is no painted picture.
    """
    return (float_levels(rgb) / 255).astype(np.float32)
