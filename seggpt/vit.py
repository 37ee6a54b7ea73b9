"""One vision transformer for every model: patch embedding, positions, blocks."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from seggpt.attention import Heads, RelativePosition
from seggpt.canvas import to_patches
from seggpt.config import ViTConfig
from seggpt.resize import bicubic_resize, smooth_resize
from seggpt.windows import picture_attention, window_attention

# How the published models were made: every linear layer, and what is not said otherwise.
trunc_normal = nnx.initializers.truncated_normal(0.02, lower=-2.0, upper=2.0)
LayerNorm = partial(nnx.LayerNorm, epsilon=1e-6)
ROTARY_BASE = 100.0  # of DINOv3 (dinov3/hub/backbones.py)


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


class Rotation(NamedTuple):
    """Cosine and sine of the angles by which each token's heads are turned."""

    cos: Float[Array, "n hd"]
    sin: Float[Array, "n hd"]


def make_rotation(shape: tuple[int, int], head_dim: int, prefix: int) -> Rotation:
    """Return how DINOv3 turns the tokens of a grid of `shape`; the `prefix` before them is not.

    A patch's middle is in -1..1 along each axis, whatever the shape. The first quarter of a head's
    numbers turns with the row, the second with the column, each against the one half a head away
    (dinov3/layers/rope_position_encoding.py).
    """
    periods = ROTARY_BASE ** np.arange(0, 1, 4 / head_dim)
    middles = (2 * np.arange(0.5, length) / length - 1 for length in shape)
    rows, cols = (2 * np.pi * middle[:, None] / periods for middle in middles)
    half = np.concatenate(np.broadcast_arrays(rows[:, None], cols[None]), axis=-1)
    angles = np.concatenate([half, half], axis=-1).reshape(-1, head_dim)
    angles = np.pad(angles, ((prefix, 0), (0, 0)))
    return Rotation(
        jnp.asarray(np.cos(angles), jnp.float32), jnp.asarray(np.sin(angles), jnp.float32)
    )


def rotate(heads: Heads, rotation: Rotation) -> Heads:
    """Turn every token's queries or keys by its place, in float32."""
    first, second = jnp.split(heads, 2, axis=-1)
    other = jnp.concatenate([-second, first], axis=-1)
    turned = heads * rotation.cos[:, None] + other * rotation.sin[:, None]
    return turned.astype(heads.dtype)


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
    """Two linear layers around a GELU, or around a SiLU that gates the other half of the first."""

    def __init__(self, config: ViTConfig, *, rngs: nnx.Rngs) -> None:
        hidden = round(config.width * config.mlp_ratio)
        self.gated = config.activation == "swiglu"
        self.fc1 = Linear(config.width, (1 + self.gated) * hidden, rngs=rngs)
        self.fc2 = Linear(hidden, config.width, rngs=rngs)
        self.approximate = config.activation == "gelu_tanh"

    def __call__(self, tokens: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        """Apply both layers to each token."""
        hidden = self.fc1(tokens)
        if self.gated:
            gate, passed = jnp.split(hidden, 2, axis=-1)
            return self.fc2(jax.nn.silu(gate) * passed)
        return self.fc2(jax.nn.gelu(hidden, approximate=self.approximate))


class Block(nnx.Module):
    """A pre-norm transformer block; `window` is the side of its windows, or 0."""

    def __init__(self, config: ViTConfig, *, window: int, rngs: nnx.Rngs) -> None:
        self.window = window
        grid = (window, window) if window else config.grid
        self.norm1 = LayerNorm(config.width, epsilon=config.norm_epsilon, rngs=rngs)
        self.attn = SelfAttention(config, grid=grid, rngs=rngs)
        self.norm2 = LayerNorm(config.width, epsilon=config.norm_epsilon, rngs=rngs)
        self.mlp = Mlp(config, rngs=rngs)
        self.layer_scale = config.layer_scale
        if config.layer_scale:
            self.scale1, self.scale2 = (nnx.Param(jnp.ones(config.width)) for _ in range(2))

    def __call__(
        self,
        tokens: Float[Array, "b n d"],
        *,
        shape: tuple[int, int],
        rotation: Rotation | None = None,
    ) -> Float[Array, "b n d"]:
        """Run over pictures of `shape` (height, width) in patches, each by itself.

        Only blocks without windows and relative positions take tokens that are no patches.
        """
        q, k, v = self.heads(tokens)
        if rotation:
            q, k = rotate(q, rotation), rotate(k, rotation)
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

    def finish(
        self,
        tokens: Float[Array, "b n d"],
        attended: Heads,
        *,
        kept: Float[Array, "2 b"] | None = None,
    ) -> Float[Array, "b n d"]:
        """Add what attention found, and then what the MLP makes of it, each times what is kept."""
        attended = self.attn.proj(attended.reshape(tokens.shape))
        attended = attended * self.scale1[...] if self.layer_scale else attended
        tokens = tokens + (attended if kept is None else attended * kept[0, :, None, None])
        hidden = self.mlp(self.norm2(tokens))
        hidden = hidden * self.scale2[...] if self.layer_scale else hidden
        return tokens + (hidden if kept is None else hidden * kept[1, :, None, None])


class ViT(nnx.Module):
    """Patch embedding, positions and blocks; a model says how the blocks are used."""

    def __init__(self, config: ViTConfig, *, rngs: nnx.Rngs) -> None:
        self.patch_size = config.patch_size
        self.patch_embed = Linear(config.patch_size**2 * 3, config.width, rngs=rngs)
        # Of a head that turns with its place; 0 where a table has the positions.
        self.turning = config.width // config.heads if config.rotary else 0
        if not config.rotary:
            table = trunc_normal(rngs.params(), (*config.pos_grid, config.width))
            self.pos_embed = nnx.Param(table)
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
        early_tokens, tokens = self.taps(image, (early, len(self.blocks) - 1), remat=remat)
        lattice = (len(image), *self.grid(image), tokens.shape[-1])
        return early_tokens.reshape(lattice), tokens.reshape(lattice)

    def taps(
        self, image: Float[Array, "b h w 3"], blocks: Sequence[int], *, remat: bool = False
    ) -> tuple[Float[Array, "b n d"], ...]:
        """Return the patches' tokens after some blocks (counted from 0), without a norm.

        Blocks after the last of them are not run.
        """
        shape = self.grid(image)
        tokens, found = self.embed(image), {}
        if not self.turning:
            tokens = tokens + self.positions(shape)
        if self.prefix:
            prefix = jnp.broadcast_to(
                self.prefix_tokens[...], (len(tokens), self.prefix, tokens.shape[-1])
            )
            tokens = jnp.concatenate([prefix.astype(tokens.dtype), tokens], axis=1)
        rotation = make_rotation(shape, self.turning, self.prefix) if self.turning else None
        for index, block in enumerate(self.blocks[: max(blocks) + 1]):
            run = partial(block, shape=shape, rotation=rotation)
            tokens = (jax.checkpoint(run) if remat else run)(tokens)
            if index in blocks:
                found[index] = tokens[:, self.prefix :]
        return tuple(found[index] for index in blocks)

    def grid(self, image: Float[Array, "b h w 3"]) -> tuple[int, int]:
        """Return the height and width of pictures in patches."""
        return image.shape[1] // self.patch_size, image.shape[2] // self.patch_size

    def embed(self, image: Float[Array, "b h w 3"]) -> Float[Array, "b n d"]:
        """Embed the patches of normalised pictures, without positions."""
        return self.patch_embed(to_patches(image, self.patch_size))

    def positions(self, shape: tuple[int, int]) -> Float[Array, "n d"]:
        """Return the absolute positions of a grid of `shape`, row by row."""
        resize = smooth_resize if self.smooth else bicubic_resize
        table = resize(self.pos_embed[...], shape)
        return table.reshape(-1, table.shape[-1])
