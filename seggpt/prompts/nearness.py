"""How near every patch is to a prompt's points, and whether it lies in its box.

Attention learns from millions of prompts that a point means the place that it is at. A model that
has few gets told.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from seggpt.canvas import to_patches
from seggpt.config import HeadsConfig
from seggpt.prompts.encoder import BACKGROUND, FIRST_CORNER, FOREGROUND, SECOND_CORNER
from seggpt.vit import Linear

REACHES = (0.03, 0.08, 0.2)  # of the picture's side: deviations of Gaussians around points
RIM = 0.25  # how likely the rim of a box is foreground, if its middle is for sure
EDGE = 0.02  # how soft a box's edge is, in the same measure


class Near(NamedTuple):
    """What `Nearness` measures, 0..1 for each patch.

    Attributes:
        points: Gaussians of each reach around the nearest foreground and background point.
        box: Whether it lies in the box.
        middle: A Gaussian around the box's middle, as wide and as high as the box.
    """

    points: tuple[Float[Array, "p n reaches"], Float[Array, "p n reaches"]]
    box: Float[Array, "p n"]
    middle: Float[Array, "p n"]

    def prior(self, mask: Float[Array, "p h w"] | None, *, patch: int) -> Float[Array, "p n"]:
        """Guess how likely each patch is foreground: by the mask, else by what is near.

        Points overrule the mask where they are.
        """
        narrow, middle = 0, 1
        front, back = self.points
        if mask is None:
            boxed = self.box * (RIM + (1 - RIM) * self.middle)
            guess = jnp.maximum(front[..., middle], boxed)
            return guess * (1 - back[..., middle])
        chances = to_patches(jax.nn.sigmoid(mask)[..., None], patch).mean(axis=-1)
        return jnp.maximum(chances, front[..., narrow]) * (1 - back[..., narrow])


class Nearness(nnx.Module):
    """Gaussians around foreground and background points, and a box, as patches' features."""

    def __init__(self, config: HeadsConfig, *, rngs: nnx.Rngs) -> None:
        self.side = config.image_size
        self.proj = Linear(2 * len(REACHES) + 2, config.prompt_width, rngs=rngs)

    def __call__(self, near: Near) -> Float[Array, "p n d"]:
        """Return what a prompt adds to each patch."""
        box = jnp.stack([near.box, near.middle], axis=-1)
        return self.proj(jnp.concatenate([*near.points, box], axis=-1))

    def measure(
        self,
        coords: Float[Array, "p s 2"],
        labels: Int[Array, "p s"],
        *,
        shape: tuple[int, int],
    ) -> Near:
        """Measure how near the patches of a grid of `shape` (height, width) are to a prompt."""
        places = (coords + 0.5) / self.side
        rows, cols = ((jnp.arange(count) + 0.5) / count for count in shape)
        down = rows[:, None] - places[:, :, None, None, 1]
        across = cols - places[:, :, None, None, 0]
        squares = down**2 + across**2
        points = []
        for kind in (FOREGROUND, BACKGROUND):
            there = (labels == kind)[:, :, None, None]
            nearest = jnp.where(there, squares, jnp.inf).min(axis=1).reshape(len(coords), -1, 1)
            points.append(jnp.exp(-nearest / (2 * jnp.square(jnp.asarray(REACHES)))))
        low, high = (
            jnp.where((labels == kind)[..., None], places, 0.0).sum(axis=1)
            for kind in (FIRST_CORNER, SECOND_CORNER)
        )
        has_box = (labels == FIRST_CORNER).any(axis=1)[:, None, None]
        lines = (cols[None, None, :], rows[None, :, None])  # x, y
        inside = middle = has_box.astype(jnp.float32)
        for axis, line in enumerate(lines):
            start, end = low[:, axis, None, None], high[:, axis, None, None]
            inside = inside * jax.nn.sigmoid((line - start) / EDGE)
            inside = inside * jax.nn.sigmoid((end - line) / EDGE)
            half = jnp.maximum((end - start) / 2, EDGE)
            middle = middle * jnp.exp(-2 * ((line - (start + end) / 2) / half) ** 2)
        box, middle = (a.reshape(len(coords), -1) for a in (inside, middle))
        return Near((points[0], points[1]), box, middle)
