"""Views are crops of their picture, and labels go where the pixels go."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from incontext.tune.views import change_colors, cut_view


def test_labels_follow_the_pixels():
    rng = np.random.default_rng(0)
    class_ids = np.kron(rng.integers(0, 2, (4, 4)), np.ones((12, 12))).astype(np.uint8)
    image = np.repeat(class_ids[..., None] * 255, 3, axis=2).astype(np.uint8)
    cut = jax.jit(partial(cut_view, size=24, scale=0.3))
    for seed in range(10):
        pixels, labels = cut(jax.random.key(seed), jnp.asarray(image), jnp.asarray(class_ids))
        sure = np.abs(np.asarray(pixels)[..., 0] - 0.5) > 0.4
        np.testing.assert_array_equal(
            (np.asarray(pixels)[..., 0] > 0.5)[sure], np.asarray(labels)[sure] == 1
        )


def test_turned_views_show_a_picture_in_every_way_with_its_labels():
    class_ids = np.array([[0, 0], [1, 2]], np.uint8).repeat(12, axis=0).repeat(12, axis=1)
    image = np.repeat(class_ids[..., None] * 120, 3, axis=2)
    cut = jax.jit(partial(cut_view, size=24, scale=1.0, turns=True))
    seen = set()
    for seed in range(60):
        pixels, labels = cut(jax.random.key(seed), jnp.asarray(image), jnp.asarray(class_ids))
        near = np.round(np.asarray(pixels)[4::16, 4::16, 0] * 255 / 120).astype(int)
        np.testing.assert_array_equal(near, np.asarray(labels)[4::16, 4::16])
        seen.add(tuple(near.ravel().tolist()))
    assert len(seen) == 8


def test_views_differ_by_key_and_cover_at_least_their_share():
    ramp = np.broadcast_to(np.arange(48)[:, None, None] * 5, (48, 48, 3)).astype(np.uint8)
    class_ids = jnp.zeros((48, 48), jnp.uint8)
    cut = jax.vmap(lambda key: cut_view(key, jnp.asarray(ramp), class_ids, size=12, scale=0.5)[0])
    tops = np.asarray(cut(jax.random.split(jax.random.key(0), 50)))[:, [0, -1], 0, 0] * 51
    heights = np.abs(tops[:, 1] - tops[:, 0]) / 48 * 12 / 11
    assert heights.min() > np.sqrt(0.5 / (4 / 3)) - 0.1
    assert len(np.unique(tops[:, 0].round(3))) > 10


def test_colours_change_by_no_more_than_asked():
    image = jnp.asarray(np.random.default_rng(0).random((6, 6, 3)), jnp.float32)
    keys = jax.random.split(jax.random.key(0), 20)
    same = jax.vmap(lambda key: change_colors(key, image, amount=0.0))(keys)
    np.testing.assert_allclose(same, np.broadcast_to(image, same.shape), atol=1e-6)
    changed = np.asarray(jax.vmap(lambda key: change_colors(key, image, amount=0.3))(keys))
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert len(np.unique(changed[:, 0, 0, 0].round(4))) > 10
