import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.train.tiny import named, tiny_model
from train.config import OptimConfig
from train.optim import decay_mask, depth_scales, make_optimizer, make_schedule
from train.state import init_params


@pytest.fixture(scope="module")
def params():
    """Random weights without one that is zero."""
    shapes = jax.eval_shape(lambda: init_params(tiny_model(), jax.random.key(0)))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda a: jnp.asarray(rng.uniform(0.5, 1, a.shape), a.dtype), shapes)


def update(params, grads, **changes):
    optimizer = make_optimizer(OptimConfig(warmup=0, **changes), steps=10, depth=2)
    run = jax.jit(lambda p, g: optimizer.update(g, optimizer.init(p), p)[0])
    return named(run(params, grads))


def test_the_rate_rises_to_its_peak_and_falls_to_zero():
    schedule = make_schedule(OptimConfig(lr=0.5, warmup=10), steps=100)
    rates = [np.asarray(schedule(step)).item() for step in range(101)]
    assert rates[0] == 0
    assert rates[10] == max(rates) == 0.5
    assert rates[100] == pytest.approx(0, abs=1e-7)
    assert np.all(np.diff(rates[:11]) > 0)
    assert np.all(np.diff(rates[10:]) < 0)
    assert rates[55] == pytest.approx(0.25)


@pytest.mark.parametrize("steps", [1, 2, 20])
def test_short_runs_warm_up_for_half_their_steps_at_most(steps):
    schedule = make_schedule(OptimConfig(lr=0.5, warmup=500), steps=steps)
    assert np.asarray(schedule(steps // 2)) == 0.5
    assert np.asarray(schedule(steps)) == pytest.approx(0, abs=1e-7)


def test_only_matrices_decay(params):
    mask = named(decay_mask(params))
    assert mask["vit/blocks/0/attn/qkv/kernel"]
    assert mask["decoder/conv/kernel"]
    for name, leaf in named(params).items():
        table = name.endswith(("pos_embed", "rel_pos_h", "rel_pos_w"))
        assert mask[name] == (leaf.ndim > 1 and not table)
    # Without a gradient, what decays shrinks towards zero and all else stays.
    still = jax.tree.map(jnp.zeros_like, params)
    for name, change in update(params, still, lr=0.1, weight_decay=0.5).items():
        expected = -0.1 * 0.5 * named(params)[name] if mask[name] else 0.0
        np.testing.assert_allclose(change, np.broadcast_to(expected, change.shape), rtol=1e-5)


def test_deeper_blocks_have_larger_rates(params):
    scales = named(depth_scales(params, 0.5, 2))
    expected = {"patch_embed": 0.25, "pos_embed": 0.25, "blocks/0": 0.5, "blocks/1": 1.0}
    for name, scale in scales.items():
        [level] = [v for k, v in expected.items() if f"vit/{k}" in name] or [1.0]
        assert scale == level, name
    assert {float(scale) for scale in scales.values()} == {0.25, 0.5, 1.0}


def test_rates_fall_in_a_vit_alone():
    block = {"blocks": [jnp.zeros(()), jnp.zeros(())]}
    scales = depth_scales({"encoder": {"vit": block}, "model": block}, 0.5, 2)
    assert scales == {"encoder": {"vit": {"blocks": [0.5, 1.0]}}, "model": {"blocks": [1.0, 1.0]}}


def test_updates_follow_the_depth_scales(params):
    even = update(params, params, lr=0.1, weight_decay=0.5)
    for name, change in update(params, params, lr=0.1, weight_decay=0.5, layer_decay=0.5).items():
        scale = named(depth_scales(params, 0.5, 2))[name]
        np.testing.assert_allclose(change, scale * even[name], rtol=1e-6)


def test_a_few_steps_lower_the_loss_of_a_toy_problem(params):
    config = OptimConfig(lr=0.05, warmup=0, weight_decay=0.0)
    optimizer = make_optimizer(config, steps=10, depth=2)

    def loss_of(params):
        return sum(jnp.sum((leaf - 0.3) ** 2) for leaf in jax.tree.leaves(params))

    @jax.jit
    def step(params, moments):
        loss, grads = jax.value_and_grad(loss_of)(params)
        updates, moments = optimizer.update(grads, moments, params)
        return optax.apply_updates(params, updates), moments, loss

    moments, losses = optimizer.init(params), []
    for _ in range(8):
        params, moments, loss = step(params, moments)
        losses.append(float(loss))
    assert np.all(np.diff(losses) < 0)
    assert losses[-1] < 0.5 * losses[0]
