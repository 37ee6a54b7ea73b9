"""The prompt encoder, rule by rule."""

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
    SLOTS,
    PromptEncoder,
    make_slots,
)
from tests.tiny_models import SIDE, tiny_sam

WIDTH = 8
CONFIG = tiny_sam()
NONE = np.zeros((1, 0, 2), np.float32), np.zeros((1, 0), np.int32)


@pytest.fixture(scope="module")
def encoder() -> PromptEncoder:
    return PromptEncoder(CONFIG, rngs=nnx.Rngs(0))


def fourier(encoder, x, y):
    """The features of a place in 0..1, spelled out."""
    frequencies = np.asarray(encoder.frequencies[...])
    angles = 2 * np.pi * ((2 * x - 1) * frequencies[0] + (2 * y - 1) * frequencies[1])
    return np.concatenate([np.sin(angles), np.cos(angles)])


def embed(encoder, label, at=(3.0, 5.0)):
    coords = jnp.asarray([[at]], jnp.float32)
    tokens, present = encoder.points(coords, jnp.asarray([[label]]))
    return np.asarray(tokens[0, 0]), bool(present[0, 0])


@pytest.mark.parametrize(
    ("label", "token"),
    [
        (BACKGROUND, "background"),
        (FOREGROUND, "foreground"),
        (FIRST_CORNER, "first_corner"),
        (SECOND_CORNER, "second_corner"),
    ],
)
def test_a_point_is_its_pixels_centre_and_its_labels_token(encoder, label, token):
    found, present = embed(encoder, label)
    want = fourier(encoder, 3.5 / SIDE, 5.5 / SIDE) + np.asarray(getattr(encoder, token)[...])
    np.testing.assert_allclose(found, want, atol=1e-5)
    assert present


def test_padding_has_no_place(encoder):
    found, present = embed(encoder, PADDING)
    np.testing.assert_array_equal(found, encoder.not_a_point[...])
    assert present  # it is a trained token, and takes part


def test_an_absent_slot_is_finite_and_not_present(encoder):
    found, present = embed(encoder, ABSENT)
    assert np.isfinite(found).all()
    assert not present


def test_the_grid_lists_patch_centres_row_by_row(encoder):
    places = encoder.grid((2, 4), patch=SIDE // 4)[0]
    np.testing.assert_allclose(places[0], fourier(encoder, 0.125, 0.125), atol=1e-5)
    np.testing.assert_allclose(places[3], fourier(encoder, 0.875, 0.125), atol=1e-5)
    np.testing.assert_allclose(places[4], fourier(encoder, 0.125, 0.375), atol=1e-5)
    moved = encoder.grid((2, 4), patch=SIDE // 4, origin=jnp.asarray([0.0, SIDE / 2]))[0]
    np.testing.assert_allclose(moved[0], fourier(encoder, 0.125, 0.625), atol=1e-5)


def test_without_a_mask_every_patch_gets_one_token(encoder):
    assert encoder.dense(None).shape == (1, 1, WIDTH)
    np.testing.assert_array_equal(encoder.dense(None)[0, 0], encoder.no_mask[...])


def test_a_patch_of_a_mask_depends_on_its_own_pixels_alone(encoder):
    mask = jnp.zeros((1, SIDE, SIDE))
    before = encoder.dense(mask)
    after = encoder.dense(mask.at[0, 5, 9].set(3.0))
    changed = np.abs(np.asarray(after - before)).max(axis=(0, 2)) > 1e-6
    assert np.flatnonzero(changed).tolist() == [1 * 4 + 2]  # 4 x 4 patches of 4 x 4 pixels


def test_the_fourier_matrix_is_not_trained(encoder):
    graphdef, params = nnx.split(encoder)

    def total(params):
        tokens, _ = nnx.merge(graphdef, params).points(jnp.ones((1, 1, 2)), jnp.ones((1, 1), int))
        return tokens.sum()

    grads = nnx.as_pure(jax.grad(total, allow_int=True)(params))
    assert not np.any(grads["frequencies"])
    assert np.any(grads["foreground"])


def points(count):
    return np.ones((1, count, 2), np.float32), np.ones((1, count), np.int32)


def test_points_alone_are_followed_by_one_padding_point():
    labels = make_slots(*points(2), tight=True).labels
    assert labels.tolist() == [[FOREGROUND, FOREGROUND, PADDING]]


def test_a_box_is_two_corners_and_needs_no_padding_point():
    box = np.array([[1, 2, 3, 4]], np.float32)
    alone = make_slots(*NONE, box, tight=True)
    assert alone.labels.tolist() == [[FIRST_CORNER, SECOND_CORNER]]
    assert alone.coords.tolist() == [[[1, 2], [3, 4]]]
    both = make_slots(*points(1), box, tight=True)
    assert both.labels.tolist() == [[FOREGROUND, FIRST_CORNER, SECOND_CORNER]]


def test_nothing_at_all_is_no_token():
    assert make_slots(*NONE, tight=True).labels.shape == (1, 0)


@pytest.mark.parametrize(("count", "slots"), [(0, 4), (1, 4), (3, 4), (4, 20), (19, 20), (20, 36)])
def test_one_shape_serves_all_usual_prompts(count, slots):
    assert SLOTS == 4
    made = make_slots(*points(count))
    assert made.labels.shape == (1, slots)
    used = count + (count > 0)
    assert (made.labels[0, used:] == ABSENT).all()
    assert (made.labels[0, :used] != ABSENT).all()
