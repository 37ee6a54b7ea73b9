"""The mask decoder, rule by rule."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from seggpt.prompts import MaskDecoder
from seggpt.prompts.decoder import MASKS, Upscale
from tests.tiny_models import tiny_sam

WIDTH = 16
CONFIG = tiny_sam(image_size=8, prompt_width=WIDTH)


def test_upscaling_is_a_transposed_convolution():
    """Each pixel becomes its own 2 x 2 square, row by row; nothing is flipped."""
    up = Upscale(3, 2, rngs=nnx.Rngs(0))
    up.bias[...] = jnp.asarray([1.0, -1.0])
    pixels = jax.random.normal(jax.random.key(0), (1, 6, 3))
    found = np.asarray(up(pixels)).reshape(1, 6, 2, 2, 2)
    kernel = np.asarray(up.kernel[...]).reshape(3, 2, 2, 2)  # in, row, column, out
    for pixel, row, column in itertools.product(range(6), range(2), range(2)):
        want = np.asarray(pixels)[0, pixel] @ kernel[:, row, column] + [1.0, -1.0]
        np.testing.assert_allclose(found[0, pixel, row, column], want, atol=1e-6)


def test_scores_are_raw():
    """No sigmoid: a bias far outside 0..1 comes through."""
    decoder = MaskDecoder(CONFIG, rngs=nnx.Rngs(0))
    last = decoder.iou_head.layers[-1]
    assert last.bias is not None
    last.bias[...] = jnp.full(MASKS, 7.0)
    assert float(decoder.scores(jnp.zeros((1, 1 + MASKS, WIDTH))).min()) > 6.0


def test_each_mask_has_its_own_token_and_head():
    decoder = MaskDecoder(CONFIG, rngs=nnx.Rngs(0))
    tokens = jax.random.normal(jax.random.key(1), (1, 1 + MASKS, WIDTH))
    image = jax.random.normal(jax.random.key(2), (1, 4, WIDTH))
    before = decoder.masks(tokens, image, shape=(2, 2))
    assert before.shape == (1, MASKS, 8, 8)
    after = decoder.masks(tokens.at[:, 3].add(5.0), image, shape=(2, 2))
    changed = np.abs(np.asarray(after - before)).max(axis=(0, 2, 3)) > 0
    assert changed.tolist() == [False, False, True, False]


def test_gelu_is_the_exact_one():
    """The tanh formula differs by up to 5e-4, which parity would hardly notice."""
    decoder = MaskDecoder(CONFIG, rngs=nnx.Rngs(0))
    text = str(
        jax.make_jaxpr(lambda t, i: decoder.masks(t, i, shape=(2, 2)))(
            jnp.zeros((1, 5, WIDTH)), jnp.zeros((1, 4, WIDTH))
        )
    )
    assert "erf" in text
    assert "tanh" not in text
