"""What a model sees of a picture, and the way back."""

import jax
import numpy as np
import pytest

from seggpt.frame import Frame
from seggpt.resize import bilinear_matrix


@pytest.mark.parametrize(
    ("size", "inner"),
    [
        ((480, 640), (768, 1024)),
        ((1000, 1500), (683, 1024)),
        ((3, 2000), (2, 1024)),
        ((7, 7), (1024,) * 2),
    ],
)
def test_the_longer_side_fills_the_square(size, inner):
    frame = Frame.in_square(size, 1024)
    assert (frame.inner, frame.outer) == (inner, (1024, 1024))


def test_points_scale_by_axis():
    frame = Frame.in_square((1000, 1500), 1024)
    placed = frame.place(np.array([[1500.0, 1000.0], [0.0, 500.0]]))
    np.testing.assert_allclose(placed, [[1024, 683], [0, 341.5]])


@pytest.mark.parametrize(("old", "new"), [(4, 16), (5, 7), (6, 6)])
def test_growing_equals_jax_without_antialiasing(old, new):
    values = np.random.default_rng(0).normal(size=(old, 3)).astype(np.float32)
    want = jax.image.resize(values, (new, 3), "bilinear", antialias=False)
    np.testing.assert_allclose(bilinear_matrix(old, new) @ values, want, atol=1e-5)


def test_shrinking_takes_two_neighbours_and_smooths_nothing():
    """4 to 2: centres at 0.5 and 2.5, so each is the mean of two, and three of eight are 0."""
    np.testing.assert_allclose(bilinear_matrix(4, 2), [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])
    assert (bilinear_matrix(100, 10) > 0).sum(axis=1).max() <= 2


@pytest.mark.parametrize("size", [(30, 50), (7, 5), (64, 64)])
def test_both_steps_in_one_are_the_two_steps(size):
    """Mask to square, cut, square to picture, as SAM does it."""
    frame = Frame.in_square(size, 32)
    low = np.random.default_rng(1).normal(size=(8, 8)).astype(np.float32)
    square = jax.image.resize(low, (32, 32), "bilinear", antialias=False)
    height, width = frame.inner
    cut = np.asarray(square)[:height, :width]
    want = bilinear_matrix(height, size[0]) @ cut @ bilinear_matrix(width, size[1]).T
    rows, cols = frame.upsampling((8, 8))
    np.testing.assert_allclose(rows @ low @ cols.T, want, atol=1e-5)


OUTER = (32, 48)


@pytest.mark.parametrize("size", [(30, 50), (7, 5), (64, 64)])
def test_a_picture_may_fill_all_that_is_seen(size):
    frame = Frame.filled(size, OUTER)
    assert frame.inner == frame.outer == OUTER
    corners = np.array([[0.0, 0.0], [size[1], size[0]], [size[1] / 2, size[0] / 4]])
    np.testing.assert_allclose(frame.place(corners), [[0, 0], [48, 32], [24, 8]])


@pytest.mark.parametrize("size", [(30, 50), (7, 5)])
def test_pixels_that_fill_it_keep_their_centres(size):
    """Encoders of prompts add half a pixel of what is seen, so the same share of it is meant."""
    pixels = np.array([[0.0, 0.0], [size[1] - 1, size[0] - 1], [2, 3]])
    placed = Frame.filled(size, OUTER).place_pixels(pixels)
    np.testing.assert_allclose((placed + 0.5) / (48, 32), (pixels + 0.5) / size[::-1], atol=1e-6)
    assert placed.dtype == np.float32


def test_pixels_in_a_square_are_placed_as_sam_does():
    frame = Frame.in_square((30, 50), 32)
    pixels = np.array([[[0.0, 0.0], [49, 29]], [[2, 3], [7, 7]]])
    np.testing.assert_array_equal(frame.place_pixels(pixels), frame.place(pixels))


@pytest.mark.parametrize("size", [(30, 50), (40, 64)])
def test_a_mask_that_fills_it_is_cut_nowhere(size):
    low = np.random.default_rng(1).normal(size=(8, 12)).astype(np.float32)
    seen = jax.image.resize(low, OUTER, "bilinear", antialias=False)
    want = bilinear_matrix(32, size[0]) @ np.asarray(seen) @ bilinear_matrix(48, size[1]).T
    rows, cols = Frame.filled(size, OUTER).upsampling((8, 12))
    np.testing.assert_allclose(rows @ low @ cols.T, want, atol=1e-5)
    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(cols.sum(axis=1), 1, atol=1e-6)
