"""Masks of patches for training: blocks with an exact count, or the query's half."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool


def block_mask(
    key: Array, shape: tuple[int, int], *, count: int, blocks: int = 16
) -> Bool[Array, "h w"]:
    """Mask exactly `count` patches in random rectangles.

    Rectangles fill up in order until the count is reached; if they do not reach it, single
    patches make up the rest. Sizes follow BEiT's generator as Painter uses it: areas of 1 % to
    25 % of the grid, aspects from 0.3 to 1 / 0.3, log-uniform (Painter/util/masking_generator.py).
    """
    h, w = shape
    key_area, key_aspect, key_top, key_left, key_order = jax.random.split(key, 5)
    area = jax.random.uniform(key_area, (blocks,), minval=0.01, maxval=0.25) * h * w
    bound = jnp.log(1 / 0.3)
    aspect = jnp.exp(jax.random.uniform(key_aspect, (blocks,), minval=-bound, maxval=bound))
    height = jnp.clip(jnp.round(jnp.sqrt(area * aspect)), 1, h)
    width = jnp.clip(jnp.round(jnp.sqrt(area / aspect)), 1, w)
    top = jnp.floor(jax.random.uniform(key_top, (blocks,)) * (h - height + 1))
    left = jnp.floor(jax.random.uniform(key_left, (blocks,)) * (w - width + 1))
    rows, cols = jnp.arange(h)[None, :], jnp.arange(w)[None, :]
    in_rows = (rows >= top[:, None]) & (rows < (top + height)[:, None])
    in_cols = (cols >= left[:, None]) & (cols < (left + width)[:, None])
    covers = in_rows[:, :, None] & in_cols[:, None, :]
    first = jnp.where(covers, jnp.arange(blocks)[:, None, None], blocks).min(axis=0)
    order = first + jax.random.uniform(key_order, shape)
    ranks = jnp.argsort(jnp.argsort(order.reshape(-1)))
    return (ranks < count).reshape(shape)


def half_mask(shape: tuple[int, int]) -> Bool[Array, "h w"]:
    """Mask the lower half of a canvas of `shape`: all of the query, nothing of the example."""
    return jnp.broadcast_to(jnp.arange(shape[0])[:, None] >= shape[0] // 2, shape)
