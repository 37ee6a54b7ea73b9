"""Promptable models: a picture is encoded once, then points, boxes and masks ask for masks.

`SAM` is the published one. `PromptedSegGPT` is the same heads on an in-context model's ViT, whose
weights lie in one file with it.
"""

import dataclasses
import math
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from seggpt.attention import example_grid, self_attention
from seggpt.canvas import to_patches
from seggpt.config import CELL, HeadsConfig, SAMConfig, SegGPTConfig
from seggpt.lookup import Lookup
from seggpt.prompts import Guidance, Likeness, MaskDecoder, Nearness, PromptEncoder
from seggpt.tiny_vit import TinyViT
from seggpt.vit import Block, LayerNorm, Linear, ViT

PIXELS = 4  # of a mask along a patch's side
TRUST = 4.0  # the logit of a pixel that is known well

Embedding = Float[Array, "i gh gw e"]


class Heads(nnx.Module):
    """What answers prompts about an encoded picture.

    `reach` is how many patches beyond a part of the picture `draw` must see to draw the part.
    """

    reach: ClassVar[int] = 0
    parts: ClassVar[tuple[type[PromptEncoder], type[MaskDecoder]]] = (PromptEncoder, MaskDecoder)

    def __init__(self, config: HeadsConfig, *, rngs: nnx.Rngs) -> None:
        prompt_encoder, mask_decoder = self.parts
        self.prompt_encoder = prompt_encoder(config, rngs=rngs)
        self.mask_decoder = mask_decoder(config, rngs=rngs)

    def decode(
        self,
        embedding: Embedding,
        coords: Float[Array, "p s 2"],
        labels: Int[Array, "p s"],
        *,
        mask: Float[Array, "p h w"] | None = None,
    ) -> tuple[Float[Array, "p 4 h w"], Float[Array, "p 4"]]:
        """Answer each prompt with the logits of four masks and their predicted IoU.

        There is one picture for all prompts, or one for each. `coords` and `labels` are those of
        `PromptEncoder.points`, `mask` that of `PromptEncoder.dense`. The first mask is for a clear
        prompt, the other three for one that may mean several things.
        """
        tokens, image = self.look(embedding, coords, labels, mask=mask)
        _, gh, gw, _ = embedding.shape
        return self.draw(tokens, image, shape=(gh, gw)), self.mask_decoder.scores(tokens)

    def look(
        self,
        embedding: Embedding,
        coords: Float[Array, "p s 2"],
        labels: Int[Array, "p s"],
        *,
        mask: Float[Array, "p h w"] | None = None,
        guidance: Guidance | None = None,
    ) -> tuple[Float[Array, "p t d"], Float[Array, "p n f"]]:
        """Do the part of `decode` that masks and scores are then made of, each by itself."""
        _, gh, gw, _ = embedding.shape
        prompt, present = self.prompt_encoder.points(coords, labels)
        image = embedding.reshape(-1, gh * gw, embedding.shape[-1])
        dense = self.prompt_encoder.dense(mask)
        image, fine = self.fuse(image, dense, coords, labels, mask=mask, shape=(gh, gw))
        places = self.prompt_encoder.grid((gh, gw))
        tokens, image = self.mask_decoder.look(
            image, prompt, image_places=places, present=present, guidance=guidance
        )
        return tokens, image if fine is None else jnp.concatenate([image, fine], axis=-1)

    def fuse(
        self,
        image: Float[Array, "i n c"],
        dense: Float[Array, "#p #n d"],
        coords: Float[Array, "p s 2"],
        labels: Int[Array, "p s"],
        *,
        mask: Float[Array, "p h w"] | None,
        shape: tuple[int, int],
    ) -> tuple[Float[Array, "#p n d"], Float[Array, "p n f"] | None]:
        """Bring an earlier mask to a picture's tokens; SAM brings nothing else.

        The second result is what `draw` is to find behind what each patch says.
        """
        del coords, labels, mask, shape
        return image + dense, None

    def draw(
        self,
        tokens: Float[Array, "p t d"],
        image: Float[Array, "#p n e"],
        *,
        shape: tuple[int, int],
    ) -> Float[Array, "p 4 h w"]:
        """Draw the masks of what `look` found, or of a part of its patches."""
        return self.mask_decoder.masks(tokens, image, shape=shape)


class SAM(Heads):
    """A ViT with a neck, and heads; the published SAM and MobileSAM are presets.

    Pictures are normalised RGB (`canvas.normalize`), `image_size` pixels square; what does not
    fill the square has zeros to its right and below (`seggpt.frame`).
    """

    encoder: ClassVar[tuple[str, ...]] = ("vit", "neck")  # the parts that `encode` reads

    def __init__(self, config: SAMConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        stages = config.stages
        self.vit = TinyViT(stages, rngs=rngs) if stages else ViT(config.vit, rngs=rngs)
        self.neck = Neck(config.width, config.prompt_width, rngs=rngs)
        super().__init__(config, rngs=rngs)

    def encode(self, image: Float[Array, "i h w 3"], *, remat: bool = False) -> Embedding:
        """Encode pictures, once for any number of prompts."""
        return self.neck(self.vit(image, remat=remat))


class PromptedSegGPT(Heads):
    """The heads on a SegGPT's image stream, which sees a picture by itself, as an example's does.

    What every block of it says, and the pixels, are joined; blocks that learned for prompts alone
    follow, so that the in-context model can stay as it is. Before SAM's decoder come a few more in
    which patches look at each other knowing where the prompt is: a decoder in which only prompts
    look takes a large model's patches, which know what they belong to. Pictures fill the square.
    """

    encoder: ClassVar[tuple[str, ...]] = ("vit", "segment_token_x", "join", "blocks", "neck")
    """The lookup is not one of them: squares of its features reach thousands."""

    def __init__(self, config: SegGPTConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        self.vit = ViT(config.vit, rngs=rngs)
        self.segment_token_x = nnx.Param(jnp.zeros(config.width))
        self.join = Join(config, rngs=rngs)
        own = dataclasses.replace(
            config.vit,
            width=config.prompt_width,
            heads=config.decoder_heads,
            grid=(config.grid, config.grid),
        )
        self.blocks, self.fusion = (
            nnx.List(Block(own, window=0, rngs=rngs) for _ in range(count))
            for count in (config.prompt_blocks, config.fusion_blocks)
        )
        self.neck = Neck(config.prompt_width, config.prompt_width, rngs=rngs)
        self.nearness = Nearness(config, rngs=rngs)
        looks = Lookup.heads if config.lookup else 0
        self.gates = Linear(config.prompt_width, 1 + looks, rngs=rngs)
        if config.lookup:
            self.lookup = Lookup(rngs=rngs)
            self.likeness = Likeness(config, rngs=rngs)
        super().__init__(config, rngs=rngs)

    def encode(self, image: Float[Array, "i h w 3"], *, remat: bool = False) -> Embedding:
        """Encode pictures, once for any number of prompts."""
        del remat  # these models are small
        patch = self.config.patch_size
        gh, gw = shape = (image.shape[1] // patch, image.shape[2] // patch)
        upper, _ = jnp.split(self.vit.positions((2 * gh, gw)), 2)
        tokens = self.vit.embed(image) + upper + self.segment_token_x[...]
        taps = []
        for block in self.vit.blocks:
            q, k, v = block.heads(tokens)
            attended = self_attention(q, k, v, block.attn.position, example_grid(*shape))
            tokens = block.finish(tokens, attended)
            taps.append(tokens)
        tokens = self.join(taps, to_patches(image, patch))
        for block in self.blocks:
            tokens = block(tokens, shape=shape)
        embedding = self.neck(tokens.reshape(-1, gh, gw, tokens.shape[-1]))
        if not self.config.lookup:
            return embedding
        # What the cells of each patch look like comes behind what it says.
        cells = self.lookup.describe(image).reshape(
            len(image), gh * patch // CELL, gw * patch // CELL, -1
        )
        patches = to_patches(cells, patch // CELL).reshape(len(image), gh, gw, -1)
        return jnp.concatenate([embedding.astype(patches.dtype), patches], axis=-1)

    def fuse(
        self,
        image: Float[Array, "i n c"],
        dense: Float[Array, "#p #n d"],
        coords: Float[Array, "p s 2"],
        labels: Int[Array, "p s"],
        *,
        mask: Float[Array, "p h w"] | None,
        shape: tuple[int, int],
    ) -> tuple[Float[Array, "p n d"], Float[Array, "p n f"]]:
        """Let a picture's patches look at each other knowing where the prompt is."""
        near = self.nearness.measure(coords, labels, shape=shape)
        tokens = image[..., : self.config.prompt_width] + dense + self.nearness(near)
        p, n, _ = tokens.shape
        fine = [
            jnp.zeros((p, n, PIXELS**2)) if mask is None else to_patches(mask[..., None], PIXELS)
        ]
        if self.config.lookup:
            cells = image[..., self.config.prompt_width :]
            looks, shares = self.likeness(cells, near.prior(mask, patch=PIXELS))
            tokens = tokens + looks
            fine.append(shares.reshape(p, n, -1))
        for block in self.fusion:
            tokens = block(tokens, shape=shape)
        return tokens, jnp.concatenate(fine, axis=-1)

    def draw(
        self,
        tokens: Float[Array, "p t d"],
        image: Float[Array, "#p n e"],
        *,
        shape: tuple[int, int],
    ) -> Float[Array, "p 4 h w"]:
        """Draw the masks, and to each pixel add what is known of it alone.

        That is the earlier mask, and how much its cell looks like what is marked: each as far as
        its patch says.
        """
        patches, fine = jnp.split(image, [self.config.prompt_width], axis=-1)
        masks = super().draw(tokens, patches, shape=shape)
        p, (gh, gw) = len(image), shape
        gates = self.gates(patches)
        pixels = fine[..., : PIXELS**2] * gates[..., :1] / TRUST
        pixels = pixels.reshape(p, gh, gw, PIXELS, PIXELS)
        if self.config.lookup:
            shares = fine[..., PIXELS**2 :].reshape(p, gh * gw, self.likeness.cells, -1)
            side = math.isqrt(self.likeness.cells)
            cells = (shares * gates[:, :, None, 1:]).sum(axis=-1).reshape(p, gh, gw, side, side)
            place = np.arange(PIXELS) * side // PIXELS
            pixels = pixels + TRUST * cells[..., place, :][..., place]
        return masks + pixels.transpose(0, 1, 3, 2, 4).reshape(p, 1, PIXELS * gh, PIXELS * gw)


class Join(nnx.Module):
    """One linear layer over what the blocks say, each normed, and the pixels of a patch."""

    def __init__(self, config: SegGPTConfig, *, rngs: nnx.Rngs) -> None:
        self.norms = nnx.List(LayerNorm(config.width, rngs=rngs) for _ in range(config.depth))
        pixels = 3 * config.patch_size**2
        self.proj = Linear(config.depth * config.width + pixels, config.prompt_width, rngs=rngs)

    def __call__(
        self, taps: list[Float[Array, "b n d"]], patches: Float[Array, "b n pixels"]
    ) -> Float[Array, "b n p"]:
        """Join the blocks' tokens and the patches that they stand for."""
        normed = [norm(tap) for norm, tap in zip(self.norms, taps, strict=True)]
        return self.proj(jnp.concatenate([*normed, patches.astype(taps[0].dtype)], axis=-1))


class Neck(nnx.Module):
    """Two convolutions that bring a ViT's width to the heads'."""

    def __init__(self, inputs: int, width: int, *, rngs: nnx.Rngs) -> None:
        self.conv1 = Linear(inputs, width, use_bias=False, rngs=rngs)
        self.norm1 = LayerNorm(width, rngs=rngs)
        self.conv2 = nnx.Conv(width, width, kernel_size=(3, 3), use_bias=False, rngs=rngs)
        self.norm2 = LayerNorm(width, rngs=rngs)

    def __call__(self, feats: Float[Array, "i gh gw c"]) -> Embedding:
        """Apply both layers, each with its norm."""
        return self.norm2(self.conv2(self.norm1(self.conv1(feats))))
