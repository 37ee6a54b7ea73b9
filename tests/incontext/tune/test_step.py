"""The loss beside the distance of colours: 0 for what is right, blind to what is not known."""

import jax.numpy as jnp
import numpy as np

from incontext.tune.step import soft_iou_loss
from seggpt.canvas import normalize
from seggpt.palette import IGNORE, paint, palette

COLORS = jnp.asarray(palette(2))


def make_places():
    places = np.zeros((1, 8, 8), np.int32)
    places[0, 1:5, 2:6], places[0, 6:, :3] = 1, 2
    return jnp.asarray(places)


def test_right_colours_have_hardly_any_loss_and_none_have_much():
    places = make_places()
    right, nothing = normalize(paint(places, COLORS)), normalize(jnp.zeros((1, 8, 8, 3)))
    assert soft_iou_loss(right, places, COLORS) < 0.25  # white and yellow are torn a little
    assert soft_iou_loss(nothing, places, COLORS) > 0.9


def test_labels_count_alike_however_few_pixels_they_have():
    places = make_places()
    losses = [
        float(soft_iou_loss(normalize(paint(places * (places != label), COLORS)), places, COLORS))
        for label in (1, 2)
    ]
    np.testing.assert_allclose(losses[0], losses[1], atol=0.05)


def test_ignored_pixels_do_not_change_the_loss():
    places = make_places().at[0, :, 6:].set(IGNORE)
    painted = normalize(paint(places, COLORS))
    other = painted.at[0, :, 6:].set(3.0)
    assert soft_iou_loss(painted, places, COLORS) == soft_iou_loss(other, places, COLORS)
