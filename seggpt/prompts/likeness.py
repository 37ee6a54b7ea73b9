"""How much every cell of a picture looks like what a prompt marks: a colour model of both sides.

It is what GrabCut goes by, as kernel estimates: cells of 2 x 2 pixels are compared with one cell of
every patch, in the features that `seggpt.lookup` compares examples by.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from seggpt.config import CELL, SegGPTConfig
from seggpt.lookup import Lookup
from seggpt.vit import Linear


class Likeness(nnx.Module):
    """Shares of foreground among look-alikes, for every cell of a patch."""

    def __init__(self, config: SegGPTConfig, *, rngs: nnx.Rngs) -> None:
        self.cells = (config.patch_size // CELL) ** 2
        self.heads, self.features = Lookup.heads, Lookup.width
        self.proj = Linear(self.cells * 2 * self.heads, config.prompt_width, rngs=rngs)

    @property
    def channels(self) -> int:
        """How many features the cells of a patch have."""
        return self.cells * self.heads * self.features

    def __call__(
        self, cells: Float[Array, "i n c"], prior: Float[Array, "p n"]
    ) -> tuple[Float[Array, "p n d"], Float[Array, "p n cells heads"]]:
        """Return what looks add to each patch, given how likely each is to be foreground.

        And with it the balanced shares of foreground of each cell, from -0.5 to 0.5.
        """
        i, n, _ = cells.shape
        cells = cells.reshape(i, n, self.cells, self.heads, self.features)
        keys = cells[:, :, 0].transpose(0, 2, 3, 1)
        queries = cells.transpose(0, 3, 1, 2, 4).reshape(i, self.heads, n * self.cells, -1)
        # -|q - k|^2 / 2 but for the query's own square, which no share depends on.
        near = jnp.matmul(queries, keys, precision=jax.lax.Precision.HIGHEST)
        near = near - 0.5 * (keys**2).sum(axis=-2, keepdims=True)
        near = jnp.exp(near - jax.lax.stop_gradient(near.max(axis=-1, keepdims=True)))
        near = near.reshape(i, self.heads * n * self.cells, n)
        front, back = (_counted(near, side) for side in (prior, 1 - prior))
        plain = front / (front + back)
        # As if both sides had the same area.
        front, back = (
            side / jnp.maximum(area.sum(axis=-1, keepdims=True), 1e-3)
            for side, area in ((front, prior), (back, 1 - prior))
        )
        shares = jnp.stack([plain, front / jnp.maximum(front + back, 1e-9)], axis=1)
        shares = shares.reshape(-1, 2 * self.heads, n, self.cells).transpose(0, 2, 3, 1)
        shares = shares.reshape(len(shares), n, self.cells, 2, self.heads) - 0.5
        return self.proj(shares.reshape(len(shares), n, -1)), shares[..., 1, :]


def _counted(near: Float[Array, "i x n"], side: Float[Array, "p n"]) -> Float[Array, "p x"]:
    """Add up how near a side's patches are; one picture for all prompts, or one for each."""
    if len(near) == 1:
        return side @ near[0].T
    return jnp.einsum("pxn,pn->px", near, side)
