"""What patches are told about where a prompt is, feature by feature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from seggpt.prompts import (
    ABSENT,
    BACKGROUND,
    FIRST_CORNER,
    FOREGROUND,
    PADDING,
    SECOND_CORNER,
    Nearness,
)
from seggpt.prompts.nearness import REACHES, RIM
from tests.tiny_models import tiny_sam

SIDE = 32
SHAPE = (8, 4)  # patches of 4 by 8 pixels: rows and columns differ
CONFIG = tiny_sam(image_size=SIDE)
FEATURES = 2 * len(REACHES) + 2
BOX, MIDDLE = FEATURES - 2, FEATURES - 1


@pytest.fixture(scope="module")
def measure():
    """Return a function that measures one prompt of some slots, each a place and a label."""
    nearness = Nearness(CONFIG, rngs=nnx.Rngs(0))
    run = jax.jit(
        lambda coords, labels, shape: nearness.measure(coords, labels, shape=shape),
        static_argnums=2,
    )

    def measure(*slots, shape=SHAPE):
        coords = jnp.asarray([[at for at, _ in slots]], jnp.float32)
        return run(coords, jnp.asarray([[label for _, label in slots]]), shape)

    return measure


@pytest.fixture(scope="module")
def features(measure):
    """Return a function that gives all that is measured, by row and column of a grid."""

    def features(*slots, shape=SHAPE):
        near = measure(*slots, shape=shape)
        found = np.concatenate([*near.points, np.stack([near.box, near.middle], -1)], axis=-1)
        return found.reshape(*shape, FEATURES)

    return features


def middle(row, col):
    """Return (x, y) of a patch's middle, in pixels that are whole at their corners."""
    return ((col + 0.5) * SIDE / SHAPE[1] - 0.5, (row + 0.5) * SIDE / SHAPE[0] - 0.5)


@pytest.mark.parametrize(("label", "first"), [(FOREGROUND, 0), (BACKGROUND, len(REACHES))])
def test_a_point_is_nearest_to_its_own_patch(features, label, first):
    found = features((middle(5, 2), label))
    own = found[..., first : first + len(REACHES)]
    np.testing.assert_allclose(own[5, 2], 1, atol=1e-6)
    assert (own.reshape(-1, len(REACHES)).argmax(axis=0) == 5 * SHAPE[1] + 2).all()
    others = np.delete(found, np.s_[first : first + len(REACHES)], axis=-1)
    np.testing.assert_array_equal(others, 0)


def test_nearness_falls_as_gaussians_of_their_reach(features):
    found = features((middle(5, 2), FOREGROUND))
    for feature, reach in enumerate(REACHES):
        one_down = np.exp(-((1 / SHAPE[0]) ** 2) / (2 * reach**2))
        one_across = np.exp(-((1 / SHAPE[1]) ** 2) / (2 * reach**2))
        np.testing.assert_allclose(found[6, 2, feature], one_down, atol=1e-5)
        np.testing.assert_allclose(found[4, 2, feature], one_down, atol=1e-5)
        np.testing.assert_allclose(found[5, 1, feature], one_across, atol=1e-5)


def test_of_several_points_the_nearest_counts(features):
    points = [(middle(1, 0), FOREGROUND), (middle(6, 3), FOREGROUND), (middle(3, 1), BACKGROUND)]
    alone = [features(point) for point in points]
    np.testing.assert_allclose(features(*points), np.max(alone, axis=0), atol=1e-6)


def test_a_box_tells_inside_from_outside(features):
    # Its edges lie between patches: rows 2 to 5, columns 1 to 2.
    box = [((7.5, 7.5), FIRST_CORNER), ((23.5, 23.5), SECOND_CORNER)]
    found = features(*box)
    inside = np.zeros(SHAPE, bool)
    inside[2:6, 1:3] = True
    assert found[inside, BOX].min() > 0.9
    assert found[~inside, BOX].max() < 0.1
    np.testing.assert_array_equal(found[..., :BOX], 0)
    on_edge = features(((7.5, 9.5), FIRST_CORNER), ((23.5, 23.5), SECOND_CORNER))
    np.testing.assert_allclose(on_edge[2, 1, BOX], 0.5, atol=0.01)


def test_a_box_tells_its_middle(features):
    found = features(((7.5, 7.5), FIRST_CORNER), ((23.5, 23.5), SECOND_CORNER))[..., MIDDLE]
    # The middle of the square lies between four patches.
    np.testing.assert_allclose(found, found[::-1], atol=1e-6)
    np.testing.assert_allclose(found, found[:, ::-1], atol=1e-6)
    assert found[3, 1] == pytest.approx(found.max(), abs=1e-6)
    assert found[3, 1] > 0.5
    wide = features(((3.5, 7.5), FIRST_CORNER), ((27.5, 23.5), SECOND_CORNER))[..., MIDDLE]
    assert wide[3, 0] > found[3, 0]


def test_points_do_not_change_what_a_box_tells(features):
    box = [((7.5, 7.5), FIRST_CORNER), ((23.5, 23.5), SECOND_CORNER)]
    point = (middle(0, 3), FOREGROUND)
    both = features(point, *box)
    np.testing.assert_allclose(both, features(*box) + features(point), atol=1e-6)


@pytest.mark.parametrize("label", [ABSENT, PADDING])
def test_slots_that_mark_no_place_tell_nothing(features, label):
    at = middle(2, 2)
    np.testing.assert_array_equal(features((at, label), (at, label)), 0)
    point = (middle(6, 0), BACKGROUND)
    np.testing.assert_array_equal(features((at, label), point), features(point))


def test_where_nothing_is_marked_gradients_are_numbers():
    graphdef, params = nnx.split(Nearness(CONFIG, rngs=nnx.Rngs(0)))

    @jax.jit
    @jax.grad
    def gradient(params):
        nearness = nnx.merge(graphdef, params)
        near = nearness.measure(jnp.zeros((1, 2, 2)), jnp.full((1, 2), ABSENT), shape=SHAPE)
        return nearness(near).sum()

    assert all(np.isfinite(grad).all() for grad in jax.tree.leaves(gradient(params)))


def test_finer_grids_tell_the_same_places(features):
    point = ((10.0, 20.0), FOREGROUND)
    fine = features(point, shape=(40, 20))
    coarse = features(point)
    # The middle of a coarse patch is the middle of one of its five by five.
    np.testing.assert_allclose(fine[2::5, 2::5], coarse, atol=1e-5)


def guess(near, mask=None):
    return np.asarray(near.prior(mask, patch=4)).reshape(SHAPE)


def test_without_a_mask_what_is_near_is_guessed_to_be_foreground(measure):
    found = guess(measure((middle(5, 2), FOREGROUND), (middle(1, 0), BACKGROUND)))
    assert found[5, 2] == pytest.approx(1, abs=1e-6)
    assert found.argmax() == 5 * SHAPE[1] + 2
    assert found[1, 0] == 0
    nothing = guess(measure((middle(5, 2), ABSENT)))
    np.testing.assert_array_equal(nothing, 0)


def test_a_box_is_guessed_to_be_full_in_its_middle_but_for_background_points(measure):
    box = [((7.5, 7.5), FIRST_CORNER), ((23.5, 23.5), SECOND_CORNER)]
    found = guess(measure(*box, (middle(4, 1), BACKGROUND)))
    assert found[3, 2] > found[2, 2] > RIM * 0.9
    assert found[3, 2] > 0.6
    assert found[4, 1] == 0
    assert found[:, [0, 3]].max() < 0.1


def test_a_mask_is_believed_but_where_points_say_else(measure):
    logits = np.random.default_rng(0).normal(size=(1, 4 * SHAPE[0], 4 * SHAPE[1]))
    chances = 1 / (1 + np.exp(-logits[0]))
    means = chances.reshape(SHAPE[0], 4, SHAPE[1], 4).mean(axis=(1, 3))
    mask = jnp.asarray(logits, jnp.float32)
    near = measure((middle(6, 3), FOREGROUND), (middle(1, 0), BACKGROUND))
    found = guess(near, mask)
    assert found[6, 3] == pytest.approx(1, abs=1e-6)
    assert found[1, 0] == 0
    np.testing.assert_allclose(found[3:5], means[3:5], atol=1e-3)
    np.testing.assert_allclose(guess(measure((middle(0, 0), ABSENT)), mask), means, atol=1e-5)
    box = [((7.5, 7.5), FIRST_CORNER), ((23.5, 23.5), SECOND_CORNER)]
    np.testing.assert_allclose(guess(measure(*box), mask), means, atol=1e-5)  # the mask knows more
