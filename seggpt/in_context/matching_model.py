"""Matching mode: labels carried from examples to a query by an encoder's features; no training.

A query's token takes the labels of the examples' tokens that it looks like: attention over cosine
similarities, as the in-context model has it before training. Two views of the features are
averaged: relative to the mean of the examples, and each picture's relative to its own mean, which
holds where light, stain or camera differ. `docs/matching.md` has what each step is worth.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from seggpt.canvas import from_patches, to_patches
from seggpt.config import MatchingConfig
from seggpt.encoder import Embedding
from seggpt.in_context.edges import follow_edges
from seggpt.in_context.matching import label_fractions, match, pool, rarity
from seggpt.in_context.model import Cache
from seggpt.in_context.positions import DIRECTIONS
from seggpt.layers import unit

# Chosen on the val splits of 14 training sets, never on the sets that scores are reported of.
SCALE = 22.0  # of the mean cosine of the layers, to logits
BALANCE = 0.6  # the power of 1 / share with which a label's tokens count
BACKWARD = 0.25  # how much a token counts less that many tokens of the query look like


class MatchingModel(nnx.Module):
    """What `InContextModel` is, without training: `decode` returns shares of labels.

    Its only arrays are the directions of positions (`seggpt.in_context.positions`), which features
    are compared without.
    """

    dtype = jnp.float32

    def __init__(self, config: MatchingConfig, *, rngs: nnx.Rngs) -> None:
        del rngs
        self.config = config
        layers, width = len(config.encoder.taps), config.encoder.width
        self.directions = nnx.Param(jnp.zeros((layers, DIRECTIONS, width)))

    def encode(
        self,
        examples: Embedding,
        class_ids: Int[Array, "b h w"],
        colours: Float[Array, "b k 3"],
    ) -> Cache:
        """Encode examples of one size, each by itself; `colours` say how many labels there are."""
        labels = colours.shape[1] - 1
        return self._encode(examples, label_fractions(class_ids, labels, self._cells(examples)))

    def encode_soft(
        self,
        examples: Embedding,
        shares: Float[Array, "b h w k"],
        colours: Float[Array, "b k 3"],
    ) -> Cache:
        """Encode examples whose pixels are each of several labels in part, such as found ones."""
        del colours
        return self._encode(examples, pool(shares, self._cells(examples)))

    def _encode(self, examples: Embedding, fractions: Float[Array, "b gh gw k"]) -> Cache:
        tokens = self._tokens(examples)
        cells = to_patches(fractions, 2)
        count, tokens_each, labels = len(cells), cells.shape[1], fractions.shape[-1]
        unused = jnp.zeros((count, 4 * tokens_each, 0))
        return Cache(
            layers=(_flat(tokens), _flat(_centred(tokens))),
            colours=cells,
            fractions=cells.reshape(count, tokens_each, 4, labels).mean(axis=2),
            fine=unused,
            pixels=unused,
            fine_colours=unused,
            fine_fractions=unused,
            blocks=(),
        )

    def decode(self, cache: Cache, query: Embedding) -> Float[Array, "q h w k"]:
        """Return the shares of labels in queries of one size.

        Each row of the cache serves as many queries in turn.
        """
        tokens, rows = self._tokens(query), len(cache.fractions)
        asked = tokens.reshape(rows, -1, *tokens.shape[1:])
        each = jax.vmap(jax.vmap(_carry, in_axes=(None, 0)))(cache, asked)
        cells = each.reshape(len(tokens), *each.shape[2:])
        found = from_patches(cells, 2, shape=query.grid(self.config.encoder.patch_size))
        return follow_edges(found, query.image)

    def _tokens(self, images: Embedding) -> Float[Array, "b n t d"]:
        """Return the tokens of all layers, without positions."""
        tokens = jnp.stack(images.layers, axis=2)
        directions = self.directions[...].astype(jnp.float32)
        along = jnp.einsum("bntd,tkd->bntk", tokens, directions)
        return tokens - jnp.einsum("bntk,tkd->bntd", along, directions)

    def _cells(self, image: Embedding) -> tuple[int, int]:
        rows, columns = image.grid(self.config.encoder.patch_size)
        return 2 * rows, 2 * columns


def _carry(cache: Cache, asked: Float[Array, "n t d"]) -> Float[Array, "n v"]:
    """Return the labels' shares in 2 x 2 cells of each of one query's tokens."""
    keys, own_keys = (layer.reshape(len(layer), *asked.shape[1:]) for layer in cache.layers)
    mean = keys.mean(axis=0)
    shares = cache.fractions.mean(axis=0)
    rare = BALANCE * jnp.log(rarity(cache.fractions[None], shares[None]))
    found = []
    for query, key, backward in (
        (asked - mean, keys - mean, BACKWARD),
        (_centred(asked[None])[0], own_keys, 0.0),
    ):
        q, k = SCALE * _compared(query)[None], _compared(key)[None]
        weights = rare
        if backward:
            logits = jnp.einsum("bnc,bmc->bnm", q, k)
            weights = rare - backward * jax.nn.logsumexp(logits, axis=1)
        found.append(match(q, k, cache.colours[None], weights)[0])
    return (found[0] + found[1]) / 2


def _centred(tokens: Float[Array, "b n t d"]) -> Float[Array, "b n t d"]:
    """Return each picture's tokens relative to their own mean."""
    return tokens - tokens.mean(axis=1, keepdims=True)


def _compared(tokens: Float[Array, "n t d"]) -> Float[Array, "n c"]:
    """Return vectors whose product is the mean of the layers' cosines."""
    return unit(tokens).reshape(len(tokens), -1) / jnp.sqrt(tokens.shape[1])


def _flat(tokens: Float[Array, "b n t d"]) -> Float[Array, "b n c"]:
    return tokens.reshape(*tokens.shape[:2], -1)
