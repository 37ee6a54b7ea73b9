"""An adapter starts by correcting nothing, and can learn to correct what is painted wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from seggpt.adapter import FLOOR, STRIDE, adapt, fresh_adapter


def draw(seed, *, planes=3, side=STRIDE):
    rng = np.random.default_rng(seed)
    chances = rng.dirichlet(np.ones(planes), (2, side, side)).astype(np.float32)
    return jnp.asarray(rng.normal(size=(2, side, side, 3)), jnp.float32), jnp.asarray(chances)


@pytest.mark.parametrize("planes", [2, 5])
def test_a_fresh_adapter_corrects_nothing(planes):
    image, chances = draw(0, planes=planes, side=2 * STRIDE)
    logits = adapt(fresh_adapter(planes, seed=0), image, chances)
    np.testing.assert_allclose(logits, np.log(np.maximum(chances, FLOOR)), atol=1e-6)


def test_it_learns_what_the_picture_shows_and_the_painting_does_not():
    image, chances = draw(1, planes=2, side=2 * STRIDE)
    truth = (image[..., 0] > 0).astype(int)

    def loss(params):
        logs = jax.nn.log_softmax(adapt(params, image, chances))
        return -jnp.take_along_axis(logs, truth[..., None], axis=-1).mean()

    params = fresh_adapter(2, seed=0)
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
    params = fresh_adapter(3, seed=0)
    params["head"]["kernel"] = rng.normal(size=params["head"]["kernel"].shape).astype(np.float32)
    both = adapt(params, image, chances)
    alone = adapt(params, image[1:], chances[1:])
    assert float(np.abs(both - np.log(np.maximum(chances, FLOOR))).max()) > 0.1
    np.testing.assert_allclose(both[1:], alone, atol=1e-4)
