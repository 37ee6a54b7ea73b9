"""Masks drawn to the edges of their picture: a guided filter (He et al., arXiv 1505.00996).

Around every pixel the chance of foreground is fitted as a linear function of the colour, so that
it changes where the colour does. A small model's masks are coarse; its pictures are not.
"""

import numpy as np
from jaxtyping import Float, Float32, UInt8
from PIL import Image
from scipy.ndimage import uniform_filter

FINE = 256  # pixels along a side of what comes out, whatever the picture's size
REACH = 16  # of those, to each side of a pixel that is fitted
CALM = 3e-4  # variance of colours (0..1) below which they say nothing
_SURE = 1e-4  # least chance, and least doubt


def snap(
    logits: Float32[np.ndarray, "m m"], picture: UInt8[np.ndarray, "h w 3"]
) -> Float32[np.ndarray, "fine fine"]:
    """Return the logits of a mask of a squeezed picture, finer and along the picture's edges."""
    fine = Image.fromarray(logits).resize((FINE, FINE), Image.Resampling.BILINEAR)
    chances = 0.5 * (1 + np.tanh(0.5 * np.asarray(fine, np.float32)))
    small = Image.fromarray(picture).resize((FINE, FINE), Image.Resampling.BILINEAR)
    guide = np.asarray(small, np.float32) / 255
    snapped = np.clip(_fit(chances, guide), _SURE, 1 - _SURE)
    return np.log(snapped / (1 - snapped)).astype(np.float32)


def _fit(
    chances: Float32[np.ndarray, "h w"], guide: Float32[np.ndarray, "h w 3"]
) -> Float[np.ndarray, "h w"]:
    """Fit chances to colours in every window, and average the fits that a pixel is in."""
    outer = guide[..., :, None] * guide[..., None, :]
    mean, color = _mean(chances), _mean(guide)
    squares = _mean(outer) - color[..., :, None] * color[..., None, :]
    products = _mean(guide * chances[..., None]) - color * mean[..., None]
    slope = np.linalg.solve(squares + CALM * np.eye(3, dtype=np.float32), products[..., None])
    slope = slope[..., 0]
    offset = mean - (slope * color).sum(axis=-1)
    return (_mean(slope) * guide).sum(axis=-1) + _mean(offset)


def _mean(values: Float32[np.ndarray, "h w *c"]) -> Float32[np.ndarray, "h w *c"]:
    """Average over each pixel's window."""
    return uniform_filter(values, size=2 * REACH + 1, axes=(0, 1), mode="nearest")
