"""Finding a query's colours and texture among the examples' pixels, finer than patches are.

A transformer that is small, or was trained for little, is worse than a colour histogram where
colour says everything. This gives it what the histogram knows: every cell of 2 x 2 pixels looks
its few features up among the cells of all examples, as a kernel estimate, and reads how those
were painted.
"""

from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from seggpt.attention import KeysValues
from seggpt.canvas import STD, to_patches
from seggpt.config import CELL

WINDOW = 4  # pixels along a side that a cell's features see
FEATURES = 8  # of a cell, in each head
BANDWIDTHS = (0.08, 0.04, 0.02, 0.06)  # of the heads at first, in RGB of 0..1
MOST = 1 << 24  # logits at a time: 64 MiB
SAME_COLOR = 0.15  # how far apart colours of one label may be painted, in RGB of 0..1


class Lookup(nnx.Module):
    """Kernel estimates of what the examples painted on pixels like the query's."""

    heads: ClassVar[int] = len(BANDWIDTHS)
    width: ClassVar[int] = FEATURES

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        heads = self.heads
        self.features = nnx.Conv(
            3,
            heads * FEATURES,
            kernel_size=(WINDOW, WINDOW),
            strides=CELL,
            use_bias=False,
            dtype=jnp.float32,  # squares of features reach thousands
            kernel_init=_start_features,
            rngs=rngs,
        )
        # 0 counts cells as they are, 1 gives every colour of an example the same weight in all.
        self.rarity = nnx.Param(jnp.full((heads,), 0.5, jnp.float32))

    @property
    def channels(self) -> int:
        """How many numbers `find` returns for a cell."""
        return 4 * len(BANDWIDTHS)

    def encode(
        self, images: Float[Array, "b e h w 3"], targets: Float[Array, "b e h w 3"]
    ) -> KeysValues:
        """Return the keys and values of the examples' cells."""
        b, e = images.shape[:2]
        keys = self.describe(images.reshape(b * e, *images.shape[2:]))
        cells = to_patches(targets.reshape(b * e, *targets.shape[2:]), CELL)
        colors = cells.reshape(*cells.shape[:2], CELL * CELL, 3).mean(axis=2)
        rgb = colors.astype(jnp.float32) * STD
        common = jnp.exp(-_squares(rgb, rgb) / (2 * SAME_COLOR**2)).mean(axis=-1)
        # -|q - k|^2 / 2 as a dot product: the query's own square does not matter to a softmax.
        bias = -0.5 * (keys**2).sum(axis=-1) - jnp.log(common)[..., None] * self.rarity[...]
        keys = jnp.concatenate([keys, bias[..., None].astype(keys.dtype)], axis=-1)
        values = jnp.broadcast_to(colors[:, :, None], (*keys.shape[:3], 3))
        return _join(keys, b), _join(values, b)

    def find(self, found: KeysValues, query: Float[Array, "b h w 3"]) -> Float[Array, "b h2 w2 c"]:
        """Return for every cell of the query the colours found, and how near they were."""
        keys, values = (a.transpose(0, 2, 1, 3) for a in found)
        own = self.describe(query)
        b, n, heads, _ = own.shape
        parts = _parts(n, b * heads * keys.shape[2])
        # Some rows of cells at a time: all at once would take a gigabyte for a dozen examples.
        rows = own.reshape(b, parts, n // parts, heads, -1).transpose(1, 0, 3, 2, 4)
        cells = jax.lax.map(partial(_estimate, keys=keys, values=values), rows)
        cells = cells.transpose(1, 0, 3, 2, 4)
        return cells.reshape(b, query.shape[1] // CELL, query.shape[2] // CELL, -1)

    def describe(self, image: Float[Array, "b h w 3"]) -> Float[Array, "b n heads f"]:
        """Return the features of a picture's cells, row by row; near ones look alike."""
        cells = self.features(image)
        return cells.reshape(len(image), -1, len(BANDWIDTHS), FEATURES)


def _parts(cells: int, logits: int) -> int:
    """Return in how many equal parts to go through cells that have so many logits each."""
    fit = (p for p in range(1, cells) if cells % p == 0 and cells // p * logits <= MOST)
    return next(fit, cells)


def _estimate(
    q: Float[Array, "b heads n f"],
    *,
    keys: Float[Array, "b heads m f1"],
    values: Float[Array, "b heads m 3"],
) -> Float[Array, "b heads n 4"]:
    """Average the values under a Gaussian around each query, and say how dense the keys are."""
    folded = jnp.concatenate([q, jnp.ones_like(q[..., :1])], axis=-1)
    logits = jnp.matmul(folded, keys.swapaxes(-1, -2), precision=jax.lax.Precision.HIGHEST)
    top = jax.lax.stop_gradient(logits.max(axis=-1, keepdims=True))
    weights = jnp.exp(logits - top)
    total = weights.sum(axis=-1, keepdims=True)
    colors = jnp.matmul((weights / total).astype(values.dtype), values)
    density = jnp.log(total / keys.shape[2]) + top - 0.5 * (q**2).sum(axis=-1, keepdims=True)
    return jnp.concatenate([colors, jnp.exp(0.25 * density).astype(colors.dtype)], axis=-1)


def _start_features(key: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """Start with the mean colour of a cell, scaled to each head's bandwidth, and some texture."""
    kernel = 0.02 * jax.random.normal(key, (*shape[:3], len(BANDWIDTHS), FEATURES))
    middle = slice((WINDOW - CELL) // 2, (WINDOW + CELL) // 2)
    for head, width in enumerate(BANDWIDTHS):
        color = np.diag(STD / width / CELL**2)
        kernel = kernel.at[middle, middle, :, head, :3].set(color)
    texture = jax.random.normal(key, (WINDOW, WINDOW, 3, FEATURES - 3))
    texture = texture - texture.mean(axis=(0, 1))
    kernel = kernel.at[..., -1, 3:].set(texture)
    return kernel.reshape(shape).astype(dtype)


def _squares(a: Float[Array, "b n c"], b: Float[Array, "b m c"]) -> Float[Array, "b n m"]:
    """Return all squared distances."""
    cross = jnp.matmul(a, b.swapaxes(-1, -2))
    sides = (a**2).sum(axis=-1)[:, :, None] + (b**2).sum(axis=-1)[:, None]
    return jnp.maximum(sides - 2 * cross, 0)


def _join(a: Float[Array, "be n heads f"], b: int) -> Float[Array, "b m heads f"]:
    return a.reshape(b, -1, *a.shape[2:])
