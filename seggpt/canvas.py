"""From pictures to what the model eats, and back: normalisation, patches, resizing rules."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# ImageNet's statistics of RGB in 0..1, which the published models use for pictures and colours.
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


def normalize(rgb: Float[Array, "*b 3"]) -> Float[Array, "*b 3"]:
    """Turn RGB in 0..1 into the model's units."""
    return (rgb - MEAN) / STD


def denormalize(values: Float[Array, "*b 3"]) -> Float[Array, "*b 3"]:
    """Turn the model's units back into RGB in 0..1 (not clipped)."""
    return values * STD + MEAN


def to_patches(image: Float[Array, "b h w c"], patch: int) -> Float[Array, "b n pixels"]:
    """Cut an image into rows of patches; a patch is laid out as (row, column, channel)."""
    b, h, w, c = image.shape
    lattice = image.reshape(b, h // patch, patch, w // patch, patch, c)
    return lattice.transpose(0, 1, 3, 2, 4, 5).reshape(b, -1, patch * patch * c)


def from_patches(
    patches: Float[Array, "b n pixels"], patch: int, *, shape: tuple[int, int]
) -> Float[Array, "b h w c"]:
    """Undo `to_patches` for a grid of `shape` (height, width) in patches."""
    b = patches.shape[0]
    lattice = patches.reshape(b, *shape, patch, patch, -1).transpose(0, 1, 3, 2, 4, 5)
    return lattice.reshape(b, shape[0] * patch, shape[1] * patch, -1)


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
