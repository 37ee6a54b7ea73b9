"""Features of an image's pixels, for decoders to read beside a frozen encoder's tokens."""

from typing import NamedTuple

import jax
from flax import nnx
from jaxtyping import Array, Float

from seggpt.canvas import to_patches
from seggpt.conv import Conv3x3

STEM = 32  # channels at stride 2
FINE = 48  # channels of pixels at stride 4, and of features, that the fine matching compares


class Pyramid(NamedTuple):
    """Features of an image's pixels at strides 2, 4 and 4."""

    half: Array
    quarter: Array
    fine: Array


class Stem(nnx.Module):
    """Three convolutions over an image's pixels."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.half = Conv3x3(12, STEM, rngs=rngs)
        self.quarter = Conv3x3(STEM, STEM, stride=2, rngs=rngs)
        self.fine = Conv3x3(STEM, FINE, rngs=rngs)

    def __call__(self, image: Float[Array, "b h w 3"]) -> Pyramid:
        """Return features at strides 2, 4 and 4."""
        _, h, w, _ = image.shape
        half = _gelu(self.half(to_patches(image, 2).reshape(len(image), h // 2, w // 2, 12)))
        quarter = _gelu(self.quarter(half))
        return Pyramid(half, quarter, _gelu(self.fine(quarter)))


def _gelu(feats: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
    return jax.nn.gelu(feats, approximate=False)
