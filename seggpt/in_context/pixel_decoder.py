"""The decoder of the in-context model: from tokens, matched colours and pixels to colours."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from seggpt.canvas import from_patches
from seggpt.config import InContextConfig
from seggpt.conv import Conv3x3
from seggpt.layers import Dense
from seggpt.resize import resize
from seggpt.stem import FINE, STEM, Pyramid

DECODER = 96  # channels at half a token
CELLS = 12  # colours of 2 x 2 cells


class Decoder(nnx.Module):
    """From tokens and matched colours to the image's own resolution, with skips from its pixels."""

    def __init__(self, config: InContextConfig, *, rngs: nnx.Rngs) -> None:
        coarse = len(config.matchings)
        self.norm = nnx.LayerNorm(config.width, epsilon=1e-5, rngs=rngs)
        self.to_grid = Dense(config.width, DECODER, rngs=rngs)
        self.conv_fine = Conv3x3(DECODER + FINE + 2 * CELLS + 3 * coarse, DECODER, rngs=rngs)
        self.conv_quarter = Conv3x3(DECODER + STEM, 64, rngs=rngs)
        self.conv_half = Conv3x3(64 + STEM + 3, 48, rngs=rngs)
        self.conv_last = Conv3x3(48, 48, rngs=rngs)
        self.head = Dense(48, CELLS, scale=0.3, rngs=rngs)
        # The matched colours are the answer from the start; the layers above correct it.
        self.skip = nnx.Param(jnp.asarray([0.8 / coarse] * coarse + [0.1, 0.1]))

    def __call__(
        self,
        tokens: Float[Array, "b n d"],
        pyramid: Pyramid,
        cells: Float[Array, "b h4 w4 _"],
        maps: list[Float[Array, "b _ _ 3"]],
        fine_maps: list[Float[Array, "b _ _ 3"]],
        *,
        grid: tuple[int, int],
    ) -> Float[Array, "b h w 3"]:
        """Paint: `cells` are the fine matchings' colours a half token, `maps` all as images."""
        shape = (2 * grid[0], 2 * grid[1])
        y = resize(self.to_grid(self.norm(tokens)).reshape(len(tokens), *grid, -1), shape)
        y = jnp.concatenate([y, resize(pyramid.fine, shape), cells, *maps], axis=-1)
        y = _gelu(self.conv_fine(y))
        quarter, half = pyramid.quarter, pyramid.half
        y = resize(y, (quarter.shape[1], quarter.shape[2]))
        y = _gelu(self.conv_quarter(jnp.concatenate([y, quarter], axis=-1)))
        shape = (half.shape[1], half.shape[2])
        y = jnp.concatenate([resize(y, shape), half, resize(fine_maps[-1], shape)], axis=-1)
        y = _gelu(self.conv_half(y))
        y = y + _gelu(self.conv_last(y))
        flat = self.head(y).astype(jnp.float32).reshape(len(tokens), -1, CELLS)
        painted = from_patches(flat, 2, shape=shape)
        size = (painted.shape[1], painted.shape[2])
        for weight, found in zip(self.skip[...], [*maps, *fine_maps], strict=True):
            painted = painted + weight * resize(found, size)
        return painted


def _gelu(feats: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
    return jax.nn.gelu(feats, approximate=False)
