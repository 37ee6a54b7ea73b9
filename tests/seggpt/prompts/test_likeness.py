"""A colour model of what a prompt marks, and of what it does not."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from seggpt.canvas import normalize
from seggpt.prompts import Likeness
from seggpt.sam import PromptedSegGPT
from tests.train.tiny import tiny_model

CONFIG = tiny_model(
    prompt_width=16, prompt_blocks=1, fusion_blocks=1, decoder_heads=2, decoder_mlp=16, mask_width=8
)
GRID = 8  # patches of pictures here: inner ones do not see the picture's border
HALVES = np.zeros((GRID, GRID), bool)
HALVES[:, : GRID // 2] = True


@pytest.fixture(scope="module")
def model():
    return PromptedSegGPT(CONFIG, rngs=nnx.Rngs(0))


def cells(model, left=(0.9, 0.1, 0.1), right=(0.1, 0.2, 0.9)):
    """Return the cells' features of a picture of two colours, as `encode` lays them out."""
    pixels = np.where(HALVES.repeat(4, 0).repeat(4, 1)[..., None], left, right)
    embedding = model.encode(normalize(jnp.asarray(pixels, jnp.float32))[None])
    return embedding.reshape(1, GRID * GRID, -1)[..., CONFIG.prompt_width :]


def shares(found, prior):
    """Return plain and balanced shares of (prompts, patches, cells, kinds, heads)."""
    count = 4 * 2 * 4  # cells, kinds and heads: a layer that gives back what it is given
    likeness = Likeness(dataclasses.replace(CONFIG, prompt_width=count), rngs=nnx.Rngs(1))
    likeness.proj.kernel[...] = jnp.eye(count)
    given, balanced = likeness(found, jnp.asarray(prior))
    given = (np.asarray(given) + 0.5).reshape(len(prior), GRID**2, likeness.cells, 2, -1)
    np.testing.assert_allclose(balanced + 0.5, given[..., 1, :], atol=1e-6)
    return given


def test_the_colour_that_is_marked_is_found_everywhere(model):
    prior = np.zeros((1, GRID * GRID), np.float32)
    prior[0, 4 * GRID + 1] = 1.0  # one patch of the left half
    balanced = shares(cells(model), prior)[0, :, :, 1]
    left = HALVES.reshape(-1)
    # Patches beside the colours' border have cells of mixed features.
    inner = np.zeros((GRID, GRID), bool)
    inner[1:-1, [1, 2, 5, 6]] = True
    inner = inner.reshape(-1)
    # All other patches of its colour count as background, and are half of that.
    assert balanced[left & inner].min() > 0.6
    assert balanced[~left & inner].max() < 0.1


def test_shares_are_of_all_patches_and_balanced_ones_are_not(model):
    found = cells(model, left=(0.5, 0.5, 0.5), right=(0.5, 0.5, 0.5))
    prior = np.zeros((1, GRID * GRID), np.float32)
    prior[0, : GRID * GRID // 4] = 1.0
    plain, balanced = np.moveaxis(shares(found, prior), 3, 0)
    middle = np.zeros((GRID, GRID), bool)
    middle[1:-1, 1:-1] = True  # at the picture's border a cell's window sees zeros
    assert plain[0, middle.reshape(-1)].mean() == pytest.approx(0.25, abs=0.15)
    assert balanced[0, middle.reshape(-1)].mean() == pytest.approx(0.5, abs=0.2)
    assert (plain >= 0).all()
    assert (balanced <= 1).all()


def test_one_picture_serves_all_prompts_as_a_picture_each_does(model):
    rng = np.random.default_rng(0)
    prior = rng.uniform(size=(3, GRID * GRID)).astype(np.float32)
    likeness, found = model.likeness, cells(model)
    together = likeness(found, jnp.asarray(prior))
    each = likeness(jnp.repeat(found, 3, axis=0), jnp.asarray(prior))
    for one, other in zip(together, each, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_nothing_marked_and_all_marked_are_finite_and_so_are_gradients(model):
    for value in (0.0, 1.0):
        prior = jnp.full((1, GRID * GRID), value)
        out, pull = jax.vjp(lambda prior: model.likeness(cells(model), prior)[0], prior)
        assert np.isfinite(out).all()
        assert np.isfinite(pull(jnp.ones_like(out))[0]).all()


def test_models_without_a_lookup_go_without():
    config = dataclasses.replace(CONFIG, lookup=False)
    grid = CONFIG.grid
    plain = PromptedSegGPT(config, rngs=nnx.Rngs(0))
    assert not hasattr(plain, "likeness")
    assert plain.encode(jnp.zeros((1, 16, 16, 3))).shape == (1, grid, grid, CONFIG.prompt_width)
