import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from seggpt.conv import Conv3x3, conv3x3


def plain(feats, kernel, stride=1):
    """Convolve by the definition, one shift of the picture after the other."""
    padded = jnp.pad(feats, ((0, 0), (1, 1), (1, 1), (0, 0)))
    h, w = feats.shape[1:3]
    shifts = ((y, x) for y in range(3) for x in range(3))
    return sum(padded[:, y : y + h : stride, x : x + w : stride] @ kernel[y, x] for y, x in shifts)


def draw(*shapes):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]


@pytest.mark.parametrize("size", [(4, 6), (5, 3), (1, 1), (1, 7)])
def test_gradients_are_the_native_ones(size):
    feats, kernel, grads = draw((2, *size, 3), (3, 3, 3, 4), (2, *size, 4))

    def native(feats, kernel):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            feats, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=numbers
        )

    ours, pull = jax.vjp(jax.jit(conv3x3), feats, kernel)
    theirs, pull_native = jax.vjp(jax.jit(native), feats, kernel)
    np.testing.assert_array_equal(ours, theirs)
    for own, wanted in zip(pull(grads), pull_native(grads), strict=True):
        np.testing.assert_allclose(own, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(4, 6), (5, 3), (1, 2)])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_layer_convolves_with_zero_padding_and_adds_a_bias(size, stride):
    layer = Conv3x3(3, 4, stride=stride, rngs=nnx.Rngs(0))
    feats, bias = draw((2, *size, 3), (4,))
    layer.bias[...] = bias
    found = layer(feats)
    assert found.shape == (2, -(-size[0] // stride), -(-size[1] // stride), 4)
    wanted = plain(feats, layer.kernel[...], stride) + bias
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_the_features_decide_the_dtype():
    layer = Conv3x3(3, 4, rngs=nnx.Rngs(0))
    assert layer(jnp.zeros((1, 2, 2, 3), jnp.bfloat16)).dtype == jnp.bfloat16
