"""Painted pictures as grey levels 0..255, the unit of every code of Painter."""

import numpy as np
from jaxtyping import Float, Float64, Int16, UInt8

from seggpt.errors import InputError

Painted = UInt8[np.ndarray, "h w 3"] | Float[np.ndarray, "h w 3"]
"""8-bit levels, or float with 1.0 for level 255; floats may lie outside of 0..1 and are clipped."""


def float_levels(rgb: np.ndarray) -> Float64[np.ndarray, "h w 3"]:
    """Return the levels of a painted picture, clipped to 0..255 and not rounded.

    Raises:
        InputError: The array is no painted picture.
    """
    if rgb.ndim != 3 or rgb.shape[-1] != 3:
        raise InputError(f"rgb has shape {rgb.shape}; pass one picture of shape (h, w, 3)")
    if rgb.dtype == np.uint8:
        return rgb.astype(np.float64)
    if not np.issubdtype(rgb.dtype, np.floating):
        raise InputError(f"rgb is {rgb.dtype}; pass uint8 in 0..255 or float in 0..1")
    if np.isnan(rgb).any():
        raise InputError(f"rgb holds NaN in {np.isnan(rgb).any(axis=-1).sum()} pixels; mend these")
    return np.clip(rgb.astype(np.float64) * 255, 0, 255)


def grey_levels(rgb: np.ndarray) -> Int16[np.ndarray, "h w 3"]:
    """Return the levels of a painted picture, cut to whole ones as the reference's PNGs are.

    Raises:
        InputError: The array is no painted picture.
    """
    return float_levels(rgb).astype(np.int16)


def color_distances(
    levels: Int16[np.ndarray, "*b 3"], colors: UInt8[np.ndarray, "k 3"]
) -> Int16[np.ndarray, "*b k"]:
    """Sum the differences of levels over the channels: L1, 0..765."""
    codes = colors.astype(np.int16)
    # A channel at a time: three times less memory than summing one array with a channel axis.
    red, green, blue = (np.abs(levels[..., c, None] - codes[:, c]) for c in range(3))
    return red + green + blue
