import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from seggpt import lookup as module
from seggpt.canvas import denormalize, normalize
from seggpt.lookup import Lookup

SIZE = 16
RED, BLUE = jnp.asarray([0.8, 0.1, 0.1]), jnp.asarray([0.1, 0.2, 0.9])


@pytest.fixture(scope="module")
def model() -> Lookup:
    return Lookup(rngs=nnx.Rngs(0))


def noise(seed: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), (*shape, SIZE, SIZE, 3))


def test_what_is_found_is_a_kernel_estimate(model):
    images, targets, query = noise(0, 2, 1), noise(1, 2, 1), noise(2, 2)
    keys, values = model.encode(images, targets)
    found = model.find((keys, values), query).reshape(2, 64, 4, 4)
    keys, bias = keys[..., :-1], keys[..., -1] + 0.5 * (keys[..., :-1] ** 2).sum(axis=-1)
    own = model.encode(query[:, None], targets)[0][..., :-1]
    squares = ((own[:, :, None] - keys[:, None]) ** 2).sum(axis=-1)
    weights = jax.nn.softmax(bias[:, None] - 0.5 * squares, axis=2)
    expected = jnp.einsum("bnmh,bmhc->bnhc", weights, values)
    np.testing.assert_allclose(found[..., :3], expected, atol=1e-4)


def test_a_fresh_lookup_finds_the_paint_of_a_colour(model):
    left = jnp.arange(SIZE) < SIZE // 2
    image = jnp.where(left[None, :, None], RED, BLUE) * jnp.ones((SIZE, SIZE, 1))
    paint = jnp.where(left[None, :, None], 1.0, 0.0) * jnp.ones((SIZE, SIZE, 3))
    found = model.find(
        model.encode(normalize(image)[None, None], normalize(paint)[None, None]),
        normalize(image.swapaxes(0, 1))[None],
    )
    colors = denormalize(found.reshape(8, 8, 4, 4)[..., :3])
    np.testing.assert_allclose(colors[:3], 1.0, atol=0.02)
    np.testing.assert_allclose(colors[-3:], 0.0, atol=0.02)


def test_a_rare_colour_counts_for_more_than_its_pixels(model):
    image = jnp.broadcast_to(RED, (SIZE, SIZE, 3))  # looks say nothing
    paint = jnp.zeros((SIZE, SIZE, 3)).at[2:-2, 6:8].set(1.0)  # a sixth of what is not border
    found = model.find(
        model.encode(normalize(image)[None, None], normalize(paint)[None, None]),
        normalize(image)[None],
    )
    share = denormalize(found.reshape(8, 8, 4, 4)[..., :3])[4, 4].mean()
    assert share == pytest.approx(1 / (1 + 5**0.5), abs=0.03)  # the root of the odds


def test_examples_repeated_or_in_another_order_change_nothing(model):
    images, targets, query = noise(0, 1, 3), noise(1, 1, 3), noise(2, 1)
    found = model.find(model.encode(images, targets), query)
    for order in ([2, 0, 1], [0, 1, 2, 0, 1, 2]):
        again = model.find(model.encode(images[:, order], targets[:, order]), query)
        np.testing.assert_allclose(found, again, atol=1e-4)


def test_parts_change_nothing(model, monkeypatch):
    images, targets, query = noise(0, 2, 2), noise(1, 2, 2), noise(2, 2)
    whole = model.find(model.encode(images, targets), query)
    for most in (5000, 1):
        monkeypatch.setattr(module, "MOST", most)
        np.testing.assert_allclose(
            model.find(model.encode(images, targets), query), whole, atol=1e-4
        )


def test_parts_are_equal_and_within_the_bound(monkeypatch):
    monkeypatch.setattr(module, "MOST", 1000)
    assert module._parts(64, 10) == 1
    assert module._parts(64, 100) == 8
    assert module._parts(64, 5000) == 64


def test_nearness_falls_with_the_distance(model):
    image = normalize(jnp.broadcast_to(RED, (SIZE, SIZE, 3)))
    found = model.encode(image[None, None], image[None, None])
    near = [
        float(model.find(found, normalize(jnp.clip(RED + d, 0, 1)) + image[None] * 0)[0, 4, 4, 3])
        for d in (0.0, 0.02, 0.05)
    ]
    assert near[0] > near[1] > near[2] > 0
