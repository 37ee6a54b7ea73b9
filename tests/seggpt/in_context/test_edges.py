"""Edges from the pixels."""

import jax.numpy as jnp
import numpy as np

from seggpt.in_context.edges import follow_edges


def shares(seed: int = 0) -> np.ndarray:
    found = np.random.default_rng(seed).random((1, 8, 8, 3)).astype(np.float32)
    return found / found.sum(axis=-1, keepdims=True)


def noise(seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (1, 64, 48, 3)).astype(np.float32)


def test_shares_still_sum_to_one_at_half_the_resolution():
    found = np.asarray(follow_edges(jnp.asarray(shares()), jnp.asarray(noise())))
    assert found.shape == (1, 32, 24, 3)
    np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-4)


def test_what_is_the_same_everywhere_stays_so():
    even = np.full((1, 8, 8, 2), 0.5, np.float32)
    found = follow_edges(jnp.asarray(even), jnp.asarray(noise()))
    np.testing.assert_allclose(np.asarray(found), 0.5, atol=1e-4)


def test_a_blurred_border_moves_to_the_edge_in_the_picture():
    image = np.full((1, 64, 64, 3), -0.5, np.float32)
    image[:, :, 34:] = 0.5  # the coarse grid's nearest border is at 32
    coarse = np.zeros((1, 8, 8, 1), np.float32)
    coarse[:, :, 4:] = 1
    found = np.asarray(follow_edges(jnp.asarray(coarse), jnp.asarray(image)))[0, 16, :, 0]
    assert found[15] < found[16] < 0.5 < found[17] < found[18]
