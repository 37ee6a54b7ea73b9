import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seggpt.losses import balanced_weights, smooth_l1


def pictures(seed: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), (2, 4, 4, 3))


def test_unweighted_pixels_do_not_change_the_loss() -> None:
    predicted, target = pictures(0), pictures(1)
    weights = jnp.zeros((2, 4, 4)).at[:, :2].set(1.0)
    loss = smooth_l1(predicted, target, weights, beta=0.5)
    moved = smooth_l1(predicted.at[:, 2:].add(9.0), target, weights, beta=0.5)
    assert loss == moved
    grad = jax.grad(lambda p: smooth_l1(p, target, weights, beta=0.5))(predicted)
    assert (grad[:, 2:] == 0).all()
    assert (grad[:, :2] != 0).any()


@pytest.mark.torch
@pytest.mark.parametrize("beta", [0.01, 0.5])
def test_loss_equals_torch(beta: float) -> None:
    torch = pytest.importorskip("torch")
    predicted, target = np.asarray(pictures(0)), np.asarray(pictures(1))
    want = torch.nn.functional.smooth_l1_loss(
        torch.tensor(predicted), torch.tensor(target), beta=beta
    )
    got = smooth_l1(jnp.asarray(predicted), jnp.asarray(target), jnp.ones((2, 4, 4)), beta=beta)
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_loss_is_quadratic_near_zero_and_linear_far_away() -> None:
    weights = jnp.ones((1, 1, 1))
    zero = jnp.zeros((1, 1, 1, 3))
    np.testing.assert_allclose(smooth_l1(zero + 0.1, zero, weights, beta=1.0), 0.005, rtol=1e-5)
    np.testing.assert_allclose(smooth_l1(zero + 3.0, zero, weights, beta=1.0), 2.5, rtol=1e-5)


def test_nothing_to_learn_from_is_no_loss() -> None:
    assert smooth_l1(pictures(0), pictures(1), jnp.zeros((2, 4, 4)), beta=0.5) == 0


def test_balanced_labels_count_alike_and_ignored_pixels_not_at_all() -> None:
    labels = jnp.zeros((1, 10, 10), int).at[0, :2].set(1).at[0, 2, :5].set(2).at[0, 9].set(255)
    weights = balanced_weights(labels, labels != 255, classes=2, floor=0.01)
    np.testing.assert_allclose(weights.mean(), 1, rtol=1e-5)
    mass = [float(weights[labels == label].sum()) for label in (0, 1, 2)]
    np.testing.assert_allclose(mass, mass[0], rtol=1e-5)
    assert (weights[labels == 255] == 0).all()


def test_a_few_pixels_do_not_outweigh_the_rest() -> None:
    labels = jnp.zeros((1, 20, 20), int).at[0, 0, 0].set(1)
    weights = balanced_weights(labels, labels >= 0, classes=1, floor=0.05)
    np.testing.assert_allclose(weights[0, 0, 0] / weights[0, 1, 1], (399 / 400) / 0.05, rtol=1e-4)


def test_power_zero_weighs_every_pixel_alike() -> None:
    labels = jnp.zeros((1, 4, 4), int).at[0, 0].set(1)
    weights = balanced_weights(labels, labels >= 0, classes=1, floor=0.05, power=0.0)
    np.testing.assert_allclose(weights, 1, rtol=1e-6)
