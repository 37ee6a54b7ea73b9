"""Edges from the pixels: what was found on a coarse grid follows a picture's colours."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from seggpt.resize import resize

STEP = 2  # pixels that a cell of the filter has along a side
RADIUS = 4  # cells from the middle of a window to its rim
SMOOTH = 1e-3  # variance of colours in 0..1 below which a window is one surface


def follow_edges(
    found: Float[Array, "b gh gw k"], image: Float[Array, "b h w 3"]
) -> Float[Array, "b y x k"]:
    """Return shares at half the resolution of images (RGB in -1..1), shaped by their colours.

    The guided filter (He, Sun and Tang, TPAMI 2013): in every window the shares are the linear
    function of the colours that fits them best, and a pixel has the mean of its windows'.
    """
    shape = (image.shape[1] // STEP, image.shape[2] // STEP)
    guide, coarse = resize(0.5 * (image + 1), shape), resize(found, shape)
    rows, columns = _window_means(shape[0]), _window_means(shape[1])

    def mean(maps: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        return jnp.einsum("yh,xw,bhwc->byxc", rows, columns, maps)

    def outer(a: Array, b: Array) -> Array:
        return (a[..., :, None] * b[..., None, :]).reshape(*a.shape[:3], -1)

    colour, share = mean(guide), mean(coarse)
    spread = mean(outer(guide, guide)) - outer(colour, colour)
    shared = mean(outer(guide, coarse)) - outer(colour, share)
    spread = spread.reshape(*colour.shape, 3) + SMOOTH * jnp.eye(3)
    slopes = _inverse(spread) @ shared.reshape(*colour.shape, -1)
    offsets = share - jnp.einsum("bhwc,bhwck->bhwk", colour, slopes)
    slopes = mean(slopes.reshape(*colour.shape[:3], -1)).reshape(slopes.shape)
    return jnp.einsum("bhwc,bhwck->bhwk", guide, slopes) + mean(offsets)


def _window_means(length: int) -> Float[np.ndarray, "n n"]:
    """Return the matrix that takes the mean of an axis over windows; they end at its ends."""
    places = np.arange(length)
    inside = np.abs(places[:, None] - places) <= RADIUS
    return (inside / inside.sum(axis=1, keepdims=True)).astype(np.float32)


def _inverse(a: Float[Array, "*b 3 3"]) -> Float[Array, "*b 3 3"]:
    """Return the inverses of symmetric 3 x 3 matrices."""
    minors = jnp.cross(a[..., [1, 2, 0], :], a[..., [2, 0, 1], :])
    return minors / (a[..., :1, :] * minors[..., :1, :]).sum(axis=-1, keepdims=True)
