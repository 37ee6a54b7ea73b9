from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import maximum_filter, minimum_filter

from data.augment import choose_box, cut, jitter, make_views, random_box, stitch_views, view
from data.config import AugmentConfig, DataConfig
from seggpt.canvas import denormalize
from seggpt.palette import IGNORE

OLD, NEW = 32, 24
UNTOUCHED = AugmentConfig(
    scale=(1.0, 1.0),
    aspect=1.0,
    tries=1,
    flip=0.0,
    upside_down=0.0,
    transpose=0.0,
    jitter=0.0,
    stitch=0.0,
)
MOVED = AugmentConfig(scale=(0.3, 0.9), jitter=0.0, stitch=0.0, transpose=0.5, upside_down=0.5)
STITCHED = DataConfig(augment=replace(MOVED, stitch=0.6, jitter=0.8))
WHOLE = jnp.array([0.0, 0.0, 1.0, 1.0])


@pytest.fixture(scope="module")
def noise():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (OLD, OLD, 3), np.uint8)
    return jnp.asarray(image), jnp.asarray(rng.integers(0, 5, (OLD, OLD)))


def coded(shift=0):
    """Draw four patches whose grey is 50 times their label."""
    labels = np.zeros((OLD, OLD), int)
    labels[4:16, 2:14], labels[6:18, 16:30], labels[20:30, 4:24] = 1, 2, 3
    labels = np.roll(labels, shift, (0, 1))
    return np.repeat(50 * labels[..., None], 3, axis=2).astype(np.uint8), labels


@pytest.fixture(scope="module")
def batch():
    """Three samples of four views; the blue channel of a sample's pictures tells which it is."""
    images, ids = [], []
    for number in range(6):
        image, labels = coded(3 * number)
        image[..., 2] = 40 + 80 * (number // 2)
        labels[-2:] = IGNORE
        images.append(image)
        ids.append(labels.astype(np.uint8))
    table = np.zeros(256, np.uint8)
    table[1:4], table[IGNORE] = (2, 1, 3), IGNORE
    pictures = np.array([[0, 1, 1, 0], [2, 3, 2, 3], [4, 5, 5, 5]], np.int32)
    labels = table[np.stack(ids)[pictures]]
    kind = np.array([0, 1, 0], np.int32)
    batch = {"images": np.stack(images)[pictures], "labels": labels, "kind": kind}
    return {name: jnp.asarray(array) for name, array in batch.items()}


@pytest.fixture(scope="module")
def make():
    """Return `make_views` compiled, with stitching, jitter, crops and flips."""

    @jax.jit
    def make(batch, key):
        return make_views(batch, key=key, size=NEW, config=STITCHED)

    return make


@pytest.fixture(scope="module")
def cut_to():
    return jax.jit(cut, static_argnames="size")


def test_the_whole_box_returns_the_picture(noise, cut_to):
    image, labels = noise
    pixels, same = cut_to(image, labels, WHOLE, size=OLD)
    np.testing.assert_allclose(pixels, np.asarray(image) / 255, atol=1e-5)
    np.testing.assert_array_equal(same, labels)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_reversed_box_flips(noise, cut_to, axis):
    image, labels = noise
    box = WHOLE.at[axis].set(1.0).at[axis + 2].set(0.0)
    pixels, flipped = cut_to(image, labels, box, size=OLD)
    np.testing.assert_allclose(pixels, np.flip(np.asarray(image), axis) / 255, atol=1e-5)
    np.testing.assert_array_equal(flipped, np.flip(labels, axis))


def test_a_box_on_the_lattice_is_a_slice(noise, cut_to):
    image, labels = noise
    pixels, part = cut_to(image, labels, jnp.array([0.25, 0.5, 0.75, 1.0]), size=OLD // 2)
    np.testing.assert_allclose(pixels, np.asarray(image)[8:24, 16:] / 255, atol=1e-5)
    np.testing.assert_array_equal(part, labels[8:24, 16:])


def test_shrinking_averages_and_enlarging_keeps_the_range(noise, cut_to):
    image, labels = noise
    small, _ = cut_to(image, labels, WHOLE, size=4)
    np.testing.assert_allclose(small.mean(), np.asarray(image).mean() / 255, atol=0.02)
    assert small.std() < 0.1 < np.std(np.asarray(image) / 255)
    large, _ = cut_to(image, labels, jnp.array([0.1, 0.1, 0.3, 0.3]), size=OLD)
    assert large.min() >= 0
    assert large.max() <= 1


def test_labels_stay_on_their_pixels():
    image, labels = (jnp.asarray(a) for a in coded())
    one = partial(view, size=NEW, config=MOVED)
    keys = jax.random.split(jax.random.key(0), 64)
    pixels, labels = jax.jit(jax.vmap(one, (0, None, None)))(keys, image, labels)
    assert labels.dtype == jnp.int32
    shown = [len(np.unique(a)) for a in labels]
    assert np.mean(shown) > 2.5
    assert len(np.unique(labels, axis=0)) == 64
    # Away from edges, which are smoothed, grey tells the label.
    flat = maximum_filter(labels, (1, 5, 5)) == minimum_filter(labels, (1, 5, 5))
    flat[:, [0, 1, -2, -1]] = flat[:, :, [0, 1, -2, -1]] = False
    assert flat.mean() > 0.2
    grey = np.asarray(pixels)[flat] * 255 / 50
    np.testing.assert_allclose(grey, np.repeat(labels[flat][:, None], 3, axis=1), atol=1e-3)


def test_colours_stand_for_labels_alike_in_all_views_of_a_sample(batch, make):
    views = make(batch, jax.random.key(1))
    for targets, labels in zip(np.asarray(views.targets), np.asarray(views.labels), strict=True):
        colours = {}
        for label in np.unique(labels).tolist():
            [colour] = np.unique(targets[labels == label], axis=0)
            colours[label] = colour
        np.testing.assert_array_equal(colours.pop(IGNORE), colours[0])
        assert set(colours) == {0, 1, 2, 3}
        rgb = np.asarray(denormalize(jnp.stack([*colours.values()])))
        apart = np.abs(rgb[:, None] - rgb).max(-1)[~np.eye(4, dtype=bool)]
        assert apart.min() >= 0.16
        assert rgb.min() >= -1e-6
        assert rgb.max() <= 1 + 1e-6


def test_stitching_mixes_only_views_of_one_sample(batch, make):
    plain = DataConfig(augment=replace(MOVED, stitch=1.0))
    views = jax.jit(partial(make_views, size=NEW, config=plain))(batch, key=jax.random.key(2))
    blue = np.asarray(denormalize(views.images))[..., 2] * 255
    np.testing.assert_allclose(
        blue, np.broadcast_to(np.array([40, 120, 200])[:, None, None, None], blue.shape), atol=1e-2
    )
    np.testing.assert_array_equal(views.kind, [0, 1, 0])


def test_a_stitched_view_is_cut_once_and_shows_two_views():
    marks = jnp.broadcast_to(jnp.arange(4)[:, None, None], (4, NEW, NEW))
    images = jnp.broadcast_to(marks[..., None] / 4.0, (4, NEW, NEW, 3))
    stitch = jax.jit(
        jax.vmap(partial(stitch_views, config=AugmentConfig(stitch=0.5)), (0, None, None))
    )
    pixels, labels = stitch(jax.random.split(jax.random.key(0), 32), images, marks)
    np.testing.assert_array_equal(pixels, np.repeat(labels[..., None] / 4.0, 3, axis=-1))
    mixed = []
    for one in np.asarray(labels).reshape(-1, NEW, NEW):
        rows, cols = np.unique(one, axis=0), np.unique(one, axis=1)
        # One of both directions is uniform: a straight cut, 30 to 70 % of the way.
        assert min(len(rows), cols.shape[1]) == 1
        mixed.append(len(np.unique(one)) == 2)
        if mixed[-1]:
            assert 0.25 <= (one == one[0, 0]).mean() <= 0.75
    assert np.mean(mixed) == pytest.approx(0.5, abs=0.2)
    assert (np.asarray(labels)[:, :, 0, 0] == np.arange(4)).all()


def test_a_single_view_has_nothing_to_be_stitched_with():
    image, labels = jnp.zeros((1, 4, 4, 3)), jnp.ones((1, 4, 4), int)
    key = jax.random.key(0)
    stitched, same = stitch_views(key, image, labels, config=AugmentConfig(stitch=1.0))
    np.testing.assert_array_equal(stitched, image)
    np.testing.assert_array_equal(same, labels)


def test_the_key_decides(batch, make):
    first, again, other = (make(batch, jax.random.key(seed)) for seed in (3, 3, 4))
    for name in ("images", "targets", "labels", "kind"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    for name in ("images", "targets", "labels"):
        a, b = (np.asarray(getattr(views, name)) for views in (first, other))
        assert (a != b).reshape(12, -1).any(axis=1).all()


def test_a_compiled_view_equals_an_eager_one(noise):
    one = partial(view, jax.random.key(5), *noise, size=NEW, config=MOVED)
    (pixels, labels), (eager_pixels, eager_labels) = jax.jit(one)(), one()
    np.testing.assert_allclose(eager_pixels, pixels, atol=1e-5)
    np.testing.assert_array_equal(eager_labels, labels)


def test_boxes_stay_inside_and_keep_area_and_aspect():
    config = AugmentConfig(scale=(0.2, 0.5), aspect=1.5)
    keys = jax.random.split(jax.random.key(0), 200)
    boxes = np.asarray(jax.jit(jax.vmap(partial(random_box, config=config)))(keys))
    assert boxes.min() >= 0
    assert boxes.max() <= 1
    height, width = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert (height * width >= 0.2 - 1e-5).all()
    assert (height * width <= 0.5 + 1e-5).all()
    aspects = height / width
    assert (np.abs(np.log(aspects)) <= np.log(1.5) + 1e-4).all()
    assert aspects.min() < 0.8 < 1.25 < aspects.max()


def test_crops_that_show_something_are_preferred():
    marked = jnp.zeros((OLD, OLD), bool).at[2:8, 2:8].set(True)
    keys = jax.random.split(jax.random.key(0), 200)

    def share_showing(tries):
        config = AugmentConfig(scale=(0.1, 0.2), tries=tries)
        choose = jax.jit(jax.vmap(partial(choose_box, config=config), (0, None)))
        y0, x0, y1, x1 = np.asarray(choose(keys, marked)).T
        return np.mean((np.minimum(y0, y1) < 6 / OLD) & (np.minimum(x0, x1) < 6 / OLD))

    once, often = share_showing(1), share_showing(40)
    assert once < 0.4
    assert often > 0.9


def test_crops_that_show_only_what_is_marked_are_avoided():
    marked = jnp.zeros((OLD, OLD), bool).at[:, : OLD // 2].set(True)
    config = AugmentConfig(scale=(0.1, 0.2), tries=12)
    choose = jax.jit(jax.vmap(partial(choose_box, config=config), (0, None)))
    boxes = np.asarray(choose(jax.random.split(jax.random.key(0), 200), marked))
    left, right = boxes[:, [1, 3]].min(axis=1), boxes[:, [1, 3]].max(axis=1)
    assert np.mean((left < 0.5) & (right > 0.5)) > 0.9


@pytest.fixture(scope="module")
def jittered(noise):
    """Return a function that recolours a picture and its mirror image, as two views, 16 times."""
    image = noise[0] / 255
    images = jnp.stack([image, image[:, ::-1]])
    keys = jax.random.split(jax.random.key(0), 16)

    def run(**changes):
        one = partial(jitter, config=AugmentConfig(**changes))
        return np.asarray(jax.jit(jax.vmap(one, (0, None)))(keys, images)), np.asarray(images)

    return run


def test_without_jitter_colours_are_untouched(jittered):
    pixels, images = jittered(jitter=0.0)
    np.testing.assert_array_equal(pixels, np.broadcast_to(images, pixels.shape))


def test_jitter_changes_colours_within_their_range(jittered):
    pixels, images = jittered(jitter=1.0)
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    assert (np.abs(pixels - images).mean(axis=(2, 3, 4)) > 0.01).all()
    assert len(np.unique(pixels[:, 0, 0, 0], axis=0)) == 16


def test_jitter_touches_its_share_of_samples_with_all_their_views(jittered):
    pixels, images = jittered(jitter=0.5)
    touched = (pixels != images).any(axis=(2, 3, 4))
    np.testing.assert_array_equal(touched[:, 0], touched[:, 1])
    assert 0.2 < touched.mean() < 0.8


def test_views_depart_from_each_other_by_their_own_jitter_alone(jittered):
    alike, _ = jittered(jitter=1.0, own_jitter=0.0, grey=0.0)
    np.testing.assert_allclose(alike[:, 0], alike[:, 1, :, ::-1], atol=1e-6)
    plain = {"jitter": 1.0, "grey": 0.0, "brightness": 0.4, "contrast": 0.0, "saturation": 0.0}
    apart, images = jittered(**plain, own_jitter=0.25)
    dim = (images > 0.1) & (images < 0.5)  # so that nothing is cut off at 1
    ratios = np.where(dim, apart / np.maximum(images, 0.1), np.nan)
    first, second = np.nanmedian(ratios, axis=(2, 3, 4)).T
    assert np.ptp(first) > 0.4
    assert np.abs(np.log(first / second)).max() <= np.log(1.1 / 0.9) + 1e-4
    assert np.abs(np.log(first / second)).mean() > 0.02


def test_grey_is_grey(jittered):
    pixels, _ = jittered(jitter=1.0, grey=1.0)
    np.testing.assert_allclose(pixels, pixels.mean(axis=-1, keepdims=True) + 0 * pixels, atol=1e-5)


def test_samples_are_recoloured_apart_and_their_views_alike(batch):
    config = DataConfig(augment=replace(UNTOUCHED, jitter=1.0, own_jitter=0.0))
    views = jax.jit(partial(make_views, size=NEW, config=config))(batch, key=jax.random.key(0))
    red = np.asarray(denormalize(views.images))[..., 0]
    # The first and the last view of the first sample show one picture, and so on.
    for sample, (one, same) in enumerate([(0, 3), (0, 2), (1, 3)]):
        np.testing.assert_allclose(red[sample, one], red[sample, same], atol=1e-6)
    brightest = red.max(axis=(1, 2, 3))
    assert len(np.unique(brightest.round(3))) == 3
