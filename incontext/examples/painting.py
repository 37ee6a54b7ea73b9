"""The compiled programs of SegGPT: encode examples, paint queries."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, Int32

from incontext.examples.contents import Encoded, Pixels, Tokens
from seggpt.model import SegGPT
from seggpt.palette import paint, palette


def paint_passes(
    maps: Int32[np.ndarray, "n h w"], passes: Sequence[Sequence[int]]
) -> Float[Array, "p n h w 3"]:
    """Paint label maps in every pass, which takes the labels of the others for background."""
    colors = palette(max(len(part) for part in passes))
    class_ids = np.stack(
        [
            sum((maps == label) * class_id for class_id, label in enumerate(part, 1))
            for part in passes
        ]
    )
    return paint(jnp.asarray(class_ids), jnp.asarray(colors))


def encode_examples(
    graphdef: nnx.GraphDef[SegGPT],
    params: Any,
    examples: Float[Array, "p e h w 3"],
    targets: Float[Array, "p e h w 3"],
    kind: Int[Array, ""] | int,
) -> Encoded | Pixels:
    """Return what a context keeps: cached keys and values, or the examples as they are."""
    model = nnx.merge(graphdef, params)
    dtype = model.mask_token[...].dtype
    examples, targets = examples.astype(dtype), targets.astype(dtype)
    if model.config.attention == "mutual":
        return Pixels(examples, targets)
    return Encoded(model.encode(examples, targets, kind=jnp.full(len(examples), kind)))


def paint_queries(
    graphdef: nnx.GraphDef[SegGPT],
    params: Any,
    arrays: Encoded | Pixels | Tokens,
    queries: Float[Array, "b h w 3"],
    kind: Int[Array, ""] | int,
    *,
    passes: int,
) -> Float[Array, "bp h w 3"]:
    """Paint every query in every pass; rows are queries, then passes."""
    model = nnx.merge(graphdef, params)
    b = len(queries)
    kinds = jnp.full(b * passes, kind)
    queries = jnp.repeat(queries.astype(model.mask_token[...].dtype), passes, axis=0)

    def spread(a: Array) -> Array:
        """Give each query all passes."""
        return jnp.broadcast_to(a, (b, *a.shape)).reshape(-1, *a.shape[1:])

    arrays = jax.tree.map(spread, arrays)
    return paint_by(model, arrays, queries, kind=kinds).astype(jnp.float32)


def paint_by(
    model: SegGPT,
    arrays: Encoded | Pixels | Tokens,
    queries: Float[Array, "b h w 3"],
    *,
    kind: Int[Array, " b"],
    remat: bool = False,
) -> Float[Array, "b h w 3"]:
    """Paint each query by what its own row of a context holds."""
    if isinstance(arrays, Encoded):
        return model.decode(arrays.blocks, queries, kind=kind, remat=remat)
    if isinstance(arrays, Pixels):
        return model(arrays.images, arrays.targets, queries, kind=kind, remat=remat)
    tokens = jnp.concatenate([arrays.images, arrays.targets])
    n = model.config.grid**2
    examples = arrays.images.shape[1] // n
    blank = jnp.zeros((len(queries), examples, *queries.shape[1:]), queries.dtype)
    images = jnp.concatenate([blank, queries[:, None]], axis=1)
    masks = jnp.zeros((len(queries), examples + 1, n), bool).at[:, -1].set(True)
    return model.paint(
        images,
        jnp.zeros_like(images),
        masks,
        kind=kind,
        output="query",
        prompt=tokens,
        remat=remat,
    )
