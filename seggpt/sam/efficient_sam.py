"""EfficientSAM: a small plain ViT, and heads that differ from SAM's in many small ways.

The paper is Xiong et al., "EfficientSAM: Leveraged Masked Image Pretraining for Efficient Segment
Anything" (arXiv 2312.00863); what the layers do is that of efficient_sam/ of its authors.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from seggpt.config import HeadsConfig
from seggpt.prompts import BACKGROUND, PADDING, MaskDecoder, PromptEncoder
from seggpt.prompts.transformer import Mlp, Tokens, TwoWayBlock, TwoWayTransformer
from seggpt.sam.model import SAM

POINTS = 6  # of a prompt, the corners of a box counted; what is not used is filled up
_UNUSED_PLACE = -1.0  # in pixels, of both coordinates


class EfficientPromptEncoder(PromptEncoder):
    """Points and boxes without masks from before; background points have no token of their own."""

    def __init__(self, config: HeadsConfig, *, rngs: nnx.Rngs) -> None:
        # Not SAM's: half of its tokens are not here.
        nnx.Module.__init__(self)
        width = config.prompt_width
        self.side, self.width = config.image_size, width
        self.frequencies = nnx.Param(jax.random.normal(rngs.params(), (2, width // 2)))
        self.not_a_point, self.foreground, self.first_corner, self.second_corner = (
            nnx.Param(jax.random.normal(rngs.params(), (width,))) for _ in range(4)
        )

    def points(
        self, coords: Float[Array, "p s 2"], labels: Int[Array, "p s"]
    ) -> tuple[Float[Array, "p t d"], Bool[Array, "p t"]]:
        """Embed every slot, fill up to `POINTS` that are present, and say which are.

        Coordinates are as in `PromptEncoder.points`. Its authors fill a prompt up with points that
        keep their place, unlike SAM's PADDING, which is filling like any other here.
        """
        table = jnp.stack(
            [
                self.not_a_point[...],
                jnp.zeros(self.width),
                self.foreground[...],
                self.first_corner[...],
                self.second_corner[...],
            ]
        )
        spare = ((0, 0), (0, POINTS))
        labels = jnp.pad(labels, spare, constant_values=PADDING)
        used = labels >= BACKGROUND
        coords = jnp.where(used[..., None], jnp.pad(coords, (*spare, (0, 0))), _UNUSED_PLACE)
        free = POINTS - used.sum(axis=1, keepdims=True)
        filling = ~used & (jnp.cumsum(~used, axis=1) <= free)
        kinds = jnp.maximum(labels, PADDING) - PADDING
        return self._places((coords + 0.5) / self.side) + table[kinds], used | filling

    def dense(self, mask: Float[Array, "p h w"] | None) -> Float[Array, "#p #n d"]:
        """Add nothing to the patches.

        Raises:
            ValueError: if there is a mask, which the model cannot read.
        """
        if mask is not None:
            raise ValueError("EfficientSAM reads no masks; give points or a box alone")
        return jnp.zeros((1, 1, self.width))


class GeluMlp(Mlp):
    """Linear layers with GELUs between them."""

    activation: ClassVar[Callable[[Array], Array]] = partial(jax.nn.gelu, approximate=False)


class EfficientBlock(TwoWayBlock):
    """A layer that keeps what it had when tokens look at each other, and adds places for good."""

    mlp_kind: ClassVar[type[Mlp]] = GeluMlp

    def look_around(self, tokens: Tokens, places: Tokens, *, present: Bool[Array, "p t"]) -> Tokens:
        """Let the tokens look at each other."""
        tokens = tokens if self.first else tokens + places
        return tokens + self.self_attn(tokens, tokens, tokens, present=present)


class EfficientTransformer(TwoWayTransformer):
    """SAM's with other layers."""

    layer_kind: ClassVar[type[TwoWayBlock]] = EfficientBlock


class PictureNorm(nnx.Module):
    """A norm over all pixels and channels of a picture at once: torch's GroupNorm of one group."""

    def __init__(self, width: int, *, rngs: nnx.Rngs) -> None:
        del rngs
        self.scale = nnx.Param(jnp.ones(width))
        self.bias = nnx.Param(jnp.zeros(width))

    def __call__(self, pixels: Float[Array, "p n c"]) -> Float[Array, "p n c"]:
        """Normalise, each picture by itself."""
        centred = pixels - pixels.mean(axis=(1, 2), keepdims=True)
        spread = jnp.square(centred).mean(axis=(1, 2), keepdims=True)
        return centred * jax.lax.rsqrt(spread + 1e-5) * self.scale[...] + self.bias[...]


class EfficientMaskDecoder(MaskDecoder):
    """SAM's with another transformer, norm and activation."""

    transformer_kind: ClassVar[type[TwoWayTransformer]] = EfficientTransformer
    head_kind: ClassVar[type[Mlp]] = GeluMlp
    norm_kind: ClassVar[Callable[..., Any]] = PictureNorm


class EfficientSAM(SAM):
    """A plain ViT without relative position, and the heads above; pictures fill the square."""

    reach: ClassVar[int] = 1 << 16  # every pixel counts in a norm
    parts: ClassVar[tuple[type[PromptEncoder], type[MaskDecoder]]] = (
        EfficientPromptEncoder,
        EfficientMaskDecoder,
    )
