"""Who sees whom: attention over K example grids and one query grid, with relative position.

Positions are those of a canvas on which every example lies right above the query; nothing is
copied to make it. The relative-position bias is folded into the dot product: a query carries its
bias for every row and column, a key a one-hot row and column, so that a plain attention gives
exactly `q k / sqrt(d) + rel_h + rel_w` without a bias tensor.
"""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from seggpt.canvas import linear_resize

Heads = Float[Array, "b n heads hd"]
# Of (b, m, heads, features); m, heads and features differ from block to block.
KeysValues = tuple[Float[Array, "b _ _ _"], Float[Array, "b _ _ _"]]


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


def canvas_grid(height: int, width: int) -> Grid:
    """Return a whole canvas: an example above the query."""
    return Grid(0, 2 * height, width, 2 * height)


@dataclass(frozen=True)
class RelativePosition:
    """A block's two tables of relative position, over a canvas; None stands for no bias."""

    height: Float[Array, "lh hd"] | None
    width: Float[Array, "lw hd"] | None

    def fold_query(self, q: Heads, grid: Grid) -> Float[Array, "b n heads hf"]:
        """Scale queries that lie on `grid` and append their bias for each row and column."""
        scaled = q * (1.0 / math.sqrt(q.shape[-1]))
        if self.height is None or self.width is None:
            return scaled
        table_h = _offsets(self.height, grid.rows, grid.rows)[grid.top : grid.top + grid.height]
        table_w = _offsets(self.width, grid.width, grid.width)
        lattice = q.reshape(q.shape[0], grid.height, grid.width, *q.shape[2:])
        bias_h = jnp.einsum("bhwnd,hkd->bhwnk", lattice, table_h.astype(q.dtype))
        bias_w = jnp.einsum("bhwnd,wkd->bhwnk", lattice, table_w.astype(q.dtype))
        bias = jnp.concatenate([bias_h, bias_w], axis=-1)
        return jnp.concatenate([scaled, bias.reshape(*q.shape[:3], -1)], axis=-1)

    def fold_key(self, k: Heads, grid: Grid) -> Float[Array, "b n heads hf"]:
        """Append to keys that lie on `grid` their row and column as one-hot vectors."""
        if self.height is None:
            return k
        rows = np.repeat(np.eye(grid.rows)[grid.top : grid.top + grid.height], grid.width, axis=0)
        cols = np.tile(np.eye(grid.width), (grid.height, 1))
        places = jnp.asarray(np.concatenate([rows, cols], axis=1), k.dtype)[None, :, None]
        return jnp.concatenate([k, jnp.broadcast_to(places, (*k.shape[:3], places.shape[-1]))], -1)


def _offsets(
    table: Float[Array, "length hd"], queries: int, keys: int
) -> Float[Array, "queries keys hd"]:
    """Look a relative table up for every query and key; resize it first if it is for others."""
    table = linear_resize(table, queries + keys - 1)
    return table[np.arange(queries)[:, None] - np.arange(keys)[None, :] + keys - 1]


def attend(
    q: Float[Array, "b n heads hf"],
    k: Float[Array, "b m heads hf"],
    v: Float[Array, "b m heads hv"],
) -> Float[Array, "b n heads hv"]:
    """Attend with scaled, folded queries; the softmax is taken in float32."""
    # Batch axes first: XLA's CPU backend is four times slower on the other order.
    q, k, v = (a.transpose(0, 2, 1, 3) for a in (q, k, v))
    logits = jnp.matmul(q, k.swapaxes(-1, -2), preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
    return jnp.matmul(weights, v).transpose(0, 2, 1, 3)


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
    return attend(position.fold_query(q, grid), position.fold_key(k, grid), v)


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

    def canvases(heads: Heads) -> Float[Array, "be n2 heads hd"]:
        parts = heads.reshape(heads.shape[0], examples + 1, n, *heads.shape[2:])
        query = jnp.broadcast_to(parts[:, -1:], parts[:, :-1].shape)
        stitched = jnp.concatenate([parts[:, :-1], query], axis=2)
        return stitched.reshape(-1, 2 * n, *heads.shape[2:])

    out = self_attention(canvases(q), canvases(k), canvases(v), position, canvas_grid(*shape))
    out = out.reshape(q.shape[0], examples, 2, n, *q.shape[2:])
    query = out[:, :, 1].mean(axis=1, keepdims=True)
    return jnp.concatenate([out[:, :, 0], query], axis=1).reshape(q.shape)


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
    folded = position.fold_query(q, query)
    examples = keys.reshape(-1, example.size, *keys.shape[2:])
    example_keys = position.fold_key(examples, example).reshape(*keys.shape[:3], -1)
    itself = attend(folded, position.fold_key(k, query), v)
    return 0.5 * (itself + attend(folded, example_keys, values))
