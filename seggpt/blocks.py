"""Transformer blocks over images' tokens, which may be of any number."""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from seggpt.attention import attend
from seggpt.layers import Dense


class ImageBlock(nnx.Module):
    """Self-attention within an image and an MLP; pre-norm."""

    def __init__(self, width: int, heads: int, *, rngs: nnx.Rngs) -> None:
        self.heads = heads
        self.norm1, self.norm2 = (nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs) for _ in range(2))
        self.qkv = Dense(width, 3 * width, rngs=rngs)
        self.fc1 = Dense(width, 4 * width, rngs=rngs)
        # What a block adds starts small: matching is right already.
        self.out = Dense(width, width, scale=0.3, rngs=rngs)
        self.fc2 = Dense(4 * width, width, scale=0.3, rngs=rngs)

    def __call__(self, tokens: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        """Apply both parts."""
        return self.mlp(self.self_attention(tokens))

    def self_attention(self, tokens: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        """Let an image's tokens see each other."""
        q, k, v = (self._split(a) for a in jnp.split(self.qkv(self.norm1(tokens)), 3, axis=-1))
        return tokens + self.out(attend(q, k, v).reshape(tokens.shape))

    def mlp(self, tokens: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        """Apply the MLP."""
        return tokens + self.fc2(jax.nn.gelu(self.fc1(self.norm2(tokens)), approximate=False))

    def _split(self, tokens: Float[Array, "b n d"]) -> Float[Array, "b n heads hd"]:
        return tokens.reshape(*tokens.shape[:2], self.heads, -1)


class Block(ImageBlock):
    """An image's block in which a query also sees the examples, between attention and MLP."""

    def __init__(self, width: int, heads: int, *, rngs: nnx.Rngs) -> None:
        super().__init__(width, heads, rngs=rngs)
        self.norm_cross = nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs)
        self.cross_q = Dense(width, width, rngs=rngs)
        self.cross_kv = Dense(width, 2 * width, rngs=rngs)
        self.cross_out = Dense(width, width, scale=0.3, rngs=rngs)

    def keys_values(self, tokens: Float[Array, "b n d"]) -> tuple[Array, Array]:
        """Return what queries see of an example, (b, n, heads, hd) both."""
        k, v = jnp.split(self.cross_kv(self.norm_cross(tokens)), 2, axis=-1)
        return self._split(k), self._split(v)

    def cross_attention(
        self, tokens: Float[Array, "b n d"], examples: tuple[Array, Array]
    ) -> Float[Array, "b n d"]:
        """Let queries see the examples."""
        q = self._split(self.cross_q(self.norm_cross(tokens)))
        return tokens + self.cross_out(attend(q, *examples).reshape(tokens.shape))


def examples_through(
    blocks: Iterable[Block], tokens: Float[Array, "b n d"]
) -> tuple[tuple[Array, Array], ...]:
    """Apply blocks to examples; return what queries see of them in each."""
    seen = []
    for block in blocks:
        tokens = block.self_attention(tokens)
        seen.append(block.keys_values(tokens))
        tokens = block.mlp(tokens)
    return tuple(seen)


def queries_through(
    blocks: Iterable[Block],
    tokens: Float[Array, "q n d"],
    examples: Iterable[tuple[Array, Array]],
) -> Float[Array, "q n d"]:
    """Apply blocks to queries; each row of the examples serves as many queries in turn."""
    for block, seen in zip(blocks, examples, strict=True):
        tokens = block.self_attention(tokens)
        folded = tokens.reshape(len(seen[0]), -1, tokens.shape[-1])
        tokens = block.mlp(block.cross_attention(folded, seen).reshape(tokens.shape))
    return tokens
