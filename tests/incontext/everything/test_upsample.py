"""Masks in the size of their picture, against the resizing matrices one by one."""

import jax.numpy as jnp
import numpy as np
import pytest

from incontext.everything.upsample import Enlarger
from seggpt.frame import Frame


@pytest.mark.parametrize("patch", [2, 4, 16])
@pytest.mark.parametrize("size", [(40, 60), (90, 30), (700, 300), (5, 5)])
def test_masks_and_stability_are_those_of_the_full_logits(size, patch):
    grid = 12
    frame = Frame.in_square(size, patch * grid)
    enlarger = Enlarger(frame, cell=4, patch=patch)
    rows, cols = (4 * count for count in enlarger.shape)
    rng = np.random.default_rng(0)
    square = rng.normal(size=(5, 3, 4 * grid, 4 * grid)).astype(np.float32)
    prompts, which = np.array([0, 4, 2]), np.array([2, 0, 1])
    found = list(enlarger.masks(jnp.asarray(square[..., :rows, :cols]), prompts, which, offset=0.5))
    down, across = frame.upsampling((4 * grid, 4 * grid))
    for (mask, stability), prompt, place in zip(found, prompts, which, strict=True):
        logits = down @ square[prompt, place] @ across.T
        sure = np.abs(logits) > 1e-5
        np.testing.assert_array_equal(mask[sure], (logits > 0)[sure])
        assert stability == pytest.approx((logits > 0.5).sum() / (logits > -0.5).sum(), abs=1e-3)


def test_only_the_patches_of_the_picture_are_drawn():
    for size, shape in (((30, 60), (8, 12)), ((60, 60), (12, 12))):
        assert Enlarger(Frame.in_square(size, 192), cell=4, patch=16).shape == shape


def test_all_patches_of_a_picture_that_fills_what_is_seen_are_drawn():
    assert Enlarger(Frame.filled((30, 60), (8 * 14, 6 * 14)), cell=7, patch=14).shape == (8, 6)


def test_a_mask_of_nothing_has_no_stability():
    enlarger = Enlarger(Frame.in_square((9, 9), 16), cell=4, patch=4)
    low = jnp.full((1, 1, 16, 16), -5.0)
    ((mask, stability),) = enlarger.masks(low, np.array([0]), np.array([0]), offset=1.0)
    assert not mask.any()
    assert stability == 0.0
