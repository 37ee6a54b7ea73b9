"""Heads for points, boxes and masks on a frozen encoder: SAM's, with the pixels' features joined.

As in SAM, a picture is encoded once; a prompt and its tokens then look at each other, and four
masks are drawn, each with its predicted IoU. As in SAM 2 and HQ-SAM, features of the pixels at
strides 4 and 2 (the in-context model's stem) join the tokens, so that masks have half the
picture's resolution.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from seggpt.blocks import ImageBlock
from seggpt.canvas import from_patches
from seggpt.config import EncoderConfig, PromptHeadsConfig
from seggpt.conv import Conv3x3
from seggpt.encoder import Embedding
from seggpt.layers import Dense, place_waves
from seggpt.prompts.decoder import MASKS, TokenDecoder
from seggpt.prompts.encoder import PromptEncoder
from seggpt.prompts.hints import (
    DRAWN,
    Hints,
    compare_patches,
    draw_prompts,
    feature_count,
    give_hints,
    unit_layers,
)
from seggpt.prompts.transformer import Guidance, ImageTokens, Tokens
from seggpt.resize import resize
from seggpt.stem import FINE, STEM, Pyramid

COARSE, QUARTER, HALF = 64, 32, 16  # channels at half a token, and at strides 4 and 2
EMBED_SIDE = 4  # pixels a patch at which an earlier mask is embedded


class PromptEmbedding(NamedTuple):
    """A picture as the heads see it; made once, for any number of prompts.

    Attributes:
        tokens: (i, n, d).
        layers: The encoder's tokens, centred and at length 1, (i, n, l, c).
        affinity: Weights between patches in each layer, (i, l, n, n).
        pixels: What the mask decoder reads of the pixels at half a token and at strides 4 and 2.
    """

    tokens: Array
    layers: Array
    affinity: Array
    pixels: tuple[Array, Array, Array]

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width in patches."""
        return self.pixels[0].shape[1] // 2, self.pixels[0].shape[2] // 2


class Found(NamedTuple):
    """What a prompt and a picture found in each other; masks and scores are made of it."""

    tokens: Tokens
    image: ImageTokens
    hints: Hints
    coords: Array
    labels: Array
    mask: Array | None


class PromptHeads(nnx.Module):
    """What answers prompts about an encoded picture."""

    def __init__(
        self, config: PromptHeadsConfig, encoder: EncoderConfig, *, rngs: nnx.Rngs
    ) -> None:
        self.config, self.patch = config, encoder.patch_size
        width, layers = config.prompt_width, len(encoder.taps)
        self.image = Dense(layers * encoder.width, width, rngs=rngs)
        self.blocks = nnx.List(
            ImageBlock(width, config.decoder_heads, rngs=rngs) for _ in range(config.depth)
        )
        self.norm = nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs)
        self.hints = Dense(feature_count(layers), width, rngs=rngs)
        self.prompt_encoder = PromptEncoder(config, rngs=rngs)
        self.mask_decoder = PixelMaskDecoder(config, layers, rngs=rngs)

    def encode(self, embedding: Embedding, pyramid: Pyramid) -> PromptEmbedding:
        """Read an encoded picture, and its pixels' features."""
        grid = embedding.grid(self.patch)
        tokens = self.image(jnp.concatenate(embedding.layers, axis=-1))
        tokens = tokens + place_waves(grid, tokens.shape[-1])
        for block in self.blocks:
            tokens = block(tokens)
        layers = unit_layers(embedding.layers)
        pixels = self.mask_decoder.project(pyramid, embedding.image, grid)
        return PromptEmbedding(self.norm(tokens), layers, compare_patches(layers), pixels)

    def decode(
        self,
        embedding: PromptEmbedding,
        coords: Float[Array, "p s 2"],
        labels: Int[Array, "p s"],
        *,
        mask: Float[Array, "p h w"] | None = None,
        origin: Float[Array, " 2"] | float = 0.0,
    ) -> tuple[Float[Array, "p 4 h w"], Float[Array, "p 4"]]:
        """Answer each prompt with the logits of four masks and their predicted IoU.

        Every picture has as many prompts, those of the first one first. `coords` and `labels` are
        those of `PromptEncoder.points`, in pixels of the picture as it was encoded; `mask` is
        logits such as these. The first mask is for a clear prompt, the other three for one that may
        mean several things. `origin` (x, y) moves the picture on the plane whose places the model
        knows, in pixels.
        """
        found = self.look(embedding, coords, labels, mask=mask, origin=origin)
        return self.draw(embedding, found), self.scores(found)

    def look(
        self,
        embedding: PromptEmbedding,
        coords: Float[Array, "p s 2"],
        labels: Int[Array, "p s"],
        *,
        mask: Float[Array, "p h w"] | None = None,
        guidance: Guidance | None = None,
        origin: Float[Array, " 2"] | float = 0.0,
    ) -> Found:
        """Do the part of `decode` that masks and scores are then made of, each by itself."""
        grid = embedding.grid
        prompt, present = self.prompt_encoder.points(coords + origin, labels)
        coarse = None
        if mask is not None:
            coarse = resize(mask[..., None], (EMBED_SIDE * grid[0], EMBED_SIDE * grid[1]))[..., 0]
        hints = give_hints(
            coords,
            labels,
            coarse,
            layers=embedding.layers,
            affinity=embedding.affinity,
            shape=grid,
            patch=self.patch,
        )
        image = (
            _repeat(embedding.tokens, len(coords))
            + self.prompt_encoder.dense(coarse)
            + self.hints(hints.feats)
        )
        tokens, image = self.mask_decoder.look(
            image,
            prompt,
            image_places=self.prompt_encoder.grid(grid, origin=origin, patch=self.patch),
            present=present,
            guidance=guidance,
        )
        return Found(tokens, image, hints, coords, labels, mask)

    def draw(self, embedding: PromptEmbedding, found: Found) -> Float[Array, "p 4 h w"]:
        """Draw the masks of what `look` found, as logits at half the picture's resolution."""
        pixels = [_repeat(a, len(found.tokens)) for a in embedding.pixels]
        return self.mask_decoder.masks(found, pixels, grid=embedding.grid)

    def scores(self, found: Found) -> Float[Array, "p 4"]:
        """Predict each mask's IoU with the truth; nothing bounds it."""
        return self.mask_decoder.scores(found.tokens)


class PixelMaskDecoder(TokenDecoder):
    """SAM's mask decoder with masks at stride 2, drawn with the pixels' features."""

    def __init__(self, config: PromptHeadsConfig, layers: int, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, channels=HALF, rngs=rngs)
        self.from_tokens = Dense(config.prompt_width + layers, COARSE, rngs=rngs)
        self.fine, self.quarter, self.half = (
            Dense(inputs, outputs, rngs=rngs)
            for inputs, outputs in ((FINE, COARSE), (STEM, QUARTER), (STEM + 3, HALF))
        )
        self.conv_coarse = Conv3x3(COARSE, COARSE, rngs=rngs)
        self.to_quarter = Dense(COARSE, QUARTER, rngs=rngs)
        self.conv_quarter = Conv3x3(QUARTER, QUARTER, rngs=rngs)
        self.to_half = Dense(QUARTER, 4 * HALF, rngs=rngs)
        self.mix = Dense(HALF, HALF, rngs=rngs)
        # An earlier mask, whether there is one, and the prompt drawn over the pixels.
        self.told_quarter = Dense(2 + DRAWN, QUARTER, rngs=rngs)
        self.told_half = Dense(2 + DRAWN, HALF, rngs=rngs)
        # What looks like the prompt is the answer from the start; the layers above correct it.
        self.skip = nnx.Param(jnp.full(layers, 0.5 / layers))
        self.skip_bias = nnx.Param(jnp.full(MASKS, -1.0))

    def project(
        self, pyramid: Pyramid, image: Float[Array, "i h w 3"], grid: tuple[int, int]
    ) -> tuple[Float[Array, "i _ _ _"], Float[Array, "i _ _ _"], Float[Array, "i _ _ _"]]:
        """Return what is read of the pixels alone: at half a token, and at strides 4 and 2."""
        fine = self.fine(resize(pyramid.fine, (2 * grid[0], 2 * grid[1])))
        colours = resize(image, (pyramid.half.shape[1], pyramid.half.shape[2]))
        half = self.half(jnp.concatenate([pyramid.half, colours], axis=-1))
        return fine, self.quarter(pyramid.quarter), half

    def masks(
        self, found: Found, pixels: Sequence[Array], *, grid: tuple[int, int]
    ) -> Float[Array, "p 4 h w"]:
        """Draw the masks as logits at stride 2."""
        fine, quarter, half = pixels
        count = len(found.tokens)
        coarse = self.from_tokens(jnp.concatenate([found.image, found.hints.odds], axis=-1))
        y = _gelu(resize(coarse.reshape(count, *grid, -1), (fine.shape[1], fine.shape[2])) + fine)
        y = y + _gelu(self.conv_coarse(y))
        y = resize(self.to_quarter(y), (quarter.shape[1], quarter.shape[2]))
        y = _gelu(y + quarter + self.told_quarter(_draw_told(found, quarter, stride=4)))
        y = y + _gelu(self.conv_quarter(y))
        shape = (half.shape[1], half.shape[2])
        # Each cell becomes four, as in SAM: a 3 x 3 convolution of so many would be the most work.
        cells = self.to_half(y).reshape(count, -1, 4 * HALF)
        fine_cells = from_patches(cells, 2, shape=(quarter.shape[1], quarter.shape[2]))
        y = _gelu(
            fine_cells[:, : shape[0], : shape[1]]
            + half
            + self.told_half(_draw_told(found, half, stride=2))
        )
        y = y + _gelu(self.mix(y))
        heads = self.filters(found.tokens)
        logits = jnp.einsum("pmc,phwc->pmhw", heads, y) / math.sqrt(HALF)
        odds = (found.hints.odds @ self.skip[...]).reshape(count, *grid, 1)
        alike = resize(odds, shape)[..., 0]
        return logits + alike[:, None] + self.skip_bias[...][:, None, None]


def _draw_told(
    found: Found, pixels: Float[Array, "i h w c"], *, stride: int
) -> Float[Array, "p h w t"]:
    """Draw what was told over cells: an earlier mask, whether there is one, and the prompt."""
    shape = (pixels.shape[1], pixels.shape[2])
    if found.mask is None:
        earlier = jnp.zeros((len(found.coords), *shape, 2))
    else:
        seen = resize(jnp.tanh(found.mask / 4)[..., None], shape)
        earlier = jnp.concatenate([seen, jnp.ones_like(seen)], axis=-1)
    drawn = draw_prompts(found.coords, found.labels, shape=shape, stride=stride)
    return jnp.concatenate([earlier, drawn], axis=-1)


def _repeat(a: Float[Array, "i *c"], prompts: int) -> Float[Array, "p *c"]:
    """Give every prompt its picture's; one picture alone is shared."""
    return a if len(a) == 1 else jnp.repeat(a, prompts // len(a), axis=0)


def _gelu(feats: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
    return jax.nn.gelu(feats, approximate=False)
