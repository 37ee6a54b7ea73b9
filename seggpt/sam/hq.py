"""HQ-SAM: SAM with a fifth mask, of finer features, that is added to each of the four.

The paper is Ke et al., "Segment Anything in High Quality" (arXiv 2306.01567); what the layers do is
that of segment_anything/modeling/mask_decoder_hq.py of its authors.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from seggpt.canvas import from_patches
from seggpt.config import HeadsConfig, SAMConfig
from seggpt.conv import Conv3x3
from seggpt.prompts import MASKS, Guidance, MaskDecoder, PromptEncoder
from seggpt.prompts.decoder import Upscale
from seggpt.prompts.encoder import PixelNorm
from seggpt.prompts.transformer import ImageTokens, Mlp, Tokens
from seggpt.sam.model import PIXELS, SAM, Embedding
from seggpt.sam.tiny_vit import TinyViT

_EARLY_STAGE = 1  # of a TinyViT, which has no blocks without windows


class HQMaskDecoder(MaskDecoder):
    """SAM's, with a token, a head and two convolutions for the fifth mask."""

    def __init__(self, config: HeadsConfig, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, rngs=rngs)
        width = config.prompt_width
        self.hq_token = nnx.Param(jax.random.normal(rngs.params(), (width,)))
        self.hq_head = Mlp(width, width, width, width // 8, rngs=rngs)
        self.hq_conv1 = Conv3x3(width // 8, width // 4, rngs=rngs)
        self.hq_norm = PixelNorm(width // 4, rngs=rngs)
        self.hq_conv2 = Conv3x3(width // 4, width // 8, rngs=rngs)

    def look(
        self,
        image: ImageTokens,
        prompt: Float[Array, "p s d"],
        *,
        image_places: Float[Array, "1 n d"],
        present: Bool[Array, "p s"],
        guidance: Guidance | None = None,
    ) -> tuple[Tokens, ImageTokens]:
        """Do as SAM's with one more token, before the prompt's own."""
        own = jnp.broadcast_to(self.hq_token[...], (len(prompt), 1, prompt.shape[-1]))
        return super().look(
            image,
            jnp.concatenate([own, prompt], axis=1),
            image_places=image_places,
            present=jnp.pad(present, ((0, 0), (1, 0)), constant_values=True),
            guidance=guidance,
        )

    def finer_masks(
        self,
        tokens: Tokens,
        image: ImageTokens,
        fine: Float[Array, "p n pixels"],
        *,
        shape: tuple[int, int],
    ) -> Float[Array, "p 4 h w"]:
        """Draw SAM's four masks, and add the fifth, which `fine` features of pixels are for."""
        pixels = self.pixels(image)
        refined = self.hq_norm(self.hq_conv1(from_patches(_by_patch(pixels), PIXELS, shape=shape)))
        refined = self.hq_conv2(jax.nn.gelu(refined, approximate=False))
        refined = refined + from_patches(fine, PIXELS, shape=shape)
        added = jnp.einsum("phwz,pz->phw", refined, self.hq_head(tokens[:, 1 + MASKS]))
        return self.of_pixels(tokens, pixels, shape=shape) + added[:, None]


class HQSAM(SAM):
    """SAM whose encoder also keeps fine features, made of an early block's and of the last."""

    reach: ClassVar[int] = 1  # two convolutions of pixels, of which a patch has four
    parts: ClassVar[tuple[type[PromptEncoder], type[MaskDecoder]]] = (PromptEncoder, HQMaskDecoder)

    mask_decoder: HQMaskDecoder

    def __init__(self, config: SAMConfig, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, rngs=rngs)
        width = config.prompt_width
        stages = config.stages
        # A stage gives its result in the next one's width.
        early = stages[_EARLY_STAGE + 1][0] if stages else config.width
        self.fine_early = Finer(early, width, width // 8, rngs=rngs)
        self.fine_last = Finer(width, width // 4, width // 8, rngs=rngs)

    def encode(self, image: Float[Array, "i h w 3"], *, remat: bool = False) -> Embedding:
        """Encode pictures; the fine features of each patch's pixels lie behind what it says."""
        early, last = self._taps(image, remat=remat)
        said = self.neck(last)
        fine = self.fine_early(early) + self.fine_last(said)
        return jnp.concatenate([said.astype(fine.dtype), fine], axis=-1)

    def look(
        self,
        embedding: Embedding,
        coords: Float[Array, "p s 2"],
        labels: Int[Array, "p s"],
        *,
        mask: Float[Array, "p h w"] | None = None,
        guidance: Guidance | None = None,
    ) -> tuple[Float[Array, "p t d"], Float[Array, "p n f"]]:
        """Do as SAM's; the fine features are not looked at, only drawn with."""
        said, fine = jnp.split(embedding, [self.config.prompt_width], axis=-1)
        tokens, image = super().look(said, coords, labels, mask=mask, guidance=guidance)
        fine = fine.reshape(len(fine), -1, fine.shape[-1])
        fine = jnp.broadcast_to(fine, (len(image), *fine.shape[1:]))
        return tokens, jnp.concatenate([image, fine], axis=-1)

    def draw(
        self,
        tokens: Float[Array, "p t d"],
        image: Float[Array, "#p n e"],
        *,
        shape: tuple[int, int],
    ) -> Float[Array, "p 4 h w"]:
        """Draw the masks of what `look` found, or of a part of its patches."""
        said, fine = jnp.split(image, [self.config.prompt_width], axis=-1)
        return self.mask_decoder.finer_masks(tokens, said, fine, shape=shape)

    def _taps(
        self, image: Float[Array, "i h w 3"], *, remat: bool
    ) -> tuple[Float[Array, "i gh gw c"], Float[Array, "i gh gw d"]]:
        """Return what the encoder says early, and at its end."""
        if isinstance(self.vit, TinyViT):
            taps = self.vit.taps(image, remat=remat)
            return taps[_EARLY_STAGE], taps[-1]
        whole = self.config.global_blocks if self.config.window_size else (0,)
        return self.vit.early_and_last(image, min(whole), remat=remat)


class Finer(nnx.Module):
    """Two transposed convolutions: a patch becomes 4 by 4 pixels, side by side in its channels."""

    def __init__(self, inputs: int, hidden: int, outputs: int, *, rngs: nnx.Rngs) -> None:
        self.up1 = Upscale(inputs, hidden, rngs=rngs)
        self.norm = PixelNorm(hidden, rngs=rngs)
        self.up2 = Upscale(hidden, outputs, rngs=rngs)

    def __call__(self, feats: Float[Array, "i gh gw c"]) -> Float[Array, "i gh gw pixels"]:
        """Refine each patch."""
        i, gh, gw, c = feats.shape
        pixels = self.up1(feats.reshape(i, gh * gw, c))
        pixels = self.up2(jax.nn.gelu(self.norm(pixels), approximate=False))
        return _by_patch(pixels).reshape(i, gh, gw, -1)


def _by_patch(pixels: Float[Array, "p n16 z"]) -> Float[Array, "p n pixels"]:
    """Lay pixels that were doubled twice out as `canvas.from_patches` takes them."""
    p, _, z = pixels.shape
    split = pixels.reshape(p, -1, 2, 2, 2, 2, z).swapaxes(3, 4)
    return split.reshape(p, -1, PIXELS**2 * z)
