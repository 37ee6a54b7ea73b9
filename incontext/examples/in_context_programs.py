"""What the in-context engine compiles: pure functions of weights and arrays."""

from typing import TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PyTree

from seggpt.encoder import Embedding, Encoder
from seggpt.in_context.head import correct
from seggpt.in_context.matching_model import MatchingModel
from seggpt.in_context.model import Cache, InContextModel

Painter: TypeAlias = InContextModel | MatchingModel


def encode_image(graphdef: nnx.GraphDef[Encoder], params: PyTree, images: Array) -> Embedding:
    """Encode images of 0..255."""
    return nnx.merge(graphdef, params)(images.astype(jnp.float32) / 255)


def encode_example(
    graphdef: nnx.GraphDef[Painter],
    params: PyTree,
    embedding: Embedding,
    class_ids: Array,
    colours: Array,
) -> Cache:
    """Encode one example in every pass."""
    model, passes = nnx.merge(graphdef, params), len(class_ids)
    repeated = jax.tree.map(lambda a: jnp.repeat(a, passes, axis=0), _cast(model, embedding))
    return model.encode(repeated, class_ids, jnp.broadcast_to(colours, (passes, *colours.shape)))


def encode_found(
    graphdef: nnx.GraphDef[Painter],
    params: PyTree,
    embedding: Embedding,
    shares: Array,
    colours: Array,
) -> Cache:
    """Encode what was found in one image, in every pass."""
    model, passes = nnx.merge(graphdef, params), len(shares)
    repeated = jax.tree.map(lambda a: jnp.repeat(a, passes, axis=0), _cast(model, embedding))
    spread = jnp.broadcast_to(colours, (passes, *colours.shape))
    return model.encode_soft(repeated, shares.astype(spread.dtype), spread)


def paint_queries(
    graphdef: nnx.GraphDef[Painter],
    params: PyTree,
    cache: Cache,
    queries: Embedding,
    *,
    passes: int,
) -> Float[Array, "b passes h w c"]:
    """Paint every query in every pass: colours, or the shares of labels that matching finds."""
    model, count = nnx.merge(graphdef, params), len(queries.image)
    tiled = jax.tree.map(
        lambda a: jnp.tile(a, (passes, *(1,) * (a.ndim - 1))), _cast(model, queries)
    )
    painted = model.decode(cache, tiled)
    return painted.reshape(passes, count, *painted.shape[1:]).swapaxes(0, 1)


def see_pixels(
    graphdef: nnx.GraphDef[InContextModel], params: PyTree, embedding: Embedding
) -> tuple[Float[Array, "b gh gw f"], Float[Array, "b h w c"]]:
    """Return what a head reads beside what was found."""
    model = nnx.merge(graphdef, params)
    pixels = model.stem(_cast(model, embedding).image).fine.astype(jnp.float32)
    grid = embedding.grid(model.config.encoder.patch_size)
    tokens = jnp.concatenate(embedding.layers, axis=-1).reshape(len(pixels), *grid, -1)
    return tokens.astype(jnp.float32), pixels


def correct_found(
    graphdef: nnx.GraphDef[InContextModel],
    params: PyTree,
    heads: PyTree,
    embedding: Embedding,
    probabilities: Float[Array, "k h w"],
) -> Float[Array, "k h w"]:
    """Apply a prompt's heads to the probabilities found in one image."""
    tokens, pixels = see_pixels(graphdef, params, embedding)
    return correct(heads, tokens, pixels, probabilities)


def _cast(model: Painter, embedding: Embedding) -> Embedding:
    return jax.tree.map(lambda a: a.astype(model.dtype), embedding)
