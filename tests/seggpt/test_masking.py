import jax
import numpy as np
import pytest
from scipy import ndimage

from seggpt.masking import block_mask, half_mask


@pytest.mark.parametrize("shape", [(8, 4), (56, 28), (5, 7)])
@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_exactly_so_many_patches_are_masked(shape: tuple[int, int], share: float) -> None:
    count = int(shape[0] * shape[1] * share)
    keys = jax.random.split(jax.random.key(0), 20)
    masks = jax.jit(jax.vmap(lambda key: block_mask(key, shape, count=count)))(keys)
    np.testing.assert_array_equal(np.asarray(masks).sum(axis=(1, 2)), count)


def test_masks_are_blocks_and_differ() -> None:
    shape = (56, 28)
    keys = jax.random.split(jax.random.key(0), 10)
    masks = np.asarray(jax.jit(jax.vmap(lambda key: block_mask(key, shape, count=784)))(keys))
    assert len(np.unique(masks.reshape(10, -1), axis=0)) == 10
    # As many single patches at random would fall into over a hundred pieces.
    assert np.mean([ndimage.label(mask)[1] for mask in masks]) < 40  # pyright: ignore[reportIndexIssue]


def test_half_masks_hide_the_query_and_nothing_else() -> None:
    mask = np.asarray(half_mask((6, 3)))
    assert not mask[:3].any()
    assert mask[3:].all()
