"""The two-way transformer: prompt tokens attend to the image, and the image to them.

The picture's tokens have a batch axis of one as long as they are the same for every prompt, so
what is computed from them alone is computed once.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from seggpt.config import HeadsConfig
from seggpt.vit import Linear

# transformer.py of SAM's authors leaves torch's default; the ViT and the necks have 1e-6.
LayerNorm = partial(nnx.LayerNorm, epsilon=1e-5)

Tokens = Float[Array, "#p t d"]
ImageTokens = Float[Array, "#p n d"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Guidance:
    """What draws the tokens to a known thing (PerSAM; see `incontext.prompts.persam`).

    Attributes:
        places: How much each patch looks like the thing, 0..1.
        feature: How the thing looks, as a patch that the image encoder has made of it.
    """

    places: Float[Array, "#p n"]
    feature: Float[Array, "#p d"]


class Attention(nnx.Module):
    """Attention at a width of its own, between a few tokens and many or few.

    A picture has thousands of tokens and a prompt a few, so where the picture's differ from prompt
    to prompt their projections would be most of the work. Instead the few take the matrix of the
    many first: few (W many) = (few W) many.
    """

    def __init__(self, width: int, *, inner: int, heads: int, rngs: nnx.Rngs) -> None:
        self.heads, self.inner = heads, inner
        self.q, self.k, self.v = (Linear(width, inner, rngs=rngs) for _ in range(3))
        self.out = Linear(inner, width, rngs=rngs)

    def __call__(
        self,
        q: Float[Array, "#p t d"],
        k: Float[Array, "#p n d"],
        v: Float[Array, "#p n d"],
        *,
        present: Bool[Array, "p n"] | None = None,
        drawn: Float[Array, "#p n"] | None = None,
    ) -> Float[Array, "#p t d"]:
        """Let a few tokens look at those keys that are present; axes of one are shared by all.

        What draws them to a key is added to its weight, and the softmax taken once more.
        """
        few = self._split(self.q(q))
        logits = self._products(few, k, self.k)
        if present is not None:
            logits = jnp.where(present[:, None, None], logits, -jnp.inf)
        weights = jax.nn.softmax(logits, axis=-1)
        if drawn is not None:
            weights = jax.nn.softmax(weights + drawn[:, None, None], axis=-1)
        if self._pays(few, v):
            p, heads, t, n = weights.shape
            kernel, bias = self._parts(self.v)
            means = (weights.reshape(p, heads * t, n) @ v).reshape(p, heads, t, -1)
            found = jnp.einsum("phtd,dhk->phtk", means, kernel) + bias[:, None]
        else:
            found = weights @ self._split(self.v(v))
        return self.out(_join(found))

    def spread(
        self,
        q: Float[Array, "#p n d"],
        k: Float[Array, "#p t d"],
        v: Float[Array, "#p t d"],
        *,
        present: Bool[Array, "p t"],
    ) -> Float[Array, "p n d"]:
        """Let many tokens look at those of a few that are present."""
        few, values = self._split(self.k(k)), self._split(self.v(v))
        logits = jnp.where(present[:, None, :, None], self._products(few, q, self.q), -jnp.inf)
        weights = jax.nn.softmax(logits, axis=-2)
        p, heads, t, n = weights.shape
        if t * heads >= self.inner:
            return self.out(_join(weights.swapaxes(-1, -2) @ values))
        assert self.out.bias is not None
        kernel = self.out.kernel[...].reshape(heads, -1, self.out.kernel.shape[-1])
        back = jnp.einsum("phtk,hkd->phtd", values, kernel).reshape(p, heads * t, -1)
        return weights.reshape(p, heads * t, n).swapaxes(1, 2) @ back + self.out.bias[...]

    def _products(
        self, few: Float[Array, "#p heads t hd"], many: Float[Array, "#p n d"], layer: Linear
    ) -> Float[Array, "#p heads t n"]:
        """Compute the scaled products of a few projected tokens with many that a layer projects."""
        few = few / math.sqrt(self.inner // self.heads)
        if not self._pays(few, many):
            return few @ self._split(layer(many)).swapaxes(-1, -2)
        p, heads, t, _ = few.shape
        kernel, bias = self._parts(layer)
        folded = jnp.einsum("phtk,dhk->phtd", few, kernel).reshape(p, heads * t, -1)
        products = (folded @ many.swapaxes(1, 2)).reshape(p, heads, t, -1)
        return products + jnp.einsum("phtk,hk->pht", few, bias)[..., None]

    def _pays(self, few: Float[Array, "#p heads t hd"], many: Float[Array, "#p n d"]) -> bool:
        """Tell whether folding is less work: not where one projection serves several prompts."""
        return len(few) in (1, len(many)) and few.shape[2] * self.heads < self.inner

    def _parts(self, layer: Linear) -> tuple[Float[Array, "d heads hd"], Float[Array, "heads hd"]]:
        assert layer.bias is not None
        kernel, bias = layer.kernel[...], layer.bias[...]
        return kernel.reshape(len(kernel), self.heads, -1), bias.reshape(self.heads, -1)

    def _split(self, tokens: Float[Array, "p n inner"]) -> Float[Array, "p heads n hd"]:
        return tokens.reshape(*tokens.shape[:2], self.heads, -1).swapaxes(1, 2)


def _join(heads: Float[Array, "p heads n hd"]) -> Float[Array, "p n inner"]:
    return heads.swapaxes(1, 2).reshape(len(heads), heads.shape[2], -1)


class Mlp(nnx.Module):
    """Linear layers with ReLUs, or another activation, between them."""

    activation: ClassVar[Callable[[Array], Array]] = jax.nn.relu

    def __init__(self, *widths: int, rngs: nnx.Rngs) -> None:
        self.layers = nnx.List(
            Linear(inputs, outputs, rngs=rngs) for inputs, outputs in itertools.pairwise(widths)
        )

    def __call__(self, tokens: Float[Array, "*b inputs"]) -> Float[Array, "*b outputs"]:
        """Apply all layers to the last axis."""
        for layer in self.layers[:-1]:
            tokens = type(self).activation(layer(tokens))
        return self.layers[-1](tokens)


class TwoWayBlock(nnx.Module):
    """One layer; the first has no places to go by yet, and starts from what attention finds."""

    mlp_kind: ClassVar[type[Mlp]] = Mlp

    def __init__(self, config: HeadsConfig, *, first: bool, rngs: nnx.Rngs) -> None:
        width = config.prompt_width
        half = partial(Attention, width, inner=width // 2, heads=config.decoder_heads, rngs=rngs)
        self.first = first
        self.self_attn = Attention(width, inner=width, heads=config.decoder_heads, rngs=rngs)
        self.to_image, self.to_tokens = half(), half()
        self.mlp = self.mlp_kind(width, config.decoder_mlp, width, rngs=rngs)
        self.norm1, self.norm2, self.norm3, self.norm4 = (
            LayerNorm(width, rngs=rngs) for _ in range(4)
        )

    def __call__(
        self,
        tokens: Tokens,
        image: ImageTokens,
        *,
        places: tuple[Tokens, ImageTokens],
        present: Bool[Array, "p t"],
        drawn: Float[Array, "#p n"] | None = None,
    ) -> tuple[Tokens, ImageTokens]:
        """Return the tokens and the picture after they have looked at each other."""
        token_places, image_places = places
        tokens = self.norm1(self.look_around(tokens, token_places, present=present))
        placed_image = image + image_places
        tokens = tokens + self.to_image(tokens + token_places, placed_image, image, drawn=drawn)
        tokens = self.norm2(tokens)
        tokens = self.norm3(tokens + self.mlp(tokens))
        seen = self.to_tokens.spread(placed_image, tokens + token_places, tokens, present=present)
        return tokens, self.norm4(image + seen)

    def look_around(self, tokens: Tokens, places: Tokens, *, present: Bool[Array, "p t"]) -> Tokens:
        """Let the tokens look at each other."""
        if self.first:
            return self.self_attn(tokens, tokens, tokens, present=present)
        placed = tokens + places
        return tokens + self.self_attn(placed, placed, tokens, present=present)


class TwoWayTransformer(nnx.Module):
    """Two layers, and a last look of the tokens at the picture."""

    layer_kind: ClassVar[type[TwoWayBlock]] = TwoWayBlock

    def __init__(self, config: HeadsConfig, *, rngs: nnx.Rngs) -> None:
        width = config.prompt_width
        self.layers = nnx.List(
            self.layer_kind(config, first=index == 0, rngs=rngs) for index in range(2)
        )
        self.final_attn = Attention(width, inner=width // 2, heads=config.decoder_heads, rngs=rngs)
        self.final_norm = LayerNorm(width, rngs=rngs)

    def __call__(
        self,
        tokens: Tokens,
        image: ImageTokens,
        *,
        image_places: Float[Array, "1 n d"],
        present: Bool[Array, "p t"],
        guidance: Guidance | None = None,
    ) -> tuple[Tokens, ImageTokens]:
        """Return both after all layers; the tokens as they come serve as their own places.

        A thing's feature is added to the tokens before every layer and before the last look, and so
        to their places too, once: their authors' code adds in place (per_segment_anything,
        modeling/transformer.py).
        """
        feature = 0.0 if guidance is None else guidance.feature[:, None]
        drawn = None if guidance is None else guidance.places
        tokens = tokens + feature
        found = tokens
        for layer in self.layers:
            found = found if layer.first else found + feature
            found, image = layer(
                found, image, places=(tokens, image_places), present=present, drawn=drawn
            )
        last = self.final_attn(found + tokens + feature, image + image_places, image)
        return self.final_norm(found + last), image
