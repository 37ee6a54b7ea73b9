"""The mask decoder: four masks of a prompt, each with its predicted IoU."""

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from seggpt.config import HeadsConfig
from seggpt.prompts.encoder import PixelNorm
from seggpt.prompts.transformer import Guidance, ImageTokens, Mlp, Tokens, TwoWayTransformer
from seggpt.vit import trunc_normal

MASKS = 4  # the one for a clear prompt, and three for a prompt that may mean several things


class TokenDecoder(nnx.Module):
    """A two-way transformer, and a head for each mask; what the masks are drawn on is to be added.

    `channels` is the number of features of a pixel that a mask is drawn on.
    """

    transformer_kind: ClassVar[type[TwoWayTransformer]] = TwoWayTransformer
    head_kind: ClassVar[type[Mlp]] = Mlp

    def __init__(self, config: HeadsConfig, *, channels: int, rngs: nnx.Rngs) -> None:
        width = config.prompt_width
        self.iou_token = nnx.Param(jax.random.normal(rngs.params(), (width,)))
        self.mask_tokens = nnx.Param(jax.random.normal(rngs.params(), (MASKS, width)))
        self.transformer = self.transformer_kind(config, rngs=rngs)
        self.mask_heads = nnx.List(
            self.head_kind(width, width, width, channels, rngs=rngs) for _ in range(MASKS)
        )
        self.iou_head = self.head_kind(width, width, width, MASKS, rngs=rngs)

    def look(
        self,
        image: ImageTokens,
        prompt: Float[Array, "p s d"],
        *,
        image_places: Float[Array, "1 n d"],
        present: Bool[Array, "p s"],
        guidance: Guidance | None = None,
    ) -> tuple[Tokens, ImageTokens]:
        """Let a prompt and the picture look at each other; what they find, masks are made of."""
        own = jnp.concatenate([self.iou_token[...][None], self.mask_tokens[...]])
        own = jnp.broadcast_to(own, (len(prompt), *own.shape))
        tokens = jnp.concatenate([own, prompt], axis=1)
        everyone = jnp.ones((len(prompt), own.shape[1]), bool)
        present = jnp.concatenate([everyone, present], axis=1)
        return self.transformer(
            tokens, image, image_places=image_places, present=present, guidance=guidance
        )

    def scores(self, tokens: Tokens) -> Float[Array, "p 4"]:
        """Predict each mask's IoU with the truth, from what `look` found; nothing bounds it."""
        return self.iou_head(tokens[:, 0])

    def filters(self, tokens: Tokens) -> Float[Array, "p 4 c"]:
        """Return what each mask's pixels are multiplied with."""
        heads = [head(tokens[:, 1 + index]) for index, head in enumerate(self.mask_heads)]
        return jnp.stack(heads, axis=1)


class MaskDecoder(TokenDecoder):
    """SAM's: pixels four times as fine as patches."""

    norm_kind: ClassVar[Callable[..., Any]] = PixelNorm

    def __init__(self, config: HeadsConfig, *, rngs: nnx.Rngs) -> None:
        width = config.prompt_width
        super().__init__(config, channels=width // 8, rngs=rngs)
        self.up1 = Upscale(width, width // 4, rngs=rngs)
        self.up_norm = type(self).norm_kind(width // 4, rngs=rngs)
        self.up2 = Upscale(width // 4, width // 8, rngs=rngs)

    def masks(
        self, tokens: Tokens, image: ImageTokens, *, shape: tuple[int, int]
    ) -> Float[Array, "p 4 h w"]:
        """Draw the masks, as logits of 4 by 4 pixels a patch, from what `look` found."""
        return self.of_pixels(tokens, self.pixels(image), shape=shape)

    def pixels(self, image: ImageTokens) -> Float[Array, "p n16 z"]:
        """Make pixels of patches: each becomes four, and each of these four again."""
        pixels = self.up2(jax.nn.gelu(self.up_norm(self.up1(image)), approximate=False))
        return jax.nn.gelu(pixels, approximate=False)

    def of_pixels(
        self, tokens: Tokens, pixels: Float[Array, "p n16 z"], *, shape: tuple[int, int]
    ) -> Float[Array, "p 4 h w"]:
        """Draw the masks of what `pixels` made."""
        p, (gh, gw) = len(tokens), shape
        logits = jnp.matmul(self.filters(tokens), pixels.swapaxes(1, 2))
        # Only here do pixels leave their patch: logits are all that must be moved.
        split = logits.reshape(p, MASKS, gh, gw, 2, 2, 2, 2).transpose(0, 1, 2, 4, 6, 3, 5, 7)
        return split.reshape(p, MASKS, 4 * gh, 4 * gw)


class Upscale(nnx.Module):
    """A transposed convolution of stride and size 2: each pixel becomes four, on its own."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs) -> None:
        self.kernel = nnx.Param(trunc_normal(rngs.params(), (inputs, 4 * outputs)))
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(self, pixels: Float[Array, "p n c"]) -> Float[Array, "p n4 o"]:
        """Put four pixels, row by row, in the place of each."""
        p, _, c = pixels.shape
        fine = pixels.reshape(-1, c) @ self.kernel[...]
        return fine.reshape(p, -1, len(self.bias[...])) + self.bias[...]
