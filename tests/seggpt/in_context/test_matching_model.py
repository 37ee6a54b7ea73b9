"""Matching mode's model: labels go where features are alike."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from seggpt.config import MatchingConfig
from seggpt.encoder import Embedding
from seggpt.in_context.matching_model import MatchingModel
from seggpt.in_context.model import Cache, cache_from_tree, cache_to_tree, join_caches
from seggpt.in_context.positions import DIRECTIONS
from tests.tiny_encoder import tiny_encoder

PATCH, GRID = 14, 4
SIDE = PATCH * GRID
COLOURS = jnp.zeros((1, 3, 3))  # for background and two labels


@pytest.fixture(scope="module")
def model() -> MatchingModel:
    return MatchingModel(MatchingConfig(encoder=tiny_encoder()), rngs=nnx.Rngs(0))


def drawn(seed: int) -> np.ndarray:
    """Return which of three stripes' features each token of a picture has."""
    return np.random.default_rng(seed).integers(0, 3, (GRID, GRID))


def embedded(kinds: np.ndarray, *, shift: float = 0.0) -> Embedding:
    """Return a picture whose tokens show their kind, in features and in colours."""
    basis = np.random.default_rng(0).normal(size=(3, 3, 32))
    layers = tuple(jnp.asarray(basis[i][kinds.reshape(1, -1)] + shift) for i in range(3))
    image = np.kron(kinds, np.ones((PATCH, PATCH)))[None, ..., None] - 1
    return Embedding(jnp.asarray(np.broadcast_to(image, (1, SIDE, SIDE, 3))), layers)


def labels(kinds: np.ndarray) -> jax.Array:
    return jnp.asarray(np.kron(kinds, np.ones((PATCH, PATCH), int))[None])


def shown(model: MatchingModel, seed: int) -> Cache:
    return model.encode(embedded(drawn(seed)), labels(drawn(seed)), COLOURS)


def found(painted: jax.Array) -> np.ndarray:
    """Return the label in the middle of each token."""
    half = PATCH // 2
    return np.asarray(painted)[0, half // 2 :: half, half // 2 :: half].argmax(axis=-1)


def test_what_lies_along_the_directions_of_positions_does_not_count() -> None:
    model = MatchingModel(MatchingConfig(encoder=tiny_encoder()), rngs=nnx.Rngs(0))
    axes = jnp.broadcast_to(jnp.eye(32)[:DIRECTIONS], (3, DIRECTIONS, 32))
    model.directions[...] = axes
    plain = model.encode(embedded(drawn(1)), labels(drawn(1)), COLOURS).layers[0]
    assert np.abs(plain.reshape(1, -1, 3, 32)[..., :DIRECTIONS]).max() < 1e-5
    assert np.abs(plain.reshape(1, -1, 3, 32)[..., DIRECTIONS:]).min() > 0


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_labels_go_to_tokens_that_look_alike(model: MatchingModel, shift: float) -> None:
    painted = model.decode(shown(model, 1), embedded(drawn(2), shift=shift))
    assert painted.shape == (1, SIDE // 2, SIDE // 2, 3)
    np.testing.assert_allclose(painted.sum(axis=-1), 1, atol=1e-3)
    np.testing.assert_array_equal(found(painted), drawn(2))


def test_the_order_of_examples_does_not_matter(model: MatchingModel) -> None:
    caches = [shown(model, 1), shown(model, 3)]
    query = embedded(drawn(2))
    one, other = (model.decode(join_caches(c), query) for c in (caches, caches[::-1]))
    np.testing.assert_allclose(one, other, atol=1e-4)


def test_queries_together_are_found_as_alone(model: MatchingModel) -> None:
    cache, queries = shown(model, 1), [embedded(drawn(seed)) for seed in (2, 4)]
    both = jax.tree.map(lambda *rows: jnp.concatenate(rows), *queries)
    together = model.decode(cache, both)
    for row, query in zip(together, queries, strict=True):
        np.testing.assert_allclose(row, model.decode(cache, query)[0], atol=1e-4)


def test_found_shares_are_examples_as_masks_are(model: MatchingModel) -> None:
    soft = jax.nn.one_hot(labels(drawn(1)), 3)
    hard = shown(model, 1)
    other = model.encode_soft(embedded(drawn(1)), soft, COLOURS)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), hard, other)


def test_a_cache_comes_back_from_its_tree(model: MatchingModel) -> None:
    cache = shown(model, 1)
    back = cache_from_tree(cache_to_tree(cache))
    jax.tree.map(np.testing.assert_array_equal, cache, back)
