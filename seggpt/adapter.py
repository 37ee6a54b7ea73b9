"""A small convolutional net beside a frozen model, which corrects what that painted.

It sees the picture and the model's probabilities at a finer scale than the model's patches, and
adds to their logarithms. A fresh one adds nothing.
"""

from functools import lru_cache, partial

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PyTree

from seggpt.canvas import to_patches

WIDTHS = (16, 32, 48, 64)  # channels at each scale, from fine to coarse
CELL = 2  # pixels along a side of the finest scale's cells
GROUPS = 4  # of channels, normalised together
FLOOR = 0.02  # least probability that is told from none
STRIDE = CELL * 2 ** (len(WIDTHS) - 1)  # pixels along a side of the coarsest scale's cells


class Adapter(nnx.Module):
    """A U-Net of three halvings, from a picture and probabilities to corrected ones."""

    def __init__(self, planes: int, *, rngs: nnx.Rngs) -> None:
        scales = list(enumerate(WIDTHS))
        inputs = [CELL**2 * (3 + planes), *WIDTHS]
        self.down = nnx.List([Pair(inputs[i], width, rngs=rngs) for i, width in scales])
        self.up = nnx.List(
            [Pair(WIDTHS[i + 1] + width, width, rngs=rngs) for i, width in scales[:-1]]
        )
        zeros = nnx.initializers.zeros
        self.head = nnx.Conv(
            WIDTHS[0], CELL**2 * planes, kernel_size=(1, 1), kernel_init=zeros, rngs=rngs
        )

    def __call__(
        self, image: Float[Array, "b h w 3"], chances: Float[Array, "b h w planes"]
    ) -> Float[Array, "b h w planes"]:
        """Return the logits of corrected probabilities; the picture is normalised.

        Height and width are multiples of `STRIDE`.
        """
        logits = jnp.log(jnp.clip(chances, FLOOR, 1.0))
        painted = logits - logits.mean(axis=-1, keepdims=True)
        cells = _to_cells(jnp.concatenate([image, painted], axis=-1))
        seen = []
        for scale, pair in enumerate(self.down):
            cells = pair(cells if scale == 0 else _halved(cells))
            seen.append(cells)
        for pair, fine in reversed(list(zip(self.up, seen[:-1], strict=True))):
            coarse = cells.repeat(2, axis=1).repeat(2, axis=2)
            cells = pair(jnp.concatenate([coarse, fine], axis=-1))
        return logits + _from_cells(self.head(cells))


class Pair(nnx.Module):
    """Two convolutions, each normalised and cut off at 0."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs) -> None:
        conv = partial(nnx.Conv, kernel_size=(3, 3), use_bias=False, rngs=rngs)
        init = nnx.initializers.he_normal()
        self.first = conv(inputs, outputs, kernel_init=init)
        self.second = conv(outputs, outputs, kernel_init=init)
        self.first_norm, self.second_norm = (
            nnx.GroupNorm(outputs, GROUPS, epsilon=1e-5, use_fast_variance=False, rngs=rngs)
            for _ in range(2)
        )

    def __call__(self, cells: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        """Apply both to a grid of cells."""
        cells = nnx.relu(self.first_norm(self.first(cells)))
        return nnx.relu(self.second_norm(self.second(cells)))


def fresh_adapter(planes: int, *, seed: int) -> PyTree:
    """Return the weights of an adapter that corrects nothing yet."""
    return nnx.as_pure(nnx.state(Adapter(planes, rngs=nnx.Rngs(seed)), nnx.Param))


def adapt(
    params: PyTree, image: Float[Array, "b h w 3"], chances: Float[Array, "b h w planes"]
) -> Float[Array, "b h w planes"]:
    """Run an adapter with these weights."""
    return nnx.merge(_graphdef(chances.shape[-1]), params)(image, chances)


def adapter_bytes(planes: int) -> int:
    """Return what an adapter's weights take in a file, at 2 bytes a number."""
    shapes = jax.eval_shape(partial(fresh_adapter, planes, seed=0))
    return sum(2 * leaf.size for leaf in jax.tree.leaves(shapes))


@lru_cache
def _graphdef(planes: int) -> nnx.GraphDef[Adapter]:
    return nnx.graphdef(nnx.eval_shape(lambda: Adapter(planes, rngs=nnx.Rngs(0))))


def _halved(cells: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """Keep the largest number of 2 x 2 cells.

    In pairs: the gradient of a `max` over axes divides by how many equal it, and where a compiler
    computes the cells twice, slightly differently, by none.
    """
    b, h, w, c = cells.shape
    rows = cells.reshape(b, h // 2, 2, w, c)
    columns = jnp.maximum(rows[:, :, 0], rows[:, :, 1]).reshape(b, h // 2, w // 2, 2, c)
    return jnp.maximum(columns[:, :, :, 0], columns[:, :, :, 1])


def _to_cells(pixels: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c4"]:
    b, h, w, _ = pixels.shape
    return to_patches(pixels, CELL).reshape(b, h // CELL, w // CELL, -1)


def _from_cells(cells: Float[Array, "b h2 w2 c4"]) -> Float[Array, "b h w c"]:
    b, h, w, channels = cells.shape
    parts = cells.reshape(b, h, w, CELL, CELL, channels // CELL**2).swapaxes(2, 3)
    return parts.reshape(b, CELL * h, CELL * w, channels // CELL**2)
