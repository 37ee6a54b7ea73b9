import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seggpt.in_context.matching import (
    LEAST_RARITY,
    LEAST_SHARE,
    cell_colours,
    label_fractions,
    match,
    pixel_statistics,
    pool,
    rarity,
)
from seggpt.layers import place_waves, unit


def draw(*shapes):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]


@pytest.fixture(scope="module")
def asked():
    """Return queries, keys, values and weights."""
    return draw((2, 12, 5), (2, 7, 5), (2, 7, 3), (2, 7))


# --- match


@pytest.mark.parametrize("limit", [1, 20, 12 * 7 - 1])
def test_matching_in_parts_is_matching_at_once(asked, limit):
    whole = match(*asked)
    np.testing.assert_allclose(match(*asked, limit=limit), whole, rtol=1e-5, atol=1e-6)


def test_a_match_is_a_mean_of_values_by_softmax(asked):
    q, k, values, weights = (np.asarray(a, np.float64) for a in asked)
    shares = np.exp(q @ k.swapaxes(1, 2) + weights[:, None])
    shares /= shares.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(match(*asked), shares @ values, rtol=1e-4, atol=1e-5)


def test_the_order_of_keys_does_not_matter(asked):
    q, *of_keys = asked
    shuffled = [a[:, ::-1] for a in of_keys]
    np.testing.assert_allclose(match(q, *shuffled), match(*asked), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_a_key_counts_by_its_labels_rarity(balance):
    # Keys that all look alike, 1 of 8 of label 1: only what they count tells them apart.
    fractions = jax.nn.one_hot(jnp.asarray([[0] * 7 + [1]]), 2)
    rare = balance * jnp.log(rarity(fractions, fractions.mean(axis=1)))
    [[found]] = match(jnp.zeros((1, 1, 4)), jnp.zeros((1, 8, 4)), fractions, rare)
    assert found[1] / (found[0] / 7) == pytest.approx(7**balance, rel=1e-5)


# --- rarity


def test_rarity_is_the_mean_of_inverse_shares():
    fractions = jnp.asarray([[[1.0, 0.0], [0.5, 0.5], [0.0, 0.25]]])
    found = rarity(fractions, jnp.asarray([[0.8, 0.1]]))
    np.testing.assert_allclose(found, [[1.25, 0.5 * 1.25 + 0.5 * 10, 2.5]], rtol=1e-6)


def test_rarity_has_limits():
    fractions = jnp.asarray([[[1.0, 0.0], [0.0, 0.0]]])  # the second key shows ignored pixels
    found = rarity(fractions, jnp.asarray([[LEAST_SHARE / 10, 1.0]]))
    np.testing.assert_allclose(found, [[1 / LEAST_SHARE, LEAST_RARITY]], rtol=1e-6)


def test_shares_of_labels_are_counts_of_pixels():
    class_ids = np.random.default_rng(0).integers(0, 4, (2, 6, 8))
    found = label_fractions(jnp.asarray(class_ids), 3, (2, 4))
    assert found.shape == (2, 2, 4, 4)
    np.testing.assert_allclose(found.sum(axis=-1), 1, rtol=1e-6)
    own = class_ids[1, 3:6, 2:4]
    np.testing.assert_allclose(found[1, 1, 1], [(own == class_id).mean() for class_id in range(4)])


def test_ignored_pixels_are_of_no_label():
    class_ids = np.zeros((1, 4, 4), np.int32)
    class_ids[:, :, :2] = 255
    class_ids[:, 0, 2] = 1
    found = label_fractions(jnp.asarray(class_ids), 1, (1, 2))
    np.testing.assert_allclose(found, [[[[0, 0], [7 / 8, 1 / 8]]]], atol=1e-6)


# --- pool


def test_cells_that_divide_an_image_are_averaged():
    [image] = draw((2, 6, 8, 3))
    wanted = np.asarray(image).reshape(2, 3, 2, 2, 4, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(pool(image, (3, 2)), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("grid", [(3, 2), (4, 5), (7, 8), (9, 3), (10, 20)])
def test_other_cells_overlap(grid):
    [image] = draw((2, 7, 8, 3))
    found = pool(image, grid)
    assert found.shape == (2, *grid, 3)
    edges = [
        [(i * length // cells, -(-(i + 1) * length // cells)) for i in range(cells)]
        for length, cells in zip((7, 8), grid, strict=True)
    ]
    for y, (top, bottom) in enumerate(edges[0]):
        for x, (left, right) in enumerate(edges[1]):
            wanted = image[:, top:bottom, left:right].mean(axis=(1, 2))
            np.testing.assert_allclose(found[:, y, x], wanted, rtol=1e-5, atol=1e-6)


def test_colours_of_cells_stand_row_by_row():
    [image] = draw((1, 8, 12, 3))
    found = cell_colours(image, (2, 3))
    assert found.shape == (1, 6, 12)
    cells = pool(image, (4, 6))[0]
    np.testing.assert_allclose(found[0, 4], cells[2:4, 2:4].reshape(12), rtol=1e-6)


def test_statistics_are_mean_and_deviation():
    [image] = draw((1, 8, 12, 3))
    found = pixel_statistics(image, (2, 3))[0, 4]
    own = np.asarray(image)[0, 4:8, 4:8].reshape(16, 3)
    np.testing.assert_allclose(found[:3], own.mean(axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[3:], own.std(axis=0), rtol=1e-3)
    flat = pixel_statistics(jnp.full((1, 4, 4, 3), 0.3), (1, 1))
    np.testing.assert_allclose(flat[0, 0, 3:], 0.01, rtol=1e-2)  # not 0, where it has no slope


# --- the rest


def test_unit_vectors_are_of_length_1_and_zero_stays():
    [feats] = draw((3, 5))
    found = unit(jnp.concatenate([feats, jnp.zeros((1, 5))]).astype(jnp.bfloat16))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(jnp.square(found).sum(-1), [1, 1, 1, 0], rtol=1e-5)


def test_places_differ_and_grids_agree_on_them():
    waves = place_waves((2, 3), 16)
    assert waves.shape == (6, 16)
    assert len(np.unique(waves.round(3), axis=0)) == 6
    # The middle of a picture is the same place in every grid that has a token there.
    np.testing.assert_allclose(place_waves((3, 5), 16)[7], place_waves((1, 1), 16)[0], atol=1e-6)
