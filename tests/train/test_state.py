import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from seggpt.config import PromptHeadsConfig
from seggpt.errors import CheckpointError
from seggpt.model import SegGPT
from seggpt.prompts import FOREGROUND
from seggpt.prompts.heads import PromptHeads
from seggpt.resize import linear_resize
from seggpt.weights.encoder import load_encoder
from seggpt.weights.files import save_weights
from tests.jitting import jitted
from tests.tiny_encoder import save_tiny_encoder, tiny_encoder
from tests.train.tiny import named, tiny_config, tiny_model
from train.optim import make_optimizer
from train.state import (
    SHARP,
    TOKENS,
    graft_encoder,
    init_params,
    init_state,
    load_params,
    match_places,
    match_queries_keys,
    split_model,
)

HEADS = PromptHeadsConfig(
    image_size=32, prompt_width=64, mask_width=8, decoder_heads=2, decoder_mlp=16
)


@pytest.fixture(scope="module")
def params():
    return init_params(tiny_model(), jax.random.key(0))


def test_an_encoder_goes_under_both_streams(params, tmp_path):
    path = tmp_path / "encoder.safetensors"
    encoder = save_tiny_encoder(path, patch_size=4)
    for number, block in enumerate(encoder.vit.blocks):
        for scale in (block.scale1, block.scale2):
            scale[...] = 1 + 0.1 * jax.random.normal(jax.random.key(number), scale.shape)
    trees = (nnx.as_pure(nnx.state(encoder, nnx.Param)), encoder.config.to_dict())
    save_weights(path, trees[0], config=trees[1])
    model = tiny_model()
    start = graft_encoder(params, load_encoder(path), model)
    assert jax.tree.map(jnp.shape, start) == jax.tree.map(jnp.shape, params)
    grafted = SegGPT(model, rngs=nnx.Rngs(0))
    nnx.update(grafted, start)
    table = encoder.vit.pos_embed[...]
    np.testing.assert_allclose(start["vit"]["pos_embed"], jnp.concatenate([table] * 2), atol=1e-6)
    tokens = jax.random.normal(jax.random.key(9), (2, 16, 32))
    for own, given in zip(grafted.vit.blocks, encoder.vit.blocks, strict=True):
        ran, expected = (jitted(block)(tokens, shape=(4, 4)) for block in (own, given))
        np.testing.assert_allclose(ran, expected, atol=1e-5)
    with pytest.raises(CheckpointError, match="other depth than the model's"):
        graft_encoder(params, load_encoder(path), tiny_model(depth=3, taps=(0, 2)))


def test_weights_and_structure_make_a_model(params):
    model = nnx.merge(split_model(tiny_model()), params)
    assert isinstance(model, SegGPT)
    assert model.config == tiny_model()
    np.testing.assert_array_equal(
        model.vit.blocks[1].attn.qkv.kernel[...],
        params["vit"]["blocks"][1]["attn"]["qkv"]["kernel"],
    )


def test_a_run_starts_with_its_average_at_the_weights(params):
    optimizer = make_optimizer(tiny_config().optim, steps=4, depth=2)
    state = init_state(params, optimizer)
    assert int(state.step) == 0
    for name, leaf in named(state.ema).items():
        np.testing.assert_array_equal(leaf, named(params)[name])
    # A step may give the buffers of one away and must not take the other's with them.
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves((state.params, state.ema))]
    assert len(pointers) == len(set(pointers))


def test_saved_weights_come_back(params, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_weights(path, params, config=tiny_model().to_dict())
    loaded = load_params(tiny_model(), path)
    assert jax.tree.structure(loaded) == jax.tree.structure(params)
    for name, leaf in named(loaded).items():
        np.testing.assert_array_equal(leaf, named(params)[name])


def test_weights_fit_another_picture_size(params, tmp_path):
    path = tmp_path / "weights.safetensors"
    filled = jax.tree.map(lambda a: np.random.default_rng(0).normal(size=a.shape), params)
    filled = jax.tree.map(np.float32, filled)
    save_weights(path, filled, config=tiny_model().to_dict())
    larger = dataclasses.replace(tiny_model(), image_size=24)
    loaded = named(load_params(larger, path))
    wanted = jax.eval_shape(lambda: init_params(larger, jax.random.key(0)))
    for (name, leaf), shape in zip(loaded.items(), jax.tree.leaves(wanted), strict=True):
        assert leaf.shape == shape.shape
        before = named(filled)[name]
        if "rel_pos" in name:  # what attention would make of the old table
            assert leaf.shape != before.shape
            np.testing.assert_array_equal(leaf, linear_resize(jax.numpy.asarray(before), len(leaf)))
        else:
            np.testing.assert_array_equal(leaf, before)


def test_weights_of_another_model_are_refused_by_name(params, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_weights(path, params, config=tiny_model().to_dict())
    with pytest.raises(CheckpointError, match=r"weights.safetensors: 2 arrays .*type_token_inst"):
        load_params(tiny_model(type_tokens=False), path)
    with pytest.raises(CheckpointError, match=r"14 arrays .*vit.blocks.2"):
        load_params(tiny_model(depth=3, taps=(0, 2), rel_pos=True), path)
    with pytest.raises(CheckpointError, match=r"decoder.conv.kernel"):
        load_params(tiny_model(decoder_width=8), path)


def test_matching_makes_keys_equal_queries_and_leaves_all_else(params):
    before, after = named(params), named(jax.jit(match_queries_keys)(params))
    assert before.keys() == after.keys()
    matched = [name for name in before if name.endswith("attn/qkv/kernel")]
    assert len(matched) == 2
    for name in before:
        if name not in matched:
            np.testing.assert_array_equal(after[name], before[name])
            continue
        query, key, value = np.split(after[name], 3, axis=1)
        np.testing.assert_array_equal(query, key)
        old_query, _, old_value = np.split(before[name], 3, axis=1)
        np.testing.assert_array_equal(value, old_value)
        np.testing.assert_allclose(query / query.std(), old_query / old_query.std(), rtol=1e-4)
        assert query.std() == pytest.approx(tiny_model().width ** -0.5, rel=1e-5)


# --- heads for prompts


@pytest.fixture(scope="module")
def heads():
    return PromptHeads(HEADS, tiny_encoder(), rngs=nnx.Rngs(0))


def test_matched_heads_start_with_layers_that_keep_the_size(heads):
    params = nnx.as_pure(nnx.state(heads, nnx.Param))
    before, after = named(params), named(jax.jit(lambda p: match_places(p, heads=2))(params))
    assert before.keys() == after.keys()
    for name, leaf in after.items():
        parts = name.split("/")
        if parts[0] not in ("prompt_encoder", "mask_decoder"):
            np.testing.assert_array_equal(leaf, before[name], err_msg=name)
        elif parts[-1] in TOKENS:
            np.testing.assert_allclose(leaf, 0.1 * before[name], rtol=1e-6)
        elif parts[-1] == "kernel" and not {"q", "k"} & set(parts):
            fan_in = leaf.size // leaf.shape[-1]
            assert leaf.std() == pytest.approx(fan_in**-0.5, rel=1e-4), name
            np.testing.assert_allclose(leaf / leaf.std(), before[name] / before[name].std(), 1e-3)
        elif parts[-1] != "kernel":
            np.testing.assert_array_equal(leaf, before[name], err_msg=name)


def test_matched_prompts_look_where_they_are(heads):
    graphdef, params = nnx.split(heads, nnx.Param)
    model = nnx.merge(graphdef, match_places(nnx.as_pure(params), heads=2))
    cols, rows = np.meshgrid(*[np.arange(8) * 4 + 1.5] * 2)
    points = jnp.asarray(np.stack([cols, rows], axis=-1).reshape(1, 64, 2))
    prompts, _ = model.prompt_encoder.points(points, jnp.full((1, 64), FOREGROUND))
    places = model.prompt_encoder.grid((8, 8), patch=4)
    looks = [model.mask_decoder.transformer.final_attn]
    looks += [
        look
        for layer in model.mask_decoder.transformer.layers
        for look in (layer.to_image, layer.to_tokens)
    ]
    for look in looks:
        np.testing.assert_array_equal(look.q.kernel[...], look.k.kernel[...])
        query, key = (np.asarray(a).reshape(64, 2, -1) for a in (look.q(prompts), look.k(places)))
        logits = np.einsum("phd,nhd->hpn", query, key) / query.shape[-1] ** 0.5
        own = np.diagonal(logits, axis1=1, axis2=2)
        assert own.mean() == pytest.approx(SHARP, rel=0.4)
        nearest = logits.mean(axis=0).argmax(axis=1)
        apart = np.abs(np.stack(np.divmod(nearest, 8)) - np.stack(np.divmod(np.arange(64), 8)))
        assert (apart.max(axis=0) <= 1).mean() > 0.9
