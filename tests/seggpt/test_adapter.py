"""An adapter starts by correcting nothing, and can learn to correct what is painted wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from seggpt.adapter import FLOOR, STRIDE, adapt, fresh_adapter


def draw(seed, *, planes=3, looks=2, side=STRIDE):
    rng = np.random.default_rng(seed)
    chances = rng.dirichlet(np.ones(planes), (2, side, side, looks)).astype(np.float32)
    return jnp.asarray(rng.normal(size=(2, side, side, 3)), jnp.float32), jnp.asarray(chances)


def mean_logs(chances):
    return np.log(np.maximum(chances, FLOOR)).mean(axis=-2)


@pytest.mark.parametrize(("planes", "looks"), [(2, 1), (5, 3)])
def test_a_fresh_adapter_corrects_nothing(planes, looks):
    image, chances = draw(0, planes=planes, looks=looks, side=2 * STRIDE)
    logits = adapt(fresh_adapter(planes, looks, seed=0), image, chances)
    np.testing.assert_allclose(logits, mean_logs(chances), atol=1e-6)


def test_it_can_tell_looks_apart():
    """Their order matters, though what is corrected, their mean, is the same."""
    image, chances = draw(4)
    rng = np.random.default_rng(5)
    params = fresh_adapter(3, 2, seed=0)
    for name in ("hint", "head"):
        kernel = params[name]["kernel"]
        params[name]["kernel"] = rng.normal(size=kernel.shape).astype(np.float32)
    logits = adapt(params, image, chances)
    swapped = adapt(params, image, chances[..., ::-1, :])
    assert float(np.abs(logits - swapped).max()) > 0.1


def test_it_learns_what_the_picture_shows_and_the_painting_does_not():
    image, chances = draw(1, planes=2, side=2 * STRIDE)
    truth = (image[..., 0] > 0).astype(int)

    def loss(params):
        logs = jax.nn.log_softmax(adapt(params, image, chances))
        return -jnp.take_along_axis(logs, truth[..., None], axis=-1).mean()

    params = fresh_adapter(2, 2, seed=0)
    adam = optax.adam(3e-3)
    step = jax.jit(jax.value_and_grad(loss))
    state, losses = adam.init(params), []
    for _ in range(60):
        value, grads = step(params)
        updates, state = adam.update(grads, state)
        params = optax.apply_updates(params, updates)
        losses.append(float(value))
    assert losses[-1] < 0.5 * losses[0]


def test_pictures_of_a_batch_do_not_see_each_other():
    image, chances = draw(2)
    rng = np.random.default_rng(3)
    params = fresh_adapter(3, 2, seed=0)
    params["head"]["kernel"] = rng.normal(size=params["head"]["kernel"].shape).astype(np.float32)
    both = adapt(params, image, chances)
    alone = adapt(params, image[1:], chances[1:])
    assert float(np.abs(both - mean_logs(chances)).max()) > 0.1
    np.testing.assert_allclose(both[1:], alone, atol=1e-4)
