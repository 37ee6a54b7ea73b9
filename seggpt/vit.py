"""One vision transformer for every model: patch embedding, positions, blocks."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from seggpt.attention import Heads, RelativePosition, attend
from seggpt.canvas import to_patches
from seggpt.config import ViTConfig
from seggpt.resize import bicubic_resize, smooth_resize
from seggpt.windows import picture_attention, window_attention

# How the published models were made: every linear layer, and what is not said otherwise.
trunc_normal = nnx.initializers.truncated_normal(0.02, lower=-2.0, upper=2.0)
LayerNorm = partial(nnx.LayerNorm, epsilon=1e-6)


class Linear(nnx.Linear):
    """A linear layer as one matrix product over all tokens.

    The flattening halves the time of its gradient on XLA's CPU backend (jax 0.10.2).
    """

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs, use_bias: bool = True) -> None:
        super().__init__(inputs, outputs, use_bias=use_bias, kernel_init=trunc_normal, rngs=rngs)

    def __call__(
        self, inputs: Float[Array, "*b d"], out_sharding: None = None
    ) -> Float[Array, "*b o"]:
        """Apply the layer to the last axis."""
        rows = inputs.reshape(-1, inputs.shape[-1])
        return super().__call__(rows, out_sharding).reshape(*inputs.shape[:-1], -1)


class SelfAttention(nnx.Module):
    """The weights of multi-head attention; who sees whom comes with the call."""

    def __init__(self, config: ViTConfig, *, grid: tuple[int, int], rngs: nnx.Rngs) -> None:
        self.heads = config.heads
        self.qkv = Linear(config.width, 3 * config.width, rngs=rngs)
        self.proj = Linear(config.width, config.width, rngs=rngs)
        head_dim = config.width // config.heads
        if config.rel_pos:
            self.rel_pos_h = nnx.Param(jnp.zeros((2 * grid[0] - 1, head_dim)))
            self.rel_pos_w = nnx.Param(jnp.zeros((2 * grid[1] - 1, head_dim)))
        self.rel_pos = config.rel_pos

    @property
    def position(self) -> RelativePosition:
        """The tables of relative position."""
        if not self.rel_pos:
            return RelativePosition(None, None)
        return RelativePosition(self.rel_pos_h[...], self.rel_pos_w[...])

    @property
    def of_zero(self) -> Float[Array, "3 heads hd"]:
        """The query, key and value of a token that is zero."""
        assert self.qkv.bias is not None
        return self.qkv.bias[...].reshape(3, self.heads, -1)

    def project(self, tokens: Float[Array, "b n d"]) -> tuple[Heads, Heads, Heads]:
        """Return every token's query, key and value."""
        b, n, d = tokens.shape
        qkv = self.qkv(tokens).reshape(b, n, 3, self.heads, d // self.heads)
        return qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]


class Mlp(nnx.Module):
    """Two linear layers around a GELU."""

    def __init__(self, config: ViTConfig, *, rngs: nnx.Rngs) -> None:
        hidden = int(config.width * config.mlp_ratio)
        self.fc1 = Linear(config.width, hidden, rngs=rngs)
        self.fc2 = Linear(hidden, config.width, rngs=rngs)
        self.approximate = config.activation == "gelu_tanh"

    def __call__(self, tokens: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        """Apply both layers to each token."""
        return self.fc2(jax.nn.gelu(self.fc1(tokens), approximate=self.approximate))


class Block(nnx.Module):
    """A pre-norm transformer block; `window` is the side of its windows, or 0."""

    def __init__(self, config: ViTConfig, *, window: int, rngs: nnx.Rngs) -> None:
        self.window = window
        grid = (window, window) if window else config.grid
        self.norm1 = LayerNorm(config.width, rngs=rngs)
        self.attn = SelfAttention(config, grid=grid, rngs=rngs)
        self.norm2 = LayerNorm(config.width, rngs=rngs)
        self.mlp = Mlp(config, rngs=rngs)
        self.layer_scale = config.layer_scale
        if config.layer_scale:
            self.scale1, self.scale2 = (nnx.Param(jnp.ones(config.width)) for _ in range(2))

    def __call__(
        self, tokens: Float[Array, "b n d"], *, shape: tuple[int, int]
    ) -> Float[Array, "b n d"]:
        """Run over pictures of `shape` (height, width) in patches, each by itself."""
        q, k, v = self.heads(tokens)
        position = self.attn.position
        if self.window:
            padding = self.attn.of_zero.astype(q.dtype)
            attended = window_attention(
                q, k, v, position, shape=shape, window=self.window, padding=padding
            )
        else:
            attended = picture_attention(q, k, v, position, shape=shape)
        return self.finish(tokens, attended)

    def heads(self, tokens: Float[Array, "b n d"]) -> tuple[Heads, Heads, Heads]:
        """Return every token's query, key and value; the caller says who sees whom."""
        return self.attn.project(self.norm1(tokens))

    def finish(self, tokens: Float[Array, "b n d"], attended: Heads) -> Float[Array, "b n d"]:
        """Add what attention found, and then what the MLP makes of it."""
        attended = self.attn.proj(attended.reshape(tokens.shape))
        tokens = tokens + (attended * self.scale1[...] if self.layer_scale else attended)
        hidden = self.mlp(self.norm2(tokens))
        return tokens + (hidden * self.scale2[...] if self.layer_scale else hidden)


class ViT(nnx.Module):
    """Patch embedding, absolute positions and blocks; a model says how the blocks are used."""

    def __init__(self, config: ViTConfig, *, rngs: nnx.Rngs) -> None:
        self.patch_size = config.patch_size
        self.patch_embed = Linear(config.patch_size**2 * 3, config.width, rngs=rngs)
        self.pos_embed = nnx.Param(trunc_normal(rngs.params(), (*config.pos_grid, config.width)))
        # Those who added registers also smoothed positions (dinov2/hub/backbones.py).
        self.smooth = config.registers > 0
        self.prefix = config.class_token + config.registers
        if self.prefix:
            # The class token has its position added already; registers have none.
            self.prefix_tokens = nnx.Param(jnp.zeros((self.prefix, config.width)))
        self.blocks = nnx.List(
            Block(
                config, window=0 if index in config.global_blocks else config.window_size, rngs=rngs
            )
            for index in range(config.depth)
        )

    def __call__(
        self, image: Float[Array, "b h w 3"], *, remat: bool = False
    ) -> Float[Array, "b gh gw d"]:
        """Encode normalised pictures, each by itself; there is no norm after the last block."""
        return self.early_and_last(image, 0, remat=remat)[1]

    def early_and_last(
        self, image: Float[Array, "b h w 3"], early: int, *, remat: bool = False
    ) -> tuple[Float[Array, "b gh gw d"], Float[Array, "b gh gw d"]]:
        """Encode as a call does, and also return what block `early` gives."""
        gh, gw = shape = (image.shape[1] // self.patch_size, image.shape[2] // self.patch_size)
        tokens = found = self.embed(image) + self.positions(shape)
        for index, block in enumerate(self.blocks):
            run = partial(block, shape=shape)
            tokens = (jax.checkpoint(run) if remat else run)(tokens)
            found = tokens if index == early else found
        return found.reshape(-1, gh, gw, found.shape[-1]), tokens.reshape(
            -1, gh, gw, tokens.shape[-1]
        )

    def taps(
        self, image: Float[Array, "b h w 3"], blocks: Sequence[int]
    ) -> tuple[Float[Array, "b n d"], ...]:
        """Return the patches' tokens after some blocks (counted from 0), without a norm.

        Blocks after the last of them are not run.
        """
        shape = (image.shape[1] // self.patch_size, image.shape[2] // self.patch_size)
        tokens, found = self.embed(image) + self.positions(shape), {}
        if self.prefix:
            prefix = jnp.broadcast_to(
                self.prefix_tokens[...], (len(tokens), self.prefix, tokens.shape[-1])
            )
            tokens = jnp.concatenate([prefix.astype(tokens.dtype), tokens], axis=1)
        for index, block in enumerate(self.blocks[: max(blocks) + 1]):
            q, k, v = block.heads(tokens)
            tokens = block.finish(tokens, attend(q, k, v))
            if index in blocks:
                found[index] = tokens[:, self.prefix :]
        return tuple(found[index] for index in blocks)

    def embed(self, image: Float[Array, "b h w 3"]) -> Float[Array, "b n d"]:
        """Embed the patches of normalised pictures, without positions."""
        return self.patch_embed(to_patches(image, self.patch_size))

    def positions(self, shape: tuple[int, int]) -> Float[Array, "n d"]:
        """Return the absolute positions of a grid of `shape`, row by row."""
        resize = smooth_resize if self.smooth else bicubic_resize
        table = resize(self.pos_embed[...], shape)
        return table.reshape(-1, table.shape[-1])
