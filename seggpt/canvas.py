"""From images to what a model sees, and back: normalisation and patches."""

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
