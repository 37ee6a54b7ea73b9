"""What an in-context model promises before any training; features are random numbers."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from seggpt.encoder import Embedding, normalize_tokens
from seggpt.in_context.model import InContextModel, join_caches, thin_cache
from tests.jitting import jitted
from tests.tiny_encoder import tiny_in_context

PATCH = 14
CONFIG = tiny_in_context()
COLOURS = np.array([[-1, -1, -1], [0.9, 1, 1], [0.9, -0.8, -0.7]], np.float32)


def assert_close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)


@pytest.fixture(scope="module")
def model():
    """Return a model whose every layer says something."""
    model = InContextModel(CONFIG, rngs=nnx.Rngs(0))
    rng = np.random.default_rng(0)
    for parts in (model.mask_token, model.example_token):
        parts[...] = jnp.asarray(rng.normal(size=CONFIG.width), jnp.float32)
    return model


@pytest.fixture(scope="module")
def encode(model):
    return jitted(model.encode)


@pytest.fixture(scope="module")
def decode(model):
    return jitted(model.decode)


def embed(count, grid, *, seed=0):
    """Return images of noise, and features that tell every token from all others."""
    rng = np.random.default_rng(seed)
    image = rng.uniform(-1, 1, (count, grid[0] * PATCH, grid[1] * PATCH, 3))
    shape = (count, grid[0] * grid[1], CONFIG.encoder.width)
    layers = (normalize_tokens(jnp.asarray(rng.normal(size=shape))) for _ in CONFIG.encoder.taps)
    return Embedding(jnp.asarray(image, jnp.float32), tuple(layers))


def blobs(count, grid, *, seed=0):
    """Return class_ids of two labels and some ignored pixels, each a rectangle of tokens."""
    rng = np.random.default_rng(seed)
    class_ids = np.zeros((count, *grid), np.int32)
    for number in range(count):
        y, x, top, left = rng.integers(0, (*grid, *grid)).tolist()
        class_ids[number, y, x] = 2
        class_ids[number, top : top + 2, left : left + 2] = 1
    class_ids = class_ids.repeat(PATCH, axis=1).repeat(PATCH, axis=2)
    class_ids[:, :3, :3] = 255
    return jnp.asarray(class_ids)


def colours(count):
    return jnp.broadcast_to(jnp.asarray(COLOURS), (count, 3, 3))


def take(embedding, *rows):
    return jax.tree.map(lambda a: a[jnp.asarray(rows)], embedding)


def together(cache):
    """Return what examples of one size were encoded to as one row's examples."""
    return jax.tree.map(lambda a: a.reshape(1, -1, *a.shape[2:]), cache)


@pytest.fixture(scope="module")
def examples():
    return embed(2, (3, 4), seed=1), blobs(2, (3, 4), seed=1)


@pytest.fixture(scope="module")
def cache(encode, examples):
    """Return one row with two examples."""
    return together(encode(*examples, colours(2)))


@pytest.fixture(scope="module")
def query():
    return embed(1, (3, 4), seed=2)


# --- examples


def test_examples_that_were_encoded_apart_paint_the_same(encode, decode, examples, cache, query):
    features, class_ids = examples
    apart = [encode(take(features, i), class_ids[i : i + 1], colours(1)) for i in range(2)]
    joined = join_caches(apart)
    assert jax.tree.map(jnp.shape, joined) == jax.tree.map(jnp.shape, cache)
    assert_close(decode(joined, query), decode(cache, query))


def test_the_order_of_examples_does_not_matter(encode, decode, query):
    # Of different sizes, too.
    sizes = [(3, 4), (2, 3)]
    parts = [
        encode(embed(1, size, seed=i), blobs(1, size, seed=i), colours(1))
        for i, size in enumerate(sizes)
    ]
    painted = [decode(join_caches(order), query) for order in (parts, parts[::-1])]
    assert painted[0].shape == (1, 3 * PATCH, 4 * PATCH, 3)
    assert_close(*painted)
    assert np.abs(painted[0] - decode(parts[0], query)).max() > 0.01


def test_an_example_given_twice_counts_once(encode, decode, examples, query):
    features, class_ids = examples
    once = encode(take(features, 0), class_ids[:1], colours(1))
    twice = join_caches([once, once])
    assert_close(decode(twice, query), decode(once, query))


# --- queries


def test_queries_in_a_batch_are_painted_as_alone(decode, encode, examples, query):
    features, class_ids = examples
    rows = encode(features, class_ids, colours(2))  # two rows with an example each
    queries = embed(2, (3, 4), seed=3)
    painted = decode(rows, queries)
    for row in range(2):
        own = jax.tree.map(lambda a, row=row: a[row : row + 1], rows)
        alone = decode(own, take(queries, row))
        assert_close(painted[row : row + 1], alone)


def test_a_row_serves_several_queries_in_turn(decode, encode, examples):
    features, class_ids = examples
    rows = encode(features, class_ids, colours(2))
    queries = embed(4, (2, 3), seed=4)
    painted = decode(rows, queries)
    assert painted.shape == (4, 2 * PATCH, 3 * PATCH, 3)
    for number in range(4):
        own = jax.tree.map(lambda a, row=number // 2: a[row : row + 1], rows)
        alone = decode(own, take(queries, number))
        assert_close(painted[number : number + 1], alone)


@pytest.mark.parametrize("grid", [(5, 3), (1, 2)])
def test_queries_may_have_any_size(decode, cache, grid):
    painted = decode(cache, embed(1, grid))
    assert painted.shape == (1, grid[0] * PATCH, grid[1] * PATCH, 3)
    assert np.isfinite(painted).all()


# --- what a fresh model paints


def test_a_fresh_model_finds_what_it_was_shown_in_the_same_picture(encode, decode):
    features = embed(1, (3, 4), seed=5)
    class_ids = np.zeros((1, 3 * PATCH, 4 * PATCH), np.int32)
    class_ids[:, PATCH:, PATCH : 3 * PATCH] = 1
    painted = decode(encode(features, jnp.asarray(class_ids), colours(1)), features)
    squares = ((np.asarray(painted)[..., None, :] - COLOURS[:2]) ** 2).sum(axis=-1)
    found, truth = squares.argmin(axis=-1) == 1, class_ids == 1
    assert (found & truth).sum() / (found | truth).sum() > 0.9


def priors_of(model, cache, query):
    grid = query.grid(PATCH)
    feats = jnp.concatenate(query.layers, axis=-1)
    layers, *others = model.priors(cache, query, model.stem(query.image), feats, grid)
    return [*layers, *others]


def test_permuted_labels_give_permuted_colours(model, encode, examples, query):
    features, class_ids = examples
    order = np.array([1, 2, 0])  # the background's, too
    run = jax.jit(lambda cache: priors_of(model, cache, query))
    one, other = (
        run(together(encode(features, class_ids, colours(2)[:, order] if turned else colours(2))))
        for turned in (False, True)
    )
    # Every found colour is a mixture of the table's; the same mixture of the turned table's.
    turn = np.linalg.solve(COLOURS, COLOURS[order])
    for ours, theirs in zip(one, other, strict=True):
        ours, theirs = (np.asarray(a).reshape(-1, 3) for a in (ours, theirs))
        np.testing.assert_allclose(ours @ turn, theirs, rtol=1e-3, atol=1e-3)


def test_numbers_of_labels_mean_nothing(encode, decode, examples, query):
    features, class_ids = examples
    order = np.array([0, 2, 1])
    renamed = jnp.where(
        class_ids == 255, 255, jnp.asarray(order)[jnp.where(class_ids == 255, 0, class_ids)]
    )
    one = decode(together(encode(features, class_ids, colours(2))), query)
    other = decode(together(encode(features, renamed, colours(2)[:, order])), query)
    assert_close(other, one)


def test_rows_of_the_colours_without_a_label_change_nothing(encode, decode, examples, query):
    features, class_ids = examples
    padded = jnp.pad(colours(2), ((0, 0), (0, 2), (0, 0)))
    one, other = (
        decode(together(encode(features, class_ids, table)), query)
        for table in (colours(2), padded)
    )
    assert_close(other, one)


def test_ignored_pixels_are_painted_as_background(encode, decode, examples, query):
    features, class_ids = examples
    cache = encode(features, class_ids, colours(2))
    plain = encode(features, jnp.where(class_ids == 255, 0, class_ids), colours(2))
    np.testing.assert_array_equal(cache.colours, plain.colours)
    ratio = cache.fractions.sum(axis=-1)
    assert ratio.min() < 0.99  # but do not count as it
    np.testing.assert_allclose(plain.fractions.sum(axis=-1), 1, rtol=1e-6)


# --- gradients


def test_gradients_reach_every_weight(model, examples, query):
    features, class_ids = examples
    graphdef, params = nnx.split(model, nnx.Param)

    @jax.jit
    @jax.grad
    def gradients(params):
        model = nnx.merge(graphdef, params)
        cache = together(model.encode(features, class_ids, colours(2)))
        return jnp.square(model.decode(cache, query)).mean()

    for path, leaf in jax.tree_util.tree_leaves_with_path(nnx.as_pure(gradients(params))):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        assert np.isfinite(leaf).all(), name
        assert np.abs(leaf).max() > 0, name


def test_the_encoder_is_no_part_of_the_model(model):
    params = nnx.as_pure(nnx.state(model, nnx.Param))
    assert "encoder" not in params
    assert "vit" not in params
    other = replace(CONFIG, encoder=replace(CONFIG.encoder, depth=9))
    shapes = nnx.eval_shape(lambda: InContextModel(other, rngs=nnx.Rngs(0)))
    described = nnx.as_pure(nnx.state(shapes, nnx.Param))
    assert jax.tree.map(jnp.shape, described) == jax.tree.map(jnp.shape, params)


def test_a_model_in_bfloat16_paints_in_float32(model, examples, query):
    graphdef, params = nnx.split(model, nnx.Param)
    half = nnx.merge(graphdef, jax.tree.map(lambda a: a.astype(jnp.bfloat16), params))
    features, class_ids = examples

    def paint(features, class_ids, query):
        return half.decode(together(half.encode(features, class_ids, colours(2))), query)

    painted = jax.eval_shape(paint, features, class_ids, query)
    assert painted.dtype == jnp.float32


def test_a_thinned_cache_keeps_so_many_tokens_and_their_share_of_cells(encode) -> None:
    cache = together(encode(embed(2, (3, 4)), blobs(2, (3, 4)), colours(2)))
    thin = thin_cache(cache, 5)
    assert thin.colours.shape[1] == thin.blocks[0][0].shape[1] == thin.layers[0].shape[1] == 5
    assert thin.fine.shape[1] == thin.pixels.shape[1] == 20
    assert thin_cache(cache, cache.colours.shape[1]) is cache
    kept = {row.tobytes() for row in np.asarray(cache.colours[0])}
    assert all(row.tobytes() in kept for row in np.asarray(thin.colours[0]))
