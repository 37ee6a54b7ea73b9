"""The prompt encoder: tokens of points and box corners, embedding of an earlier mask."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from seggpt.canvas import to_patches
from seggpt.config import HeadsConfig
from seggpt.vit import Linear

# Of a pixel's channels, which are few: the fast formula of the variance would lose digits.
PixelNorm = partial(nnx.LayerNorm, epsilon=1e-6, use_fast_variance=False)

# What the slot of a prompt holds. SAM's own labels, but for ABSENT: a slot that nobody sees.
# PADDING is a trained token that SAM adds to points that come without a box.
ABSENT, PADDING, BACKGROUND, FOREGROUND, FIRST_CORNER, SECOND_CORNER = range(-2, 4)


class PromptEncoder(nnx.Module):
    """Random Fourier features of places, a trained token for each label, a small mask reader."""

    def __init__(self, config: HeadsConfig, *, rngs: nnx.Rngs) -> None:
        width = config.prompt_width
        self.side = config.image_size
        # Never trained: see `_places`.
        self.frequencies = nnx.Param(jax.random.normal(rngs.params(), (2, width // 2)))
        self.not_a_point, self.background, self.foreground, self.first_corner = (
            _token(width, rngs) for _ in range(4)
        )
        self.second_corner = _token(width, rngs)
        self.no_mask = _token(width, rngs)
        self.mask_embed = MaskEmbedding(config, rngs=rngs)

    def points(
        self, coords: Float[Array, "p s 2"], labels: Int[Array, "p s"]
    ) -> tuple[Float[Array, "p s d"], Bool[Array, "p s"]]:
        """Embed every slot, and say which are not ABSENT.

        Coordinates are (x, y) in pixels of the model's square picture, whole at a pixel's corner
        as SAM's users give them: half a pixel is added here.
        """
        table = jnp.stack(
            [
                token[...]
                for token in (
                    self.not_a_point,
                    self.background,
                    self.foreground,
                    self.first_corner,
                    self.second_corner,
                )
            ]
        )
        places = self._places((coords + 0.5) / self.side)
        places = jnp.where(labels[..., None] >= BACKGROUND, places, 0.0)
        return places + table[jnp.maximum(labels, PADDING) - PADDING], labels != ABSENT

    def grid(
        self, shape: tuple[int, int], *, patch: int, origin: Float[Array, " 2"] | float = 0.0
    ) -> Float[Array, "1 n d"]:
        """Return the places of the patches of a picture, row by row.

        `patch` is a patch's side and `origin` (x, y) where the picture lies, in pixels of the
        square.
        """
        rows, cols = ((np.arange(count) + 0.5) * patch for count in shape)
        centres = np.stack(np.meshgrid(cols, rows), axis=-1).reshape(-1, 2)
        return self._places((jnp.asarray(centres, jnp.float32) + origin) / self.side)[None]

    def dense(self, mask: Float[Array, "p h w"] | None) -> Float[Array, "#p #n d"]:
        """Embed earlier masks as what they add to each patch; without any it is one token.

        A mask is logits of 4 by 4 pixels a patch, such as the decoder gives.
        """
        return self.no_mask[...][None, None] if mask is None else self.mask_embed(mask)

    def _places(self, places: Float[Array, "*b 2"]) -> Float[Array, "*b d"]:
        """Encode (x, y) in 0..1 by sines and cosines."""
        frequencies = jax.lax.stop_gradient(self.frequencies[...])
        # Fast products of an accelerator would lose the place: an angle has three digits.
        angles = jnp.matmul(2 * places - 1, frequencies, precision=jax.lax.Precision.HIGHEST)
        angles = 2 * np.pi * angles
        return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


class MaskEmbedding(nnx.Module):
    """Two convolutions that halve the size (patches do not overlap), and a linear layer."""

    def __init__(self, config: HeadsConfig, *, rngs: nnx.Rngs) -> None:
        wide, narrow = config.mask_width, config.mask_width // 4
        self.down1 = Linear(4, narrow, rngs=rngs)
        self.norm1 = PixelNorm(narrow, rngs=rngs)
        self.down2 = Linear(4 * narrow, wide, rngs=rngs)
        self.norm2 = PixelNorm(wide, rngs=rngs)
        self.proj = Linear(wide, config.prompt_width, rngs=rngs)

    def __call__(self, mask: Float[Array, "p h w"]) -> Float[Array, "p n d"]:
        """Embed masks patch by patch."""
        p, h, w = mask.shape
        pixels = self.down1(to_patches(mask[..., None], 2))
        pixels = jax.nn.gelu(self.norm1(pixels), approximate=False).reshape(p, h // 2, w // 2, -1)
        patches = self.down2(to_patches(pixels, 2))
        return self.proj(jax.nn.gelu(self.norm2(patches), approximate=False))


def _token(width: int, rngs: nnx.Rngs) -> nnx.Param[Array]:
    return nnx.Param(jax.random.normal(rngs.params(), (width,)))
