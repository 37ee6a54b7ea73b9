from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from seggpt.config import PromptHeadsConfig
from seggpt.encoder import Embedding
from seggpt.prompts import ABSENT, FIRST_CORNER, FOREGROUND, PADDING, SECOND_CORNER
from seggpt.prompts.heads import PromptHeads
from seggpt.stem import Stem
from tests.jitting import jitted
from tests.tiny_encoder import tiny_encoder

PATCH = 14
ENCODER = tiny_encoder(patch_size=PATCH)
CONFIG = PromptHeadsConfig(
    image_size=8 * PATCH, prompt_width=32, mask_width=4, decoder_heads=2, decoder_mlp=16
)
ROWS, COLS = 4, 6


@pytest.fixture(scope="module")
def heads():
    return PromptHeads(CONFIG, ENCODER, rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def decode(heads):
    return jitted(heads.decode)


@pytest.fixture(scope="module")
def see(heads):
    """Return a function that encodes what is embedded, with a stem that knows nothing."""
    stem = Stem(rngs=nnx.Rngs(1))
    return jitted(lambda embedding: heads.encode(embedding, stem(embedding.image)))


@pytest.fixture(scope="module")
def encode(see):
    @cache
    def run(pictures, rows=ROWS, cols=COLS):
        image_key, *keys = jax.random.split(jax.random.key(0), 1 + len(ENCODER.taps))
        image = jax.random.uniform(image_key, (pictures, rows * PATCH, cols * PATCH, 3))
        layers = tuple(jax.random.normal(k, (pictures, rows * cols, ENCODER.width)) for k in keys)
        return see(Embedding(image, layers))

    return run


def prompts(count, seed=0):
    rng = np.random.default_rng(seed)
    coords = rng.uniform(0, PATCH * ROWS, (count, 3, 2))
    labels = np.tile((FOREGROUND, PADDING, ABSENT), (count, 1))
    return jnp.asarray(coords, jnp.float32), jnp.asarray(labels)


def test_masks_have_half_the_resolution_of_what_is_seen(decode, encode):
    masks, scores = decode(encode(1), *prompts(3))
    assert masks.shape == (3, 4, ROWS * PATCH // 2, COLS * PATCH // 2)
    assert scores.shape == (3, 4)
    assert encode(1).grid == (ROWS, COLS)


def test_prompts_about_several_pictures_are_as_if_each_had_been_asked_alone(decode, encode):
    both, (coords, labels) = encode(2), prompts(4)
    masks, scores = decode(both, coords, labels)
    for i in range(2):
        one = jax.tree.map(lambda a, i=i: a[i : i + 1], both)
        some = slice(2 * i, 2 * i + 2)
        alone, expected = decode(one, coords[some], labels[some])
        np.testing.assert_allclose(masks[some], alone, atol=1e-4)
        np.testing.assert_allclose(scores[some], expected, atol=1e-4)


def test_absent_slots_change_nothing(decode, encode):
    coords, labels = prompts(2)
    masks, scores = decode(encode(1), coords, labels)
    fewer = decode(encode(1), coords[:, :2], labels[:, :2])
    np.testing.assert_allclose(masks, fewer[0], atol=1e-4)
    np.testing.assert_allclose(scores, fewer[1], atol=1e-4)


def test_a_mask_can_be_given_back_as_it_came(decode, encode):
    coords, labels = prompts(2)
    masks, _ = decode(encode(1), coords, labels)
    again, _ = decode(encode(1), coords, labels, mask=masks[:, 0])
    assert again.shape == masks.shape
    assert np.abs(again - masks).max() > 1e-3  # it is seen


def test_points_and_boxes_matter(decode, encode):
    seen, (coords, labels) = encode(1), prompts(1)
    masks, _ = decode(seen, coords, labels)
    moved, _ = decode(seen, coords + 20, labels)
    boxed, _ = decode(seen, coords, jnp.asarray([[FIRST_CORNER, SECOND_CORNER, ABSENT]]))
    for other in (moved, boxed):
        assert np.abs(other - masks).max() > 1e-3


def test_untrained_masks_follow_what_looks_like_the_point(heads, see):
    """They are the affinity of patches, beside noise of the other layers."""
    kinds = np.arange(ROWS * COLS) % COLS < COLS // 2
    tokens = jnp.asarray(np.where(kinds[:, None], 1.0, -1.0) * np.ones(ENCODER.width))[None]
    image = jnp.zeros((1, ROWS * PATCH, COLS * PATCH, 3))
    noise = 0.01 * jax.random.normal(jax.random.key(0), tokens.shape)
    embedding = Embedding(image, (tokens + noise,) * len(ENCODER.taps))
    seen = see(embedding)

    def paint(coords, labels):
        return heads.draw(seen, heads.look(seen, coords, labels))

    drawn = jitted(paint)(jnp.asarray([[[7.0, 7.0]]]), jnp.asarray([[FOREGROUND]]))
    drawn = np.asarray(drawn).mean(axis=1)[0]
    half = drawn.shape[1] // 2
    assert drawn[:, : half - 7].mean() > drawn[:, half + 7 :].mean() + 0.5
