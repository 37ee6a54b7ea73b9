import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from seggpt.config import EncoderConfig, ViTConfig
from seggpt.vit import ViT
from tests.jitting import jitted

CONFIG = EncoderConfig(
    patch_size=4, width=16, depth=3, heads=2, pos_grid=(4, 4), registers=2, taps=(0,)
).vit
IMAGE = jax.random.normal(jax.random.key(1), (2, 16, 24, 3))


def make_vit(config: ViTConfig) -> ViT:
    """Return a ViT whose every number is random: fresh layers do little, fresh tokens are zero."""
    graphdef, state = nnx.split(ViT(config, rngs=nnx.Rngs(0)), nnx.Param)
    leaves, structure = jax.tree.flatten(state)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    drawn = [0.3 * jax.random.normal(k, a.shape) for k, a in zip(keys, leaves, strict=True)]
    return nnx.merge(graphdef, jax.tree.unflatten(structure, drawn))


@pytest.fixture(scope="module")
def vit() -> ViT:
    return make_vit(CONFIG)


def test_taps_are_of_their_blocks_in_the_order_asked_for(vit):
    taps = jitted(vit.taps)
    first, last, second, again = taps(IMAGE, (0, 2, 1, 0))
    for blocks, wanted in [((0,), first), ((1,), second), ((2,), last)]:
        np.testing.assert_allclose(taps(IMAGE, blocks)[0], wanted, atol=1e-5)
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, second, atol=1e-2)
    assert first.shape == (2, 24, 16)


@pytest.mark.parametrize("token", range(3))
def test_patches_see_the_class_token_and_every_register(vit, token):
    @jax.jit
    def sums(prefix_tokens):
        graphdef, state = nnx.split(vit, nnx.Param)
        params = {**nnx.as_pure(state), "prefix_tokens": prefix_tokens}
        return nnx.merge(graphdef, params).taps(IMAGE[:1], (0,))[0].sum(axis=1)

    turned = vit.prefix_tokens[...].at[token].multiply(-1.0)
    assert np.abs(sums(turned) - sums(vit.prefix_tokens[...])).max() > 1e-2


def test_without_layer_scale_is_a_layer_scale_of_one():
    config = dataclasses.replace(CONFIG, class_token=False, registers=0)
    scaled = make_vit(config)
    plain = make_vit(dataclasses.replace(config, layer_scale=False))
    params = nnx.as_pure(nnx.state(scaled, nnx.Param))
    for block in scaled.blocks:
        block.scale1[...] = block.scale2[...] = jnp.ones(config.width)
    for block in params["blocks"].values():
        block.pop("scale1")
        block.pop("scale2")
    plain = nnx.merge(nnx.graphdef(plain), params)
    want = jitted(plain)(IMAGE).reshape(2, 24, -1)
    np.testing.assert_allclose(jitted(scaled.taps)(IMAGE, (2,))[0], want, rtol=1e-4, atol=1e-4)


def test_a_layer_scale_of_zero_leaves_the_embedding(vit):
    silent = nnx.clone(vit)
    for block in silent.blocks:
        block.scale1[...] = block.scale2[...] = jnp.zeros(CONFIG.width)
    want = vit.embed(IMAGE) + vit.positions((4, 6))
    np.testing.assert_allclose(jitted(silent.taps)(IMAGE, (2,))[0], want, atol=1e-6)
