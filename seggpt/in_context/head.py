"""A small head on frozen features that corrects what an in-context model finds, for one prompt."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PyTree

from seggpt.conv import Conv3x3
from seggpt.layers import Dense
from seggpt.stem import FINE
from seggpt.weights.keys import Keys

TOKENS = 64  # channels that tokens are brought to
CELLS = 32  # channels at stride 4
GUESS = 0.2  # on logarithms of probabilities, which reach -10, as an input


class Head(nnx.Module):
    """Corrections to the logarithms of the probabilities of background and labels, at stride 4.

    It starts as no correction. Tokens see their neighbours first, then meet the pixels.
    """

    def __init__(self, feats: int, channels: int, *, rngs: nnx.Rngs) -> None:
        self.tokens = Dense(feats, TOKENS, rngs=rngs)
        self.coarse = Conv3x3(TOKENS + channels, TOKENS, rngs=rngs)
        self.fine = Conv3x3(TOKENS + FINE + channels, CELLS, rngs=rngs)
        self.finer = Conv3x3(CELLS, CELLS, rngs=rngs)
        self.kernel = nnx.Param(jnp.zeros((CELLS, channels)))
        self.bias = nnx.Param(jnp.zeros(channels))
        self.trust = nnx.Param(jnp.ones(()))

    def __call__(
        self,
        tokens: Float[Array, "b gh gw f"],
        pixels: Float[Array, "b h w c"],
        guess: Float[Array, "b h w k"],
    ) -> Float[Array, "b h w k"]:
        """Return what to add; `guess` are the logarithms of what the model finds."""
        seen = GUESS * guess
        coarse = jax.image.resize(seen, (*tokens.shape[:3], seen.shape[-1]), "linear")
        feats = jax.nn.gelu(self.tokens(tokens))
        feats = feats + jax.nn.gelu(self.coarse(jnp.concatenate([feats, coarse], axis=-1)))
        feats = jax.image.resize(feats, (*pixels.shape[:3], TOKENS), "linear")
        cells = jax.nn.gelu(self.fine(jnp.concatenate([feats, pixels, seen], axis=-1)))
        cells = cells + jax.nn.gelu(self.finer(cells))
        added = cells @ self.kernel[...] + self.bias[...]
        return added + (self.trust[...] - 1) * guess


def split_head(feats: int, channels: int) -> nnx.GraphDef[Head]:
    """Return the structure of a head."""
    return nnx.graphdef(nnx.eval_shape(lambda: Head(feats, channels, rngs=Keys(0))))


def correct(
    heads: PyTree, tokens: Array, pixels: Array, probabilities: Float[Array, "k h w"]
) -> Float[Array, "k h w"]:
    """Return the probabilities of one picture after the mean correction of several heads.

    `heads` are weights, stacked along the first axis.
    """
    graphdef, guess = (
        split_head(tokens.shape[-1], len(probabilities)),
        guess_of(probabilities, pixels),
    )
    added = jax.vmap(lambda head: nnx.merge(graphdef, head)(tokens, pixels, guess))(heads)
    logs = log_probabilities(jnp.moveaxis(probabilities, 0, -1)[None])
    logs = logs + jax.image.resize(added.mean(axis=0), logs.shape, "linear")
    return jnp.moveaxis(jax.nn.softmax(logs, axis=-1)[0], -1, 0)


def guess_of(probabilities: Float[Array, "k h w"], pixels: Float[Array, "1 h4 w4 c"]) -> Array:
    """Return the logarithms of probabilities as a head sees them, (1, h4, w4, k)."""
    image = jnp.moveaxis(probabilities, 0, -1)[None]
    small = jax.image.resize(image, (*pixels.shape[:3], image.shape[-1]), "linear")
    return log_probabilities(small)


def log_probabilities(probabilities: Array) -> Array:
    """Return logarithms of probabilities, never infinite."""
    return jnp.log(jnp.maximum(probabilities, 1e-6))
