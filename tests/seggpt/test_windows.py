"""Attention in windows, against the formula with the padding spelled out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seggpt.attention import RelativePosition
from seggpt.windows import picture_attention, window_attention

B, HEADS, HD = 2, 2, 4


def noise(seed: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


def tables(rows: int, cols: int) -> RelativePosition:
    return RelativePosition(noise(8, 2 * rows - 1, HD), noise(9, 2 * cols - 1, HD))


def explicit(q, k, v, position):
    """One window's attention, a query at a time, the bias from the unscaled query."""
    side = q.shape[0]
    table_h, table_w = np.asarray(position.height), np.asarray(position.width)
    out = np.zeros_like(q)
    for y in range(side):
        for x in range(side):
            for head in range(HEADS):
                query = q[y, x, head]
                logits = np.einsum("d,yxd->yx", query, k[:, :, head]) / np.sqrt(HD)
                logits += (table_h[y - np.arange(side) + side - 1] @ query)[:, None]
                logits += (table_w[x - np.arange(side) + side - 1] @ query)[None]
                weights = np.exp(logits - logits.max())
                weights /= weights.sum()
                out[y, x, head] = np.einsum("yx,yxd->d", weights, v[:, :, head])
    return out


@pytest.mark.parametrize("shape", [(4, 4), (5, 3)])
def test_windows_see_themselves_and_their_padding(shape):
    window, n = 2, shape[0] * shape[1]
    q, k, v = (noise(seed, B, n, HEADS, HD) for seed in range(3))
    padding = noise(3, 3, HEADS, HD)
    position = tables(window, window)
    found = window_attention(q, k, v, position, shape=shape, window=window, padding=padding)
    found = np.asarray(found).reshape(B, *shape, HEADS, HD)
    gh, gw = (-(-side // window) * window for side in shape)
    padded = []
    for heads, fill in zip((q, k, v), np.asarray(padding), strict=True):
        whole = np.broadcast_to(fill, (B, gh, gw, HEADS, HD)).copy()
        whole[:, : shape[0], : shape[1]] = np.asarray(heads).reshape(B, *shape, HEADS, HD)
        padded.append(whole)
    for b in range(B):
        for y in range(0, gh, window):
            for x in range(0, gw, window):
                part = (b, slice(y, y + window), slice(x, x + window))
                want = explicit(padded[0][part], padded[1][part], padded[2][part], position)
                seen = found[part]
                np.testing.assert_allclose(seen, want[: seen.shape[0], : seen.shape[1]], atol=1e-5)


def test_one_window_over_everything_is_plain_attention():
    q, k, v = (noise(seed, B, 9, HEADS, HD) for seed in range(3))
    position, padding = tables(3, 3), jnp.zeros((3, HEADS, HD))
    windows = window_attention(q, k, v, position, shape=(3, 3), window=3, padding=padding)
    plain = picture_attention(q, k, v, position, shape=(3, 3))
    np.testing.assert_allclose(windows, plain, atol=1e-6)
