"""Resizing: of images in JAX, of tables of positions, and one axis of a mask as a matrix.

Each rule is another one because published models were trained with it; each says which it is.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def resize(image: Float[Array, "b h w c"], shape: tuple[int, int]) -> Float[Array, "b y x c"]:
    """Resize (bilinear, antialiased where it shrinks)."""
    if image.shape[1:3] == shape:
        return image
    return jax.image.resize(image, (len(image), *shape, image.shape[-1]), "linear")


def linear_resize(table: Float[Array, "length d"], length: int) -> Float[Array, "new d"]:
    """Resize a table along its first axis as torch's `interpolate(mode="linear")` does."""
    if table.shape[0] == length:
        return table
    return jax.image.resize(table, (length, table.shape[1]), "linear", antialias=False)


def bicubic_resize(
    table: Float[Array, "h w d"], shape: tuple[int, int]
) -> Float[Array, "newh neww d"]:
    """Resize a table of positions as torch's `interpolate(mode="bicubic")` does (a = -0.75)."""
    if table.shape[:2] == shape:
        return table
    rows = jnp.asarray(_bicubic_weights(table.shape[0], shape[0]), table.dtype)
    cols = jnp.asarray(_bicubic_weights(table.shape[1], shape[1]), table.dtype)
    return jnp.einsum("yh,xw,hwd->yxd", rows, cols, table)


def smooth_resize(
    table: Float[Array, "h w d"], shape: tuple[int, int]
) -> Float[Array, "newh neww d"]:
    """Resize a table of positions as torch's "bicubic" does with `antialias=True` (a = -0.5)."""
    return jax.image.resize(table, (*shape, table.shape[-1]), "cubic", antialias=True)


def _bicubic_weights(old: int, new: int) -> np.ndarray:
    """Return the (new, old) matrix of torch's bicubic weights, borders repeated."""
    a = -0.75  # torch's coefficient; jax.image and Pillow use -0.5
    centre = (np.arange(new) + 0.5) * old / new - 0.5
    start = np.floor(centre).astype(int)
    weights = np.zeros((new, old))
    for offset in range(-1, 3):
        t = np.abs(centre - (start + offset))
        near = (a + 2) * t**3 - (a + 3) * t**2 + 1
        far = a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
        value = np.where(t <= 1, near, np.where(t < 2, far, 0.0))
        np.add.at(weights, (np.arange(new), np.clip(start + offset, 0, old - 1)), value)
    return weights


def bilinear_matrix(old: int, new: int) -> Float[np.ndarray, "new old"]:
    """Return the matrix that resizes an axis as torch's bilinear `interpolate` does.

    Half-pixel centres, and two neighbours even where the axis shrinks: nothing is smoothed.
    """
    source = np.maximum((np.arange(new) + 0.5) * old / new - 0.5, 0.0)
    left = np.minimum(source.astype(int), old - 1)
    right = np.minimum(left + 1, old - 1)
    matrix = np.zeros((new, old))
    np.add.at(matrix, (np.arange(new), left), 1.0 - (source - left))
    np.add.at(matrix, (np.arange(new), right), source - left)
    return matrix
