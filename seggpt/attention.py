"""Attention masks of SegGPT: example grids and a query grid, with relative position.

Positions are those of a canvas on which every example lies right above the query; nothing is
copied to make it. The relative-position bias is never made whole: a query carries its bias for
every row and every column of keys, and their sum is taken where the softmax is.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from seggpt.resize import linear_resize
from seggpt.softmax import dot_products, softmax_mean

Heads = Float[Array, "b n heads hd"]
# Of (b, m, heads, features); m, heads and features differ from block to block.
KeysValues = tuple[Float[Array, "b _ _ _"], Float[Array, "b _ _ _"]]
# Of (b, heads, n, rows) and (b, heads, n, columns); () stands for no bias.
Bias = tuple[Float[Array, "b heads n _"], ...]
Loop = Callable[[Callable[..., Any], Any], Any]  # a function over the first axis of a pytree

LARGE = 1 << 20  # logits of a head; from here on one head at a time takes half as long on a CPU
CACHED = 1 << 21  # logits that a CPU's cache holds while a softmax goes over them


@dataclass(frozen=True)
class Grid:
    """A rectangle of patches: rows `top` to `top + height` of a canvas of `rows` x `width`."""

    top: int
    height: int
    width: int
    rows: int

    @property
    def size(self) -> int:
        """Number of patches."""
        return self.height * self.width


def example_grid(height: int, width: int) -> Grid:
    """Return the upper half of a canvas, where examples lie."""
    return Grid(0, height, width, 2 * height)


def query_grid(height: int, width: int) -> Grid:
    """Return the lower half of a canvas, where the query lies."""
    return Grid(height, height, width, 2 * height)


def picture_grid(height: int, width: int) -> Grid:
    """Return a picture by itself, or one window of it."""
    return Grid(0, height, width, height)


def canvas_grid(height: int, width: int) -> Grid:
    """Return a whole canvas: an example above the query."""
    return Grid(0, 2 * height, width, 2 * height)


@dataclass(frozen=True)
class RelativePosition:
    """A block's two tables of relative position, over a canvas; None stands for no bias."""

    height: Float[Array, "lh hd"] | None
    width: Float[Array, "lw hd"] | None

    def bias(self, q: Heads, queries: Grid, keys: Grid) -> Bias:
        """Return what queries on a grid add to their logits for each row and column of keys."""
        if self.height is None or self.width is None:
            return ()
        rows = _offsets(self.height, queries.rows, keys.rows)
        rows = rows[queries.top : queries.top + queries.height, keys.top : keys.top + keys.height]
        cols = _offsets(self.width, queries.width, keys.width)
        lattice = q.reshape(q.shape[0], queries.height, queries.width, *q.shape[2:])
        lattice = lattice.transpose(0, 3, 1, 2, 4)
        row = jnp.einsum("bnhwd,hkd->bnhwk", lattice, rows.astype(q.dtype))
        col = jnp.einsum("bnhwd,wkd->bnhwk", lattice, cols.astype(q.dtype))
        return tuple(a.reshape(*a.shape[:2], queries.size, a.shape[-1]) for a in (row, col))


def _offsets(
    table: Float[Array, "length hd"], queries: int, keys: int
) -> Float[Array, "queries keys hd"]:
    """Look a relative table up for every query and key; resize it first if it is for others."""
    table = linear_resize(table, queries + keys - 1)
    return table[np.arange(queries)[:, None] - np.arange(keys)[None, :] + keys - 1]


def attend(
    q: Heads,
    k: Float[Array, "b m heads hd"],
    v: Float[Array, "b m heads hv"],
    bias: Bias = (),
) -> Float[Array, "b n heads hv"]:
    """Let queries see keys that lie on one or more of the grids that the bias is for."""
    first = (*map(_heads_first, (q, k, v)), *bias)

    def run(loop: Loop, heads: tuple[Array, ...]) -> Array:
        parts = _padded_parts(q.shape[1], k.shape[1]) if loop is jax.lax.map else 1
        padding = -q.shape[1] % parts

        def head(head: tuple[Array, ...]) -> Array:
            """Attend with one head, some queries at a time where the loop is one."""
            q, k, v, *bias = head
            rows = [jnp.pad(a, ((0, padding), (0, 0))) if padding else a for a in (q, *bias)]
            some = tuple(a.reshape(parts, -1, a.shape[-1]) for a in rows)
            attended = loop(lambda part: _attend(part[0], k, v, *part[1:]), some)
            return attended.reshape(-1, v.shape[-1])[: len(q)]

        return loop(head, heads)

    heads = tuple(a.reshape(-1, *a.shape[2:]) for a in first)
    attended = looped(run, q.shape[1] * k.shape[1], heads)
    return _heads_first(attended.reshape(*first[0].shape[:-1], v.shape[-1]))


def count_parts(queries: int, keys: int, *, limit: int = CACHED) -> int:
    """Return the least number of equal parts of the queries that have at most `limit` logits.

    Where even a single query has more, each is a part.
    """
    fits = (n for n in range(1, queries) if queries % n == 0 and queries // n * keys <= limit)
    return next(fits, queries)


def _padded_parts(queries: int, keys: int) -> int:
    """Return a number of parts of the queries, which need padding where equal ones are too small.

    4101 tokens, of 1024 pixels under DINOv3, only divide into 1367 parts of 3, or 3 too large ones;
    nine with three rows of padding take half as long.
    """
    least = -(-queries * keys // CACHED)
    equal = count_parts(queries, keys, limit=CACHED)
    return equal if equal <= 2 * least else least


def _attend(
    q: Float[Array, "n hd"],
    k: Float[Array, "m hd"],
    v: Float[Array, "m hv"],
    *bias: Float[Array, "n _"],
) -> Float[Array, "n hv"]:
    """Attend with one head; the softmax is taken in float32."""
    logits = dot_products(q * (1.0 / math.sqrt(q.shape[-1])), k)
    if bias:
        row, col = bias
        lattice = logits.reshape(len(q), -1, row.shape[1], col.shape[1])
        logits = (lattice + row[:, None, :, None] + col[:, None, None, :]).reshape(logits.shape)
    return softmax_mean(logits, v)


def looped(
    run: Callable[[Loop, Any], Array], logits: int, items: Any, *, large: int = LARGE
) -> Array:
    """Run over items at once, or one by one where a CPU's cache holds the logits of few.

    `logits` are those of one item.
    """
    at_once = partial(run, lambda function, items: jax.vmap(function)(items))
    if logits < large:
        return at_once(items)
    return jax.lax.platform_dependent(items, cpu=partial(run, jax.lax.map), default=at_once)


def _heads_first(a: Float[Array, "b n heads d"]) -> Float[Array, "b heads n d"]:
    """Swap tokens and heads: XLA's CPU backend is four times slower with tokens first."""
    return a.transpose(0, 2, 1, 3)


def images_look(
    q: Heads, k: Heads, v: Heads
) -> tuple[
    Float[Array, "half n heads hd"],
    Float[Array, "half n heads hd"],
    Float[Array, "half n heads two_hd"],
]:
    """Let the image stream (the first half of the rows) decide where both streams read."""
    half = len(q) // 2
    return q[:half], k[:half], jnp.concatenate([v[:half], v[half:]], axis=-1)


def both_streams(attended: Float[Array, "half n heads two_hd"]) -> Heads:
    """Undo what `images_look` did to the values: the image stream's rows, then the target's."""
    return jnp.concatenate(jnp.split(attended, 2, axis=-1), axis=0)


def self_attention(
    q: Heads,
    k: Heads,
    v: Float[Array, "b n heads hv"],
    position: RelativePosition,
    grid: Grid,
) -> Float[Array, "b n heads hv"]:
    """Let every token of one grid see every other."""
    return attend(q, k, v, position.bias(q, grid, grid))


def mutual_attention(
    q: Heads,
    k: Heads,
    v: Heads,
    position: RelativePosition,
    *,
    examples: int,
    shape: tuple[int, int],
) -> Heads:
    """Attend on K canvases that share one query; its rows are the mean over the canvases.

    Tokens are the K examples' grids and then the query's. One example gives the published plain
    forward; several give the authors' feature ensemble (models_seggpt.py, `Block.forward`).
    """
    n = shape[0] * shape[1]

    def parts(tokens: slice, grid: Grid) -> tuple[Array, ...]:
        """Return queries, keys, values and bias of some grids as (b heads, grids, n, features)."""
        heads = [a[:, tokens].reshape(-1, n, *a.shape[2:]) for a in (q, k, v)]
        bias = position.bias(heads[0], grid, canvas_grid(*shape))
        first = [a.reshape(len(q), -1, *a.shape[1:]) for a in (*map(_heads_first, heads), *bias)]
        return tuple(a.swapaxes(1, 2).reshape(-1, a.shape[1], *a.shape[3:]) for a in first)

    def run(loop: Loop, grids: Any) -> Array:
        def head(grids: Any) -> Array:
            """Attend with one head on every canvas."""
            examples, query = grids

            def canvas(example: tuple[Array, ...]) -> list[Array]:
                pairs = zip(example, query, strict=True)
                return jnp.split(_attend(*(jnp.concatenate([a, b[0]]) for a, b in pairs)), 2)

            examples, queries = loop(canvas, examples)
            return jnp.concatenate([examples, queries.mean(axis=0, keepdims=True)])

        return loop(head, grids)

    split = examples * n
    above = parts(slice(None, split), example_grid(*shape))
    below = parts(slice(split, None), query_grid(*shape))
    out = looped(run, 4 * n * n, (above, below))
    return _heads_first(out.reshape(q.shape[0], q.shape[2], -1, q.shape[3]))


def prefix_attention(
    q: Heads,
    k: Heads,
    v: Float[Array, "b n heads hv"],
    position: RelativePosition,
    *,
    prefix: tuple[Float[Array, "b m heads hd"], Float[Array, "b m heads hv"]],
    shape: tuple[int, int],
) -> Float[Array, "b n heads hv"]:
    """Let a query see itself and the cached keys and values of any number of examples.

    It looks at both with a softmax of its own and takes the mean, so that what it finds in the
    examples never drowns in itself, and an example given twice counts once.
    """
    keys, values = prefix
    query, example = query_grid(*shape), example_grid(*shape)
    itself = attend(q, k, v, position.bias(q, query, query))
    return 0.5 * (itself + attend(q, keys, values, position.bias(q, query, example)))
