"""A convolutional net beside a frozen model, which corrects what that painted.

It sees the picture and the model's probabilities, of one look at it or several, at a finer scale
than the model's patches, and adds to their logarithms. A fresh one adds nothing. All of it but its
first and last layer, its trunk, does not depend on what is painted: a package's trunk has seen
other pictures before.
"""

from functools import lru_cache
from pathlib import Path

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PyTree

from seggpt.canvas import to_patches
from seggpt.errors import CheckpointError
from seggpt.weights.files import load_weights
from seggpt.weights.tree import flatten

WIDTHS = (24, 48, 96, 128, 128)  # channels at each scale, from fine to coarse
BLOCKS = (0, 1, 2, 2, 1)  # at each scale, before and below the coarsest
MIDDLE = 2  # the scale whose features are looked at too in training
CELL = 2  # pixels along a side of the finest scale's cells
GROUPS = 4  # of channels, normalised together
FLOOR = 0.02  # least probability that is told from none
TRUNK_FORMAT = {"format": "seggpt-adapter-trunk-1"}
STRIDE = CELL * 2 ** (len(WIDTHS) - 1)  # pixels along a side of the coarsest scale's cells


class Adapter(nnx.Module):
    """A trunk that is told what was painted, and a head that corrects it."""

    def __init__(self, planes: int, looks: int, *, rngs: nnx.Rngs) -> None:
        zeros = nnx.initializers.zeros
        self.trunk = Trunk(rngs=rngs)
        self.hint = nnx.Conv(
            CELL**2 * looks * planes, WIDTHS[0], kernel_size=(3, 3), kernel_init=zeros, rngs=rngs
        )
        self.head = nnx.Conv(
            WIDTHS[0], CELL**2 * planes, kernel_size=(1, 1), kernel_init=zeros, rngs=rngs
        )

    def __call__(
        self, image: Float[Array, "b h w 3"], chances: Float[Array, "b h w looks planes"]
    ) -> Float[Array, "b h w planes"]:
        """Return the logits of corrected probabilities; the picture is normalised.

        What is corrected is the mean of the looks' logarithms; the net is told each of them.
        Height and width are multiples of `STRIDE`.
        """
        logits = jnp.log(jnp.clip(chances, FLOOR, 1.0))
        painted = logits - logits.mean(axis=-1, keepdims=True)
        told = to_cells(painted.reshape(*image.shape[:3], -1))
        features, _ = self.trunk(to_cells(image), self.hint(told))
        return logits.mean(axis=-2) + _from_cells(self.head(nnx.relu(features)))


class Trunk(nnx.Module):
    """A U-Net from cells of a picture to features of each, which sums up from fine to coarse."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.stem = nnx.Conv(CELL**2 * 3, WIDTHS[0], kernel_size=(3, 3), rngs=rngs)
        self.first = Layer(WIDTHS[0], WIDTHS[0], rngs=rngs)
        below = (WIDTHS[0], *WIDTHS)
        self.down = nnx.List(
            [
                nnx.List(
                    [Block(below[i] if n == 0 else width, width, rngs=rngs) for n in range(count)]
                )
                for i, (width, count) in enumerate(zip(WIDTHS, BLOCKS, strict=True))
            ]
        )
        scales = list(enumerate(WIDTHS[:-1]))
        self.across = nnx.List(
            [nnx.Conv(WIDTHS[i + 1], width, kernel_size=(1, 1), rngs=rngs) for i, width in scales]
        )
        self.up = nnx.List([Layer(width, width, rngs=rngs) for _, width in scales])

    def __call__(
        self, cells: Float[Array, "b h w c"], hint: Float[Array, "b h w d"] | float = 0.0
    ) -> tuple[Float[Array, "b h w d"], Float[Array, "b h4 w4 d4"]]:
        """Return features of each cell, and those of a middle scale; a hint joins the stem."""
        cells = self.first(self.stem(cells) + hint)
        seen = []
        for scale, blocks in enumerate(self.down):
            cells = cells if scale == 0 else _halved(cells)
            for block in blocks:
                cells = block(cells)
            seen.append(cells)
        middle = cells
        for scale in reversed(range(len(seen) - 1)):
            coarse = self.across[scale](cells).repeat(2, axis=1).repeat(2, axis=2)
            cells = self.up[scale](seen[scale] + coarse)
            if scale == MIDDLE:
                middle = cells
        return cells, middle


class Layer(nnx.Module):
    """A normalisation, a cut at 0 and a convolution."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs) -> None:
        self.norm = nnx.GroupNorm(inputs, GROUPS, epsilon=1e-5, use_fast_variance=False, rngs=rngs)
        self.conv = nnx.Conv(
            inputs,
            outputs,
            kernel_size=(3, 3),
            use_bias=False,
            kernel_init=nnx.initializers.he_normal(),
            rngs=rngs,
        )

    def __call__(self, cells: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        """Apply all three to a grid of cells."""
        return self.conv(nnx.relu(self.norm(cells)))


class Block(nnx.Module):
    """Two layers beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs) -> None:
        self.first = Layer(inputs, outputs, rngs=rngs)
        self.second = Layer(outputs, outputs, rngs=rngs)
        self.shortcut = (
            nnx.Conv(inputs, outputs, kernel_size=(1, 1), rngs=rngs) if inputs != outputs else None
        )

    def __call__(self, cells: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        """Add both to a grid of cells."""
        kept = cells if self.shortcut is None else self.shortcut(cells)
        return kept + self.second(self.first(cells))


def fresh_adapter(planes: int, looks: int, *, seed: int, trunk: PyTree = None) -> PyTree:
    """Return the weights of an adapter that corrects nothing yet, with a trunk or a fresh one."""
    params = nnx.to_pure_dict(nnx.state(Adapter(planes, looks, rngs=nnx.Rngs(seed)), nnx.Param))
    return params if trunk is None else params | {"trunk": trunk}


def load_trunk(path: Path) -> PyTree:
    """Read a trunk's weights.

    Raises:
        CheckpointError: if the file is damaged, or holds something else.
    """
    loaded = load_weights(path)
    wanted = jax.eval_shape(lambda: nnx.as_pure(nnx.state(Trunk(rngs=nnx.Rngs(0)), nnx.Param)))
    shapes, given = ({k: a.shape for k, a in flatten(t).items()} for t in (wanted, loaded.params))
    if loaded.config != TRUNK_FORMAT or shapes != given:
        raise CheckpointError(
            f"{path}: not a trunk of adapters; make one with configs/adapter_trunk_cpu.py"
        )
    return jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), loaded.params)


def adapt(
    params: PyTree, image: Float[Array, "b h w 3"], chances: Float[Array, "b h w looks planes"]
) -> Float[Array, "b h w planes"]:
    """Run an adapter with these weights."""
    looks, planes = chances.shape[-2:]
    return nnx.merge(_graphdef(planes, looks), params)(image, chances)


def adapter_shapes(planes: int, looks: int) -> list[tuple[int, ...]]:
    """Return the shapes of an adapter's arrays."""
    shapes = jax.eval_shape(lambda: nnx.state(Adapter(planes, looks, rngs=nnx.Rngs(0)), nnx.Param))
    return [leaf.shape for leaf in jax.tree.leaves(shapes)]


@lru_cache
def _graphdef(planes: int, looks: int) -> nnx.GraphDef[Adapter]:
    return nnx.graphdef(nnx.eval_shape(lambda: Adapter(planes, looks, rngs=nnx.Rngs(0))))


def to_cells(pixels: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c4"]:
    """Put the pixels of each cell behind each other."""
    b, h, w, _ = pixels.shape
    return to_patches(pixels, CELL).reshape(b, h // CELL, w // CELL, -1)


def _from_cells(cells: Float[Array, "b h2 w2 c4"]) -> Float[Array, "b h w c"]:
    b, h, w, channels = cells.shape
    parts = cells.reshape(b, h, w, CELL, CELL, channels // CELL**2).swapaxes(2, 3)
    return parts.reshape(b, CELL * h, CELL * w, channels // CELL**2)


def _halved(cells: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """Keep the largest number of 2 x 2 cells.

    In pairs: the gradient of a `max` over axes divides by how many equal it, and where a compiler
    computes the cells twice, slightly differently, by none.
    """
    b, h, w, c = cells.shape
    rows = cells.reshape(b, h // 2, 2, w, c)
    columns = jnp.maximum(rows[:, :, 0], rows[:, :, 1]).reshape(b, h // 2, w // 2, 2, c)
    return jnp.maximum(columns[:, :, :, 0], columns[:, :, :, 1])
