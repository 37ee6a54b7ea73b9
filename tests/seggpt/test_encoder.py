"""The shipped encoder against onnxruntime (`golden/make_encoder_golden.py`), and what it gives."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from seggpt.canvas import normalize
from seggpt.config import EncoderConfig
from seggpt.encoder import Encoder
from seggpt.weights.encoder import load_encoder
from tests.seggpt.golden.make_encoder_golden import BLOCKS, SIZES, glimpse, picture

GOLDEN = Path(__file__).parent / "golden" / "encoder.npz"
TINY = EncoderConfig(patch_size=4, width=16, depth=3, heads=2, pos_grid=(4, 4), taps=(0, 2))


@pytest.fixture(scope="module")
def shipped():
    loaded = load_encoder()
    graphdef = nnx.graphdef(nnx.eval_shape(lambda: Encoder(loaded.config, rngs=nnx.Rngs(0))))

    @jax.jit
    def taps(params, image):
        return nnx.merge(graphdef, params).vit.taps(normalize(image)[None], BLOCKS)

    params = jax.tree.map(jnp.asarray, loaded.params)
    return lambda image: taps(params, image)


@pytest.mark.parametrize("size", SIZES)
def test_the_shipped_encoder_equals_onnxruntime(shipped, size):
    found = shipped(jnp.asarray(picture(*size), jnp.float32))
    with np.load(GOLDEN) as golden:
        for block, tokens in zip(BLOCKS, found, strict=True):
            prefix = f"{size[0]}x{size[1]}_{block}_"
            scale = golden[prefix + "scale"]
            for name, array in glimpse(np.asarray(tokens[0])).items():
                np.testing.assert_allclose(
                    array, golden[prefix + name], rtol=0, atol=1e-4 * scale, err_msg=prefix + name
                )


@jax.jit
def encode_tiny(image):
    return Encoder(TINY, rngs=nnx.Rngs(0))(image)


def test_an_embedding_holds_the_image_and_normalised_tokens():
    image = jax.random.uniform(jax.random.key(0), (2, 16, 24, 3))
    embedding = encode_tiny(image)
    np.testing.assert_allclose(embedding.image, 2 * image - 1, atol=1e-6)
    assert embedding.grid(TINY.patch_size) == (4, 6)
    for layer in embedding.layers:
        assert layer.shape == (2, 24, TINY.width)
        assert layer.dtype == jnp.float32
        np.testing.assert_allclose(layer.mean(axis=-1), 0, atol=1e-5)
        # Fresh tokens are about as small as what keeps the division from overflowing.
        assert np.all(layer.var(axis=-1) < 1.001)


def test_pictures_of_a_batch_do_not_see_each_other():
    image = jax.random.uniform(jax.random.key(0), (2, 16, 24, 3))
    both, one = encode_tiny(image).layers, encode_tiny(image[1:]).layers
    for layer, alone in zip(both, one, strict=True):
        np.testing.assert_allclose(layer[1:], alone, atol=1e-5)
