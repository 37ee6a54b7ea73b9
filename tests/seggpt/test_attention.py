from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seggpt import attention
from seggpt.attention import (
    Grid,
    RelativePosition,
    attend,
    canvas_grid,
    example_grid,
    mutual_attention,
    prefix_attention,
    query_grid,
    self_attention,
)

B, HEADS, HD = 2, 3, 8
GH, GW = 2, 3
N = GH * GW


def heads(seed: int, n: int, b: int = B) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), (b, n, HEADS, HD))


def tables(rows: int = 2 * GH, cols: int = GW) -> RelativePosition:
    key_h, key_w = jax.random.split(jax.random.key(9))
    return RelativePosition(
        jax.random.normal(key_h, (2 * rows - 1, HD)), jax.random.normal(key_w, (2 * cols - 1, HD))
    )


def explicit_attention(q, k, v, position: RelativePosition, grid: Grid) -> np.ndarray:
    """The formula of the reference: scaled q k plus unscaled q against both tables."""
    q, k, v, table_h, table_w = (
        np.asarray(a, np.float64) for a in (q, k, v, position.height, position.width)
    )
    rows, cols = np.divmod(np.arange(grid.size), grid.width)
    rows = rows + grid.top
    logits = np.einsum("bnhd,bmhd->bhnm", q, k) / np.sqrt(HD)
    rel_h = table_h[rows[:, None] - rows[None] + grid.rows - 1]
    rel_w = table_w[cols[:, None] - cols[None] + grid.width - 1]
    logits += np.einsum("bnhd,nmd->bhnm", q, rel_h + rel_w)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("bhnm,bmhd->bnhd", weights, v)


@pytest.fixture(params=["at once", "head by head"])
def _loop(request, monkeypatch) -> None:
    """Both ways through the heads: large pictures on a CPU take the second."""
    if request.param == "head by head":
        monkeypatch.setattr(attention, "looped", partial(attention.looped, large=1))


@pytest.mark.usefixtures("_loop")
@pytest.mark.parametrize("grid", [example_grid(GH, GW), query_grid(GH, GW), canvas_grid(GH, GW)])
def test_relative_position_equals_an_explicit_bias(grid: Grid) -> None:
    q, k, v = (heads(seed, grid.size) for seed in range(3))
    got = self_attention(q, k, v, tables(), grid)
    np.testing.assert_allclose(got, explicit_attention(q, k, v, tables(), grid), atol=1e-5)


def test_without_tables_attention_is_plain() -> None:
    q, k, v = (heads(seed, N) for seed in range(3))
    zero = RelativePosition(jnp.zeros((4 * GH - 1, HD)), jnp.zeros((2 * GW - 1, HD)))
    plain = self_attention(q, k, v, RelativePosition(None, None), query_grid(GH, GW))
    with_zeros = self_attention(q, k, v, zero, query_grid(GH, GW))
    np.testing.assert_allclose(plain, with_zeros, atol=1e-6)


@pytest.mark.usefixtures("_loop")
def test_mutual_with_one_example_is_attention_over_the_canvas() -> None:
    q, k, v = (heads(seed, 2 * N) for seed in range(3))
    got = mutual_attention(q, k, v, tables(), examples=1, shape=(GH, GW))
    want = self_attention(q, k, v, tables(), canvas_grid(GH, GW))
    np.testing.assert_allclose(got, want, atol=1e-6)


@pytest.mark.usefixtures("_loop")
def test_mutual_query_is_the_mean_over_canvases() -> None:
    """The authors' feature ensemble: K canvases, query rows averaged, example rows kept."""
    k_examples = 3
    q, k, v = (heads(seed, (k_examples + 1) * N) for seed in range(3))
    got = mutual_attention(q, k, v, tables(), examples=k_examples, shape=(GH, GW))
    query_rows = []
    for i in range(k_examples):
        pick = np.r_[i * N : (i + 1) * N, k_examples * N : (k_examples + 1) * N]
        alone = mutual_attention(
            q[:, pick], k[:, pick], v[:, pick], tables(), examples=1, shape=(GH, GW)
        )
        np.testing.assert_allclose(got[:, i * N : (i + 1) * N], alone[:, :N], atol=1e-6)
        query_rows.append(alone[:, N:])
    np.testing.assert_allclose(got[:, -N:], np.mean(query_rows, axis=0), atol=1e-6)


def test_prefix_is_the_mean_of_looking_at_itself_and_at_the_examples() -> None:
    q, k, v = (heads(seed, 2 * N) for seed in range(3))
    prefix = (k[:, :N], v[:, :N])
    got = prefix_attention(q[:, N:], k[:, N:], v[:, N:], tables(), prefix=prefix, shape=(GH, GW))
    itself = self_attention(q[:, N:], k[:, N:], v[:, N:], tables(), query_grid(GH, GW))
    # Looking at the examples alone: on the canvas, with the query's own keys out of reach.
    far = jnp.concatenate([k[:, :N], jnp.full_like(k[:, N:], 0.0)], axis=1)
    hidden = jnp.concatenate([v[:, :N], jnp.zeros_like(v[:, N:])], axis=1)
    shares = jnp.concatenate([jnp.ones_like(v[:, :N]), jnp.zeros_like(v[:, N:])], axis=1)
    on_canvas = canvas_grid(GH, GW)
    seen = self_attention(q, far, hidden, tables(), on_canvas)[:, N:]
    share = self_attention(q, far, shares, tables(), on_canvas)[:, N:]
    np.testing.assert_allclose(got, 0.5 * (itself + seen / share), atol=1e-5)


@pytest.mark.usefixtures("_loop")
def test_an_example_given_twice_counts_once_in_prefix() -> None:
    q, k, v = (heads(seed, N) for seed in range(3))
    keys, values = heads(3, N), heads(4, N)
    one = prefix_attention(q, k, v, tables(), prefix=(keys, values), shape=(GH, GW))
    twice = (jnp.concatenate([keys, keys], 1), jnp.concatenate([values, values], 1))
    two = prefix_attention(q, k, v, tables(), prefix=twice, shape=(GH, GW))
    np.testing.assert_allclose(one, two, atol=1e-5)


def test_tables_of_another_grid_are_resized() -> None:
    q, k, v = (heads(seed, N) for seed in range(3))
    constant = RelativePosition(jnp.ones((31, HD)), jnp.ones((17, HD)))
    resized = RelativePosition(jnp.ones((4 * GH - 1, HD)), jnp.ones((2 * GW - 1, HD)))
    got = self_attention(q, k, v, constant, query_grid(GH, GW))
    want = self_attention(q, k, v, resized, query_grid(GH, GW))
    np.testing.assert_allclose(got, want, atol=1e-6)


@pytest.mark.usefixtures("_loop")
def test_tokens_that_do_not_divide_are_padded(monkeypatch) -> None:
    q, k, v = (heads(seed, 7) for seed in range(3))
    want = attend(q, k, v)
    monkeypatch.setattr(attention, "CACHED", 20)
    assert attention._padded_parts(7, 7) == 3
    assert attention._padded_parts(8, 7) == 4
    np.testing.assert_allclose(attend(q, k, v), want, atol=1e-6)
