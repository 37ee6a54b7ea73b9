"""Matching: colours carried from examples to a query by attention over features, before training.

A key is a token of an example (or a cell of one), its value the colours painted there. Most keys
of an example are background and the softmax sums them up, so each key counts (1 / its label's
share of all examples) to the power of a learned `balance`: 0 is plain attention, 1 gives every
label the same say.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from seggpt.attention import CACHED, count_parts
from seggpt.canvas import to_patches
from seggpt.palette import IGNORE
from seggpt.softmax import dot_products, softmax_mean

LEAST_SHARE = 1e-3  # of all pixels, that a label is taken to have
LEAST_RARITY = 0.01  # of a key, so that one that shows nothing known hardly counts


def match(
    q: Float[Array, "b n c"],
    k: Float[Array, "b m c"],
    values: Float[Array, "b m v"],
    weights: Float[Array, "b m"],
    *,
    limit: int = CACHED,
) -> Float[Array, "b n v"]:
    """Return for each query the values' mean, weighted by the softmax of q . k + weights.

    Where a row has more than `limit` logits, a part of the queries is done at a time.
    """
    parts = count_parts(q.shape[1], k.shape[1], limit=limit)

    def mean_of(some: Float[Array, "b part c"]) -> Float[Array, "b part v"]:
        logits = jax.vmap(dot_products)(some, k) + weights[:, None]
        return jax.vmap(softmax_mean)(logits, values.astype(jnp.float32))

    if parts == 1:
        return mean_of(q)
    split = q.reshape(len(q), parts, -1, q.shape[-1]).swapaxes(0, 1)
    return jax.lax.map(mean_of, split).swapaxes(0, 1).reshape(*q.shape[:2], -1)


def rarity(fractions: Float[Array, "b m k"], shares: Float[Array, "b k"]) -> Float[Array, "b m"]:
    """Return the mean of 1 / share over the pixels of each key.

    `fractions` are the shares of labels in a key's pixels, `shares` those in all examples.
    """
    inverse = 1 / jnp.maximum(shares, LEAST_SHARE)
    return jnp.maximum((fractions * inverse[:, None]).sum(-1), LEAST_RARITY)


def label_fractions(
    class_ids: Int[Array, "b h w"], labels: int, grid: tuple[int, int]
) -> Float[Array, "b gh gw k"]:
    """Return the share of each label 0..labels in the cells of a grid; ignored pixels have none."""
    known = jnp.where(class_ids == IGNORE, labels + 1, class_ids)
    return pool(jax.nn.one_hot(known, labels + 1), grid)


def pool(image: Float[Array, "b h w c"], grid: tuple[int, int]) -> Float[Array, "b gh gw c"]:
    """Average an image over the cells of a grid; cells overlap where it does not divide the image.

    Cell i reaches from floor(i h / gh) to ceil((i + 1) h / gh), as torch's adaptive pooling does.
    """
    if image.shape[1] % grid[0] == 0 and image.shape[2] % grid[1] == 0:
        rows, cols = image.shape[1] // grid[0], image.shape[2] // grid[1]
        lattice = image.reshape(len(image), grid[0], rows, grid[1], cols, -1)
        return lattice.mean(axis=(2, 4))
    rows, cols = (_pool_weights(image.shape[axis + 1], grid[axis]) for axis in (0, 1))
    return jnp.einsum("yh,xw,bhwc->byxc", rows, cols, image)


def _pool_weights(length: int, cells: int) -> np.ndarray:
    """Return the (cells, length) matrix of one axis of `pool`."""
    weights = np.zeros((cells, length), np.float32)
    for cell in range(cells):
        start, stop = cell * length // cells, -(-(cell + 1) * length // cells)
        weights[cell, start:stop] = 1 / (stop - start)
    return weights


def cell_colours(
    colours: Float[Array, "b h w 3"], grid: tuple[int, int]
) -> Float[Array, "b n twelve"]:
    """Return the mean colours of 2 x 2 cells a token, row by row."""
    return to_patches(pool(colours, (2 * grid[0], 2 * grid[1])), 2)


def pixel_statistics(
    image: Float[Array, "b h w 3"], grid: tuple[int, int]
) -> Float[Array, "b n six"]:
    """Return the mean and the deviation of an image's colours in each cell of a grid."""
    mean, square = pool(image, grid), pool(jnp.square(image), grid)
    deviation = jnp.sqrt(jnp.maximum(square - jnp.square(mean), 0.0) + 1e-4)
    both = jnp.concatenate([mean, deviation], axis=-1)
    return both.reshape(len(image), -1, 6)
