import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seggpt.softmax import dot_products, softmax_mean


def draw(*shape: int, dtype=jnp.float32) -> list[jax.Array]:
    keys = jax.random.split(jax.random.key(0), 3)
    n, m, d = shape
    drawn = [jax.random.normal(k, s) for k, s in zip(keys, ((n, d), (m, d), (m, 5)), strict=True)]
    return [a.astype(dtype) for a in drawn]


def attention(q, k, v):
    return softmax_mean(dot_products(q, k), v)


def plain(q, k, v):
    return jax.nn.softmax(q @ k.T, axis=-1) @ v


@pytest.mark.parametrize("batched", [False, True])
def test_values_and_gradients_are_those_of_the_formula(batched: bool) -> None:
    q, k, v = draw(7, 11, 4)
    grads = jax.random.normal(jax.random.key(1), (7, 5))
    given, run, expected = (q, k, v), attention, plain
    if batched:
        given = tuple(jnp.stack([a, 2 * a, -a]) for a in given)
        grads = jnp.stack([grads, grads + 1, -grads])
        run, expected = jax.vmap(attention), jax.vmap(plain)
    got, back = jax.vjp(run, *given)
    want, want_back = jax.vjp(expected, *given)
    np.testing.assert_allclose(got, want, atol=1e-6)
    for a, b in zip(back(grads), want_back(grads), strict=True):
        np.testing.assert_allclose(a, b, atol=3e-6)


def test_a_large_logit_does_not_overflow() -> None:
    logits = jnp.asarray([[1e4, 0.0], [-1e4, -1e4]])
    got, back = jax.vjp(softmax_mean, logits, jnp.asarray([[1.0], [3.0]]))
    np.testing.assert_allclose(got, [[1.0], [2.0]])
    assert all(np.isfinite(a).all() for a in back(jnp.ones((2, 1))))


def test_16_bits_keep_their_type_and_are_summed_in_32() -> None:
    q, k, v = draw(6, 3000, 8, dtype=jnp.bfloat16)
    got, back = jax.vjp(attention, q, k, v)
    want = plain(*(a.astype(jnp.float32) for a in (q, k, v)))
    assert got.dtype == jnp.bfloat16
    np.testing.assert_allclose(got.astype(jnp.float32), want, atol=0.02)
    assert [a.dtype for a in back(got)] == [jnp.bfloat16] * 3
