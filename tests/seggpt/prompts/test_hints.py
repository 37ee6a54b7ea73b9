import jax.numpy as jnp
import numpy as np
import pytest

from seggpt.prompts import ABSENT, BACKGROUND, FIRST_CORNER, FOREGROUND, SECOND_CORNER
from seggpt.prompts.hints import (
    compare_patches,
    draw_prompts,
    feature_count,
    give_hints,
    unit_layers,
)
from tests.jitting import jitted

PATCH, ROWS, COLS = 14, 4, 6
SHAPE = (ROWS, COLS)
LEFT = np.arange(COLS) < COLS // 2  # the left half of a picture looks unlike the right one
give = jitted(give_hints)
NEAR, BACK, BOX, MIDDLE = slice(0, 3), slice(3, 6), 6, 7


@pytest.fixture(scope="module")
def halves():
    """Return the layers of a picture whose halves look different, and their affinity."""
    rng = np.random.default_rng(0)
    kinds = np.tile(LEFT, (ROWS, 1)).reshape(-1)
    tokens = np.where(kinds[:, None], 1.0, -1.0) * np.ones(8) + 0.01 * rng.normal(size=(24, 8))
    layers = unit_layers((jnp.asarray(tokens[None]), jnp.asarray(2 * tokens[None])))
    return layers, compare_patches(layers)


def hints(picture, points, kinds, mask=None):
    layers, affinity = picture
    coords = jnp.asarray(points, jnp.float32)[None]
    return give(
        coords,
        jnp.asarray([kinds]),
        mask,
        layers=layers,
        affinity=affinity,
        shape=SHAPE,
        patch=PATCH,
    )


def grid(values):
    return np.asarray(values).reshape(ROWS, COLS)


def test_a_point_is_nearest_to_its_own_patch(halves):
    found = hints(halves, [(2 * PATCH + 7, PATCH + 7)], [FOREGROUND])
    for reach in range(3):
        near = grid(found.feats[0, :, reach])
        assert np.unravel_index(near.argmax(), SHAPE) == (1, 2)
    np.testing.assert_array_equal(found.feats[0, :, BACK], 0)
    assert found.feats.shape[-1] == feature_count(2)


def test_a_point_marks_what_looks_alike_however_far_it_is(halves):
    odds = hints(halves, [(7, 7)], [FOREGROUND]).odds[0].mean(axis=-1)
    assert (grid(odds)[:, LEFT] > 0).all()
    assert (grid(odds)[:, ~LEFT] < 0).all()


def test_a_background_point_takes_back_what_a_point_marks(halves):
    one = hints(halves, [(7, 7), (0, 0)], [FOREGROUND, ABSENT]).odds
    both = hints(halves, [(7, 7), (7, 7)], [FOREGROUND, BACKGROUND]).odds
    assert (grid(both[0].mean(axis=-1))[:, LEFT] < grid(one[0].mean(axis=-1))[:, LEFT]).all()


def test_absent_points_say_nothing(halves):
    one = hints(halves, [(7, 7)], [FOREGROUND])
    more = hints(halves, [(7, 7), (60, 40)], [FOREGROUND, ABSENT])
    np.testing.assert_allclose(one.feats, more.feats, atol=1e-6)


def test_a_box_holds_the_patches_inside(halves):
    found = hints(halves, [(0, 0), (3 * PATCH, 2 * PATCH)], [FIRST_CORNER, SECOND_CORNER])
    inside = grid(found.feats[0, :, BOX])
    assert (inside[:2, :3] > 0.35).all()
    assert (inside[3] < 0.1).all()
    assert (inside[:, 5] < 0.1).all()
    assert np.unravel_index(grid(found.feats[0, :, MIDDLE]).argmax(), SHAPE)[1] == 1


def test_an_earlier_mask_marks_what_it_holds(halves):
    mask = np.where(np.repeat(LEFT, 4), 8.0, -8.0) * np.ones((1, 4 * ROWS, 1))
    odds = hints(halves, [(0, 0)], [ABSENT], mask=jnp.asarray(mask, jnp.float32)).odds[0]
    assert (grid(odds.mean(axis=-1))[:, LEFT] > 0).all()
    assert (grid(odds.mean(axis=-1))[:, ~LEFT] < 0).all()


def test_several_pictures_have_their_prompts_in_order():
    rng = np.random.default_rng(0)
    layers = unit_layers(tuple(jnp.asarray(rng.normal(size=(2, 24, 8))) for _ in range(2)))
    affinity = compare_patches(layers)
    coords = jnp.asarray(rng.uniform(0, 50, (4, 3, 2)))
    labels = jnp.asarray(rng.integers(0, 2, (4, 3)))
    settings = {"shape": SHAPE, "patch": PATCH}
    both = give(coords, labels, None, layers=layers, affinity=affinity, **settings)
    for i in range(2):
        own, some = slice(i, i + 1), slice(2 * i, 2 * i + 2)
        one = give(
            coords[some], labels[some], None, layers=layers[own], affinity=affinity[own], **settings
        )
        np.testing.assert_allclose(both.feats[some], one.feats, atol=1e-5)
        np.testing.assert_allclose(both.odds[some], one.odds, atol=1e-5)


def test_affinity_adds_up_to_one_and_is_highest_for_oneself(halves):
    _, affinity = halves
    np.testing.assert_allclose(affinity.sum(axis=-1), 1, rtol=1e-5)
    diagonal = np.diagonal(affinity[0], axis1=1, axis2=2)
    assert (diagonal >= np.asarray(affinity[0]).max(axis=-1) - 1e-6).all()


def drawn(points, kinds, *, stride=2):
    coords = jnp.asarray(points, jnp.float32)[None]
    shape = (ROWS * PATCH // stride, COLS * PATCH // stride)
    return np.asarray(draw_prompts(coords, jnp.asarray([kinds]), shape=shape, stride=stride))[0]


def test_points_are_drawn_where_they_are():
    maps = drawn([(31, 20), (60, 41)], [FOREGROUND, BACKGROUND])
    assert np.unravel_index(maps[..., 1].argmax(), maps.shape[:2]) == (20 // 2, 31 // 2)
    assert np.unravel_index(maps[..., 2].argmax(), maps.shape[:2]) == (41 // 2, 60 // 2)
    np.testing.assert_array_equal(maps[..., 0], 0)


def test_a_box_is_drawn_to_within_a_pixel_or_two():
    box = drawn([(19.5, 9.5), (59.5, 39.5)], [FIRST_CORNER, SECOND_CORNER])[..., 0] > 0.25
    rows, cols = np.flatnonzero(box.any(axis=1)), np.flatnonzero(box.any(axis=0))
    assert np.abs(2 * np.array([rows[0], rows[-1] + 1]) - [10, 40]).max() <= 2
    assert np.abs(2 * np.array([cols[0], cols[-1] + 1]) - [20, 60]).max() <= 2


def test_what_is_absent_is_not_drawn():
    assert not drawn([(31, 20)], [ABSENT]).any()
