from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from data.augment import Views
from seggpt.losses import smooth_l1
from seggpt.palette import IGNORE
from tests.jitting import jitted
from tests.train.tiny import SIZE, named, tiny_batch, tiny_config, tiny_model, tiny_sources
from train import step as module
from train.sharding import make_mesh, place, put_batch, shard_params
from train.state import TrainState, init_params, init_state, split_model
from train.step import (
    apply_gradients,
    canvas_masks,
    compute_dtype,
    draw_kept,
    draw_masks,
    make_train_step,
    mean_gradients,
    repeat_cache,
    sample_loss,
    within_patch_std,
)

GRID = (SIZE // 4, SIZE // 4)
BOTH = ("prefix", "mutual")


@pytest.fixture(scope="module")
def views():
    """Two samples of four views under random labels."""
    rng = np.random.default_rng(0)
    shape = (2, 4, SIZE, SIZE)
    images, targets = rng.normal(size=(2, *shape, 3)).astype(np.float32)
    labels = rng.integers(0, 5, shape)
    return Views(*(jnp.asarray(a) for a in (images, targets, labels)), kind=jnp.array([0, 1]))


def fresh_params(model):
    shapes = jax.eval_shape(lambda: init_params(model, jax.random.key(0)))
    rng = np.random.default_rng(0)
    # Tables of relative position start at zero otherwise; here they matter.
    return jax.tree.map(lambda a: jnp.asarray(0.1 * rng.normal(size=a.shape), a.dtype), shapes)


@pytest.fixture(scope="module")
def models():
    return {
        attention: nnx.merge(split_model(config), fresh_params(config))
        for attention, config in ((name, tiny_model(name)) for name in BOTH)
    }


def loss_of(model, views, *, examples, **changes):
    config = tiny_config(model.config, **changes)
    masks = draw_masks(jax.random.key(3), views, config, examples=examples)
    return sample_loss(model, views, config, masks=masks, examples=examples, progress=0.5)


@pytest.fixture
def target_gradient(models, views, monkeypatch):
    """Return the gradient in the views' targets: as what the loss wants, or as what models see."""

    def wanted(predicted, target, weights, *, beta):
        return smooth_l1(jax.lax.stop_gradient(predicted), target, weights, beta=beta)

    def seen(predicted, target, weights, *, beta):
        return predicted.sum()

    def gradient(attention, role, *, labels=None, **options):
        monkeypatch.setattr(module, "smooth_l1", {"wanted": wanted, "seen": seen}[role])
        given = views if labels is None else replace(views, labels=labels)

        graphdef, state = nnx.split(models[attention], nnx.Param)

        def run(targets, params, given):
            model = nnx.merge(graphdef, params)
            return loss_of(model, replace(given, targets=targets), **options)[0]

        gradients = jax.jit(jax.grad(run))(views.targets, nnx.as_pure(state), given)
        return np.abs(gradients).sum(axis=-1)

    return gradient


def by_patch(pixels):
    """Lay out pixels (b, v, h, w) as (b, v, gh, gw, pixels of a patch)."""
    b, v = pixels.shape[:2]
    patches = pixels.reshape(b, v, GRID[0], 4, GRID[1], 4).transpose(0, 1, 2, 4, 3, 5)
    return patches.reshape(b, v, *GRID, 16)


def test_pairs_are_asked_for_exactly_the_masked_half_that_nobody_sees(target_gradient):
    options = {"examples": 1, "half_masks": 0.0}
    wanted = by_patch(target_gradient("mutual", "wanted", **options)) > 0
    np.testing.assert_array_equal(wanted.any(axis=-1), wanted.all(axis=-1))
    masked = wanted.any(axis=-1)
    # Two canvases a sample: views 0 above 1, and 2 above 3.
    assert (masked.reshape(4, -1).sum(axis=1) == GRID[0] * GRID[1]).all()
    assert masked[:, ::2].any()
    seen = by_patch(target_gradient("mutual", "seen", **options)) > 0
    np.testing.assert_array_equal(seen.any(axis=-1), ~masked)


def test_several_examples_are_asked_for_the_query_alone(target_gradient):
    wanted = target_gradient("mutual", "wanted", examples=2) > 0
    seen = target_gradient("mutual", "seen", examples=2) > 0
    assert wanted[:, 2].all()
    assert seen[:, :2].reshape(2, 2, -1).any(axis=-1).all()
    assert not wanted[:, [0, 1, 3]].any()  # the fourth view is one too many
    assert not seen[:, 2:].any()


def test_a_prefix_is_seen_and_the_other_views_are_asked_for(target_gradient):
    wanted = target_gradient("prefix", "wanted", examples=2) > 0
    seen = target_gradient("prefix", "seen", examples=2) > 0
    assert wanted[:, 2:].all()
    assert not wanted[:, :2].any()
    assert seen[:, :2].reshape(2, 2, -1).any(axis=-1).all()
    assert not seen[:, 2:].any()


def test_examples_that_show_nothing_ask_for_nothing(target_gradient, views):
    labels = views.labels.at[1, 0].set(0).at[1, 0, :4].set(IGNORE)
    wanted = target_gradient("prefix", "wanted", examples=1, labels=labels) > 0
    assert wanted[0, 1:].all()
    assert not wanted[1].any()


@pytest.mark.parametrize("attention", BOTH)
def test_ignored_pixels_do_not_count(target_gradient, views, attention):
    labels = views.labels.at[:, :, 3:9, 5:].set(IGNORE)
    wanted = target_gradient(attention, "wanted", examples=3, labels=labels) > 0
    np.testing.assert_array_equal(wanted[:, 3], np.asarray(labels)[:, 3] != IGNORE)


@pytest.mark.parametrize("half", [0.0, 0.5, 1.0])
def test_canvas_masks_have_exact_counts(half):
    draw = jax.jit(partial(canvas_masks, count=64, shape=(3, 5), half=half))
    masks = np.asarray(draw(jax.random.key(0)))
    assert masks.shape == (64, 2, 15)
    assert (masks.sum(axis=(1, 2)) == 15).all()
    halves = (~masks[:, 0]).all(axis=1) & masks[:, 1].all(axis=1)
    assert halves.mean() == pytest.approx(half, abs=0.2)
    if half < 1:
        assert len(np.unique(masks[~halves], axis=0)) > 20


def test_a_repeated_cache_is_that_of_repeated_examples(models, views):
    encode = jitted(models["prefix"].encode)
    images, targets = views.images[:, :2], views.targets[:, :2]
    cache = jax.jit(partial(repeat_cache, queries=3))(encode(images, targets, kind=views.kind))
    images, targets, kind = (jnp.repeat(a, 3, axis=0) for a in (images, targets, views.kind))
    repeated = encode(images, targets, kind=kind)
    assert jax.tree.structure(cache) == jax.tree.structure(repeated)
    for ours, expected in zip(jax.tree.leaves(cache), jax.tree.leaves(repeated), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)


def test_activations_are_float32_on_a_cpu_unless_told_otherwise():
    assert compute_dtype(tiny_config()) == jnp.float32
    assert compute_dtype(tiny_config(dtype="bfloat16")) == jnp.bfloat16


def test_flat_patches_have_no_deviation():
    flat = jnp.repeat(jnp.repeat(jnp.arange(12.0).reshape(1, 2, 2, 3), 4, axis=1), 4, axis=2)
    assert float(within_patch_std(flat, 4)) == 0
    stripes = jnp.broadcast_to(jnp.tile(jnp.array([0.0, 2.0]), 4)[:, None], (1, 8, 8, 3))
    assert float(within_patch_std(stripes, 4)) == pytest.approx(1.0)


@pytest.fixture(scope="module")
def train(views):
    """Return a function that takes one step on given views: the states around it and metrics."""

    @cache
    def train(attention, shots, **changes):
        config = tiny_config(tiny_model(attention), **changes)
        optimizer = optax.sgd(1.0)  # Adam's update is compiled longer than the model
        state = init_state(fresh_params(config.model), optimizer)
        step = jax.jit(make_train_step(config, optimizer, examples=shots))
        with pytest.MonkeyPatch.context() as patch:
            # Making views takes half of a step's compilation; test_loop.py runs whole steps.
            patch.setattr(module, "make_views", lambda *args, **options: views)
            return state, *step(state, {})

    return train


@pytest.mark.parametrize(("view_size", "side"), [(0, SIZE), (8, 8)])
def test_views_are_of_their_own_size_or_of_the_models(monkeypatch, tmp_path, view_size, side):
    shown = []

    def look(model, views, *args, **options):
        shown.append({name: getattr(views, name).shape[2:4] for name in ("images", "labels")})
        return jnp.sum(model.norm.bias[...]), (jnp.ones(()), {})

    monkeypatch.setattr(module, "sample_loss", look)
    config, sources = tiny_config(view_size=view_size), tiny_sources(tmp_path)
    optimizer = optax.set_to_zero()
    state = init_state(fresh_params(config.model), optimizer)
    step = make_train_step(config, optimizer, examples=1)
    jax.eval_shape(step, state, tiny_batch(sources, config))
    assert shown == [{"images": (side, side), "labels": (side, side)}]


@pytest.mark.parametrize("attention", BOTH)
@pytest.mark.parametrize(("shots", "changes"), [(1, {}), (3, {"dtype": "bfloat16", "remat": True})])
def test_a_step_changes_every_parameter(train, attention, shots, changes):
    before, after, metrics = train(attention, shots, **changes)
    assert isinstance(after, TrainState)
    assert int(after.step) == 1
    assert set(metrics) == {"loss", "grad_norm", "patch_std"}
    for name, value in metrics.items():
        assert (value.shape, value.dtype) == ((), jnp.float32)
        assert np.isfinite(value), name
        assert value > 0, name
    averages = named(after.ema)
    for name, leaf in named(after.params).items():
        start = named(before.params)[name]
        assert leaf.dtype == jnp.float32
        assert np.isfinite(leaf).all(), name
        assert (leaf != start).any(), name
        # Nine tenths of the way at the first step.
        np.testing.assert_allclose(averages[name], 0.1 * start + 0.9 * leaf, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(("attention", "drop_path"), [("prefix", 0.0), ("mutual", 0.5)])
def test_a_batch_in_parts_makes_the_update_of_the_whole(train, attention, drop_path):
    _, whole, metrics = train(attention, 1, drop_path=drop_path)
    _, parts, others = train(attention, 1, drop_path=drop_path, accumulate=2)
    for name in ("loss", "grad_norm"):
        np.testing.assert_allclose(others[name], metrics[name], rtol=1e-5)
    for name, leaf in named(parts.params).items():
        np.testing.assert_allclose(leaf, named(whole.params)[name], rtol=1e-4, atol=1e-5)


def test_parts_count_by_their_weight():
    def loss_of(params, part):
        values, weights = part
        mean = (params * values * weights).sum() / weights.sum()
        return mean, (weights.sum(), {"mean": mean})

    values, weights = jnp.asarray([1.0, 2.0, 3.0, 4.0]), jnp.asarray([1.0, 0.0, 5.0, 2.0])
    for parts in (1, 2, 4):
        if parts == 4:
            weights = weights.at[1].set(1e-3)
        whole = mean_gradients(loss_of, jnp.ones(()), (values, weights), parts=1)
        ours = mean_gradients(loss_of, jnp.ones(()), (values, weights), parts=parts)
        for leaf, expected in zip(jax.tree.leaves(ours), jax.tree.leaves(whole), strict=True):
            np.testing.assert_allclose(leaf, expected, rtol=1e-6)


def test_an_update_that_is_not_finite_is_left_out():
    config, optimizer = tiny_config(), optax.adam(0.1)

    @jax.jit
    def step(state, batch):
        def loss_of(params, part):
            return (params["w"] * part).sum(), (jnp.ones(()), {})

        return apply_gradients(state, loss_of, batch, config, optimizer)

    before = init_state({"w": jnp.ones(3)}, optimizer)
    good, _ = step(before, jnp.ones(3))
    bad, metrics = step(good, jnp.asarray([1.0, jnp.nan, 1.0]))
    assert not np.isfinite(metrics["loss"])
    assert int(bad.step) == 2
    for part in ("params", "ema", "moments"):
        for name, leaf in named(getattr(bad, part)).items():
            np.testing.assert_array_equal(leaf, named(getattr(good, part))[name])
    assert (good.params["w"] != before.params["w"]).all()


def test_large_weights_stay_split_over_the_devices():
    config, optimizer = tiny_config(), optax.sgd(0.1)
    mesh = make_mesh()
    state = init_state({"large": jnp.ones((1024, 256)), "small": jnp.ones(5)}, optimizer)
    state = place(state, shard_params(state, mesh))

    @jax.jit
    def step(state, batch):
        def loss_of(params, part):
            return ((part @ params["large"]) ** 2).mean() + params["small"].sum(), (
                jnp.ones(()),
                {},
            )

        return apply_gradients(state, loss_of, batch, config, optimizer)

    after, _ = step(state, put_batch(np.ones((4, 1024), np.float32), mesh, rows=4))
    assert [s.data.shape for s in after.params["large"].addressable_shards] == [(512, 256)] * 2
    assert [s.data.shape for s in after.params["small"].addressable_shards] == [(5,)] * 2
    for ours, theirs in zip(jax.tree.leaves(after), jax.tree.leaves(state), strict=True):
        assert ours.sharding.is_equivalent_to(theirs.sharding, ours.ndim)


def test_frozen_parts_stay_as_they_are(train):
    before, after, _ = train("prefix", 1, frozen=("norm", "vit.blocks.0"))
    start = named(before.params)
    moved = {name for name, leaf in named(after.params).items() if (leaf != start[name]).any()}
    still = {name for name in start if name.startswith(("norm/", "vit/blocks/0/"))}
    assert still
    assert moved == start.keys() - still


def test_stochastic_depth_rises_to_its_rate_and_keeps_the_mean():
    config = tiny_config(tiny_model("mutual"), drop_path=0.4)
    masks = jnp.zeros((500, 2, 2, 4), bool)
    kept = np.asarray(draw_kept(jax.random.key(0), config, masks))
    depth = config.model.depth
    assert kept.shape == (500, 2, depth, 2, 2)
    left_out = (kept == 0).mean(axis=(0, 1))
    rates = np.linspace(0, 0.4, depth)
    np.testing.assert_allclose(
        left_out, np.broadcast_to(rates[:, None, None], left_out.shape), atol=0.06
    )
    np.testing.assert_allclose(kept.mean(axis=(0, 1)), 1, atol=0.1)
    assert draw_kept(jax.random.key(0), tiny_config(tiny_model("mutual")), masks) is None
    assert draw_kept(jax.random.key(0), tiny_config(), None) is None


@pytest.mark.parametrize(
    ("attention", "rate"), [("mutual", 1.0), ("mutual", -0.1), ("prefix", 0.1)]
)
def test_a_depth_that_cannot_be_drawn_is_refused(attention, rate):
    with pytest.raises(ValueError, match=f"drop_path {rate} must be 0, or below 1"):
        tiny_config(tiny_model(attention), drop_path=rate)


def test_what_is_drawn_depends_on_the_seed_and_the_step(monkeypatch):
    def report_keys(model, views, *args, masks, kept, **options):
        keys = jnp.concatenate([jax.random.key_data(key) for key in (views, masks, kept)])
        return jnp.sum(model.norm.bias[...]), (jnp.ones(()), {"keys": keys})

    monkeypatch.setattr(module, "make_views", lambda *args, key, **options: key)
    monkeypatch.setattr(module, "draw_masks", lambda key, *args, **options: key)
    monkeypatch.setattr(module, "draw_kept", lambda key, *args: key)
    monkeypatch.setattr(module, "sample_loss", report_keys)
    params = fresh_params(tiny_model())

    def keys(seed, number):
        state = replace(init_state(params, optax.set_to_zero()), step=jnp.asarray(number))
        step = make_train_step(tiny_config(seed=seed), optax.set_to_zero(), examples=1)
        drawn = jax.jit(lambda state: step(state, {})[1]["keys"])(state).tolist()
        assert len({*zip(drawn[::2], drawn[1::2], strict=True)}) == 3  # all are drawn apart
        return tuple(drawn)

    assert keys(0, 5) == keys(0, 5)
    assert len({keys(0, 5), keys(0, 6), keys(1, 5)}) == 3
