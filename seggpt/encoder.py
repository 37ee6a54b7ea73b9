"""The pretrained image encoder: a frozen ViT whose tokens after some blocks are what models read.

The weights that the package ships stand on DINOv2 ViT-S/14; any size of it can take that place.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from seggpt.canvas import normalize
from seggpt.config import EncoderConfig
from seggpt.vit import ViT

NORM_EPSILON = 1e-5


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Embedding:
    """Encoded images: all that contexts and prompts ever read of them.

    Attributes:
        image: RGB in -1..1, (b, h, w, 3).
        layers: The tokens after each tapped block, each token normalised to mean 0 and variance 1,
            (b, n, d) with n = gh * gw, row by row.
    """

    image: Array
    layers: tuple[Array, ...]

    def grid(self, patch_size: int) -> tuple[int, int]:
        """Return the height and width in tokens."""
        return self.image.shape[1] // patch_size, self.image.shape[2] // patch_size


class Encoder(nnx.Module):
    """A ViT and the blocks whose tokens are read.

    Positions are resized as transformers does; Meta's code, for weights without registers, shifts
    them by up to a tenth of a patch.
    """

    def __init__(self, config: EncoderConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        self.vit = ViT(config.vit, rngs=rngs)

    def __call__(self, image: Float[Array, "b h w 3"]) -> Embedding:
        """Encode images, RGB in 0..1, each by itself; sides are multiples of the patch size."""
        dtype = self.vit.prefix_tokens[...].dtype
        taps = self.vit.taps(normalize(image).astype(dtype), self.config.taps)
        return Embedding(2.0 * image - 1.0, tuple(map(normalize_tokens, taps)))


def normalize_tokens(tokens: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
    """Bring each token to mean 0 and variance 1, in float32."""
    tokens = tokens.astype(jnp.float32)
    centered = tokens - tokens.mean(axis=-1, keepdims=True)
    return centered * jax.lax.rsqrt(
        jnp.square(centered).mean(axis=-1, keepdims=True) + NORM_EPSILON
    )
