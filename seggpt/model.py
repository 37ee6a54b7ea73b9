"""SegGPT: pictures and their colour masks in, the query's colour mask out."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from seggpt.attention import (
    Heads,
    KeysValues,
    RelativePosition,
    both_streams,
    example_grid,
    images_look,
    mutual_attention,
    prefix_attention,
    self_attention,
)
from seggpt.canvas import from_patches
from seggpt.config import SegGPTConfig
from seggpt.vit import LayerNorm, Linear, ViT

SEMANTIC, INSTANCE = 0, 1  # what the type tokens tell apart: `kind` in the calls below

Picture = Float[Array, "b h w 3"]
Pictures = Float[Array, "b e h w 3"]
Attend = Callable[[Heads, Heads, Heads, RelativePosition], Heads]
Cache = tuple[KeysValues, ...]


class SegGPT(nnx.Module):
    """An image and a target stream that merge after a block, read by a colour decoder.

    All pictures and targets are normalised RGB (`canvas.normalize`). Tokens are always the K
    examples' grids, then the query's. The two streams lie on the batch axis until they merge.
    """

    def __init__(self, config: SegGPTConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        self.vit = ViT(config.vit, rngs=rngs)
        self.mask_token, self.segment_token_x, self.segment_token_y = (
            _token(config.width, rngs) for _ in range(3)
        )
        if config.type_tokens:
            self.type_token_semantic, self.type_token_instance = (
                _token(config.width, rngs) for _ in range(2)
            )
        self.norm = LayerNorm(config.width, rngs=rngs)
        self.decoder = Decoder(config, rngs=rngs)

    def __call__(
        self,
        examples: Pictures,
        targets: Pictures,
        query: Picture,
        *,
        kind: Int[Array, " b"],
        remat: bool = False,
    ) -> Picture:
        """Predict the query's colour mask from K examples and their colour masks."""
        if self.config.attention == "prefix":
            cache = self.encode(examples, targets, kind=kind, remat=remat)
            return self.decode(cache, query, kind=kind, remat=remat)
        gh, gw = self._shape(query)
        masks = jnp.zeros((*examples.shape[:2], gh * gw), bool)
        masks = jnp.concatenate([masks, jnp.ones_like(masks[:, :1])], axis=1)
        images = jnp.concatenate([examples, query[:, None]], axis=1)
        targets = jnp.concatenate([targets, jnp.zeros_like(query)[:, None]], axis=1)
        return self.paint(images, targets, masks, kind=kind, output="query", remat=remat)

    def paint(
        self,
        images: Pictures,
        targets: Pictures,
        masks: Bool[Array, "b e n"],
        *,
        kind: Int[Array, " b"],
        output: Literal["query", "canvas"],
        prompt: Float[Array, "s m d"] | None = None,
        kept: Float[Array, "b depth 2 2"] | None = None,
        remat: bool = False,
    ) -> Float[Array, "b rows w 3"]:
        """Paint the masked patches with mutual attention; the query is the last picture.

        `canvas` decodes the first example as well, stitched above the query. `prompt` are tokens
        to take in place of those that `embed` makes of the examples. `kept` are factors of what
        attention and the MLP of each block add to the image and the target stream.
        """
        height = images.shape[2]
        gh, gw = shape = self._shape(images[:, -1])
        attend = partial(mutual_attention, examples=images.shape[1] - 1, shape=shape)
        tokens = self._embed(images, targets, masks, kind=kind, below=True)
        if prompt is not None:
            tokens = jnp.concatenate([prompt, tokens[:, prompt.shape[1] :]], axis=1)
        if kept is not None:  # streams lie on the batch axis
            kept = kept.transpose(1, 2, 3, 0).reshape(*kept.shape[1:3], -1).astype(tokens.dtype)
        taps = self._run(tokens, [attend] * self.config.depth, kept=kept, remat=remat)
        # The decoder's convolution sees one row of pixels across the seam, as published.
        above = gh if output == "canvas" else 1
        feats = jnp.concatenate([taps[:, (gh - above) * gw : gh * gw], taps[:, -gh * gw :]], axis=1)
        painted = self.decoder(feats, shape=(above + gh, gw))
        return painted if output == "canvas" else painted[:, -height:]

    def encode(
        self,
        examples: Pictures,
        targets: Pictures,
        *,
        kind: Int[Array, " b"],
        remat: bool = False,
    ) -> Cache:
        """Encode examples once (prefix attention): the keys and values of every block."""
        tokens = self.embed(examples, targets, kind=kind)
        shape = self._shape(examples[:, 0])
        return self.encode_tokens(tokens, examples=examples.shape[1], shape=shape, remat=remat)

    def embed(
        self, examples: Pictures, targets: Pictures, *, kind: Int[Array, " b"]
    ) -> Float[Array, "s m d"]:
        """Embed examples: rows of the image stream, then of the target stream."""
        gh, gw = self._shape(examples[:, 0])
        masks = jnp.zeros((*examples.shape[:2], gh * gw), bool)
        return self._embed(examples, targets, masks, kind=kind, below=False)

    def encode_tokens(
        self,
        tokens: Float[Array, "s m d"],
        *,
        examples: int,
        shape: tuple[int, int],
        remat: bool = False,
    ) -> Cache:
        """Encode what `embed` made of so many examples: the keys and values of every block."""
        # Rows are (stream, b, example): no example sees another.
        tokens = tokens.reshape(-1, shape[0] * shape[1], tokens.shape[-1])
        attend = partial(self_attention, grid=example_grid(*shape))
        cache = []
        for index in range(self.config.depth):
            tokens, kv = self._block(index, tokens, attend, remat=remat)
            # The tokens of a sample's examples follow each other.
            cache.append(tuple(a.reshape(-1, examples * a.shape[1], *a.shape[2:]) for a in kv))
        return tuple(cache)

    def decode(
        self,
        cache: Cache,
        query: Picture,
        *,
        kind: Int[Array, " b"],
        remat: bool = False,
    ) -> Picture:
        """Predict the query's colour mask from encoded examples (prefix attention)."""
        masks = jnp.ones((query.shape[0], 1, math.prod(self._shape(query))), bool)
        blank = jnp.zeros_like(query)
        tokens = self._embed(query[:, None], blank[:, None], masks, kind=kind, below=True)
        shape = self._shape(query)
        attends = [partial(prefix_attention, prefix=prefix, shape=shape) for prefix in cache]
        return self.decoder(self._run(tokens, attends, remat=remat), shape=shape)

    def _shape(self, image: Picture) -> tuple[int, int]:
        patch = self.config.patch_size
        return image.shape[1] // patch, image.shape[2] // patch

    def _embed(
        self,
        images: Pictures,
        targets: Pictures,
        masks: Bool[Array, "b e n"],
        *,
        kind: Int[Array, " b"],
        below: bool,
    ) -> Float[Array, "s m d"]:
        """Embed both streams; grids lie in a canvas' upper half, the last one `below` or not."""
        b, grids = images.shape[:2]
        gh, gw = self._shape(images[:, 0])
        image, target = (
            self.vit.embed(a.reshape(b * grids, *a.shape[2:])).reshape(b, grids, gh * gw, -1)
            for a in (images, targets)
        )
        target = jnp.where(masks[..., None], self.mask_token[...], target)
        upper, lower = jnp.split(self.vit.positions((2 * gh, gw)), 2)
        places = jnp.stack([upper] * (grids - 1) + [lower if below else upper])[None]
        if self.config.type_tokens:
            types = jnp.stack([self.type_token_semantic[...], self.type_token_instance[...]])
            places = places + types[kind][:, None, None]
        streams = [image + self.segment_token_x[...], target + self.segment_token_y[...]]
        return (jnp.stack(streams) + places).reshape(2 * b, grids * gh * gw, -1)

    def _run(
        self,
        tokens: Float[Array, "s m d"],
        attends: Sequence[Attend],
        *,
        kept: Float[Array, "depth 2 s"] | None = None,
        remat: bool,
    ) -> Float[Array, "b m taps"]:
        """Run all blocks; return the normed taps side by side."""
        taps = []
        for index, attend in enumerate(attends):
            own = None if kept is None else kept[index, :, : len(tokens)]
            tokens, _ = self._block(index, tokens, attend, kept=own, remat=remat)
            if index in self.config.taps:
                taps.append(self.norm(tokens))
        return jnp.concatenate(taps, axis=-1)

    def _block(
        self,
        index: int,
        tokens: Float[Array, "s m d"],
        attend: Attend,
        *,
        kept: Float[Array, "2 s"] | None = None,
        remat: bool,
    ) -> tuple[Float[Array, "r m d"], KeysValues]:
        """Run one block, merge the streams after the last one that keeps them apart."""
        block = self.vit.blocks[index]

        def run(tokens: Float[Array, "s m d"]) -> tuple[Float[Array, "s m d"], KeysValues]:
            q, k, v = block.heads(tokens)
            # Published models let each stream look for itself. Here the targets are read where
            # the images look alike, which is what propagating labels means.
            if shared := self.config.attention == "prefix" and index <= self.config.merge_block:
                q, k, v = images_look(q, k, v)
            attended = attend(q, k, v, block.attn.position)
            if shared:
                attended = both_streams(attended)
            return block.finish(tokens, attended, kept=kept), (k, v)

        tokens, kv = jax.checkpoint(run)(tokens) if remat else run(tokens)
        if index == self.config.merge_block:
            tokens = tokens.reshape(2, -1, *tokens.shape[1:]).mean(axis=0)
        return tokens, kv


def _token(width: int, rngs: nnx.Rngs) -> nnx.Param[Array]:
    return nnx.Param(0.02 * jax.random.normal(rngs.params(), (width,)))


class Decoder(nnx.Module):
    """From tokens to colours: a linear layer to pixels, a convolution, a linear head."""

    def __init__(self, config: SegGPTConfig, *, rngs: nnx.Rngs) -> None:
        self.patch_size = config.patch_size
        self.approximate = config.activation == "gelu_tanh"
        width = config.decoder_width
        self.embed = Linear(
            len(config.taps) * config.width, config.patch_size**2 * width, rngs=rngs
        )
        self.conv = nnx.Conv(width, width, kernel_size=(3, 3), rngs=rngs)
        self.norm = LayerNorm(width, rngs=rngs)
        self.head = nnx.Linear(width, 3, rngs=rngs)

    def __call__(self, taps: Float[Array, "b n taps"], *, shape: tuple[int, int]) -> Picture:
        """Decode a grid of `shape` (height, width) in patches."""
        pixels = from_patches(self.embed(taps), self.patch_size, shape=shape)
        pixels = self.norm(self.conv(pixels))
        return self.head(jax.nn.gelu(pixels, approximate=self.approximate))
