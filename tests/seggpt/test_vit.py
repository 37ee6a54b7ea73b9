import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from seggpt.config import EncoderConfig, ViTConfig
from seggpt.vit import Mlp, ViT, make_rotation, rotate
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


def test_turned_queries_and_keys_tell_how_far_apart_patches_are():
    query, key = np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32)
    rotation = make_rotation((3, 5), 8, 2)

    def turn(vector):
        return np.asarray(rotate(jnp.tile(vector, (1, 17, 1, 1)), rotation))[0, :, 0]

    queries, keys = turn(query), turn(key)
    np.testing.assert_array_equal(queries[:2], np.stack([query, query]))  # they have no place
    logits = (queries[2:] @ keys[2:].T).reshape(3, 5, 3, 5)
    np.testing.assert_allclose(logits[:-1, :-1, :-1, :-1], logits[1:, 1:, 1:, 1:], atol=1e-4)
    assert np.ptp([logits[0, 0, 0, 0], logits[0, 0, 0, 1], logits[0, 0, 1, 0]]) > 1e-2


def test_positions_are_shares_of_either_axis():
    wide, tall = make_rotation((2, 6), 4, 0), make_rotation((2, 2), 4, 0)
    angles = np.pi * np.asarray([-1, 1])  # of a middle at -1/2 and 1/2, with a period of 1
    np.testing.assert_allclose(tall.cos[:, 0], np.repeat(np.cos(angles), 2), atol=1e-6)
    np.testing.assert_allclose(wide.cos[::6, 0], tall.cos[::2, 0], atol=1e-6)
    np.testing.assert_allclose(wide.sin[:6, 1], np.sin(np.pi * np.arange(-5, 6, 2) / 3), atol=1e-6)


def test_rotary_positions_need_no_table():
    vit = make_vit(dataclasses.replace(CONFIG, rotary=True))
    assert not hasattr(vit, "pos_embed")
    (tokens,) = jitted(vit.taps)(IMAGE, (2,))
    (others,) = jitted(vit.taps)(IMAGE[:, ::-1], (2,))
    assert not np.allclose(tokens.sum(axis=1), others.sum(axis=1), atol=1e-2)


def test_half_of_a_gated_mlp_passes_where_the_other_is_open():
    mlp = Mlp(dataclasses.replace(CONFIG, activation="swiglu"), rngs=nnx.Rngs(0))
    assert mlp.fc1.kernel.shape == (16, 2 * 64)
    assert mlp.fc1.bias is not None
    mlp.fc1.bias[...] = jnp.concatenate([jnp.full(64, 100.0), jnp.full(64, 0.5)])
    mlp.fc1.kernel[...] = jnp.zeros((16, 128))
    mlp.fc2.kernel[...] = jnp.full((64, 16), 1 / 64)
    np.testing.assert_allclose(mlp(jnp.ones((1, 1, 16))), np.full((1, 1, 16), 50.0), rtol=1e-5)
