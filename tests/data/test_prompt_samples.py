import dataclasses

import numpy as np
import pytest

from data.feature_cache import open_cache
from data.prompt_samples import PromptSampler, PromptSamplesConfig, PromptShape
from seggpt.config import MASK_STRIDE
from tests.data.drawn_cache import GRID, PATCH, write_drawn_cache

SIDE = 3
CONFIG = PromptSamplesConfig(
    shapes=(PromptShape(side=SIDE, pictures=4, clicks=1, share=1.0),), least_area=0.01
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return open_cache(write_drawn_cache(tmp_path_factory.mktemp("prompts")))


@pytest.fixture(scope="module")
def make_sampler(cache):
    return lambda seed=0, **changes: PromptSampler(
        cache, dataclasses.replace(CONFIG, **changes), seed=seed
    )


def equal(one, two):
    return all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def test_a_step_decides_what_its_batch_is(make_sampler):
    sampler, again, other = make_sampler(), make_sampler(), make_sampler(seed=1)
    later = sampler.batch(7)
    assert equal(again.batch(7), later)
    sampler.batch(0)
    assert equal(sampler.batch(7), later)
    assert not equal(sampler.batch(8), later)
    assert not equal(other.batch(7), later)


def test_the_shape_of_a_batch_is_told_beforehand(make_sampler):
    shapes = (
        PromptShape(side=2, pictures=1, clicks=1, share=0.5),
        PromptShape(side=4, pictures=2, clicks=1, share=0.5),
    )
    sampler = make_sampler(shapes=shapes)
    for step in range(12):
        shape = shapes[sampler.shape(step)]
        batch = sampler.batch(step)
        assert batch.features.shape[:2] == (shape.pictures, shape.side**2)
    assert {sampler.shape(step) for step in range(12)} == {0, 1}


def test_features_pixels_and_masks_show_one_window(make_sampler):
    """The cache's features are tokens' mean colours and places."""
    for step in range(6):
        batch = make_sampler().batch(step)
        cells = batch.images.reshape(4, SIDE, PATCH, SIDE, PATCH, 3).mean(axis=(2, 4))
        colours = batch.features.reshape(4, SIDE, SIDE, 5)[..., :3].astype(np.float32)
        np.testing.assert_allclose((cells + 1) / 2, colours, atol=3e-3)


def test_every_target_is_in_its_window_and_known(make_sampler):
    side = SIDE * PATCH // MASK_STRIDE
    for step in range(10):
        batch = make_sampler(nothing=0.0).batch(step)
        assert batch.truth.shape == (4, CONFIG.targets, side, side)
        assert batch.is_thing.all()
        assert (batch.weight > 0).all()
        shares = batch.truth.mean(axis=(2, 3))
        assert (shares > 0).all()
        things = batch.weight == 1
        assert (shares[things] <= CONFIG.most_area + 0.05).all()
        assert (batch.known[:, None] | ~batch.truth).all()


def test_nothing_is_asked_for_only_where_all_is_marked(make_sampler):
    drawn = make_sampler(nothing=1.0, drawn=1.0, pasted=0.0)
    photos = make_sampler(nothing=1.0, drawn=0.0, pasted=0.0)
    seen = 0
    for step in range(10):
        batch = drawn.batch(step)
        rows, targets = np.nonzero(~batch.is_thing)
        seen += len(rows)
        for row, target in zip(rows, targets, strict=True):
            assert not batch.truth[row, target].any()
            assert batch.free[row].any()
            assert not (batch.free[row] & batch.truth[row].any(axis=0)).any()
        assert photos.batch(step).is_thing.all()
    assert seen


def test_a_marked_set_may_be_pointed_at_beside_its_things(make_sampler):
    sampler = make_sampler(nothing=1.0, drawn=0.0, pasted=0.0, exhaustive=("things",))
    assert not all(sampler.batch(step).is_thing.all() for step in range(10))


def test_whole_classes_weigh_less_and_hold_several_things(make_sampler):
    found = 0
    for step in range(10):
        batch = make_sampler(whole_class=1.0, nothing=0.0).batch(step)
        for row, target in zip(*np.nonzero(batch.weight == CONFIG.class_weight), strict=True):
            others = batch.truth[row][batch.weight[row] == 1]
            found += any((batch.truth[row, target] & other).any() for other in others)
    assert found


def test_windows_lie_anywhere_on_the_plane(make_sampler):
    origins = np.array([make_sampler().batch(step).origin[0] for step in range(30)])
    assert origins.min() >= 0
    assert origins.max() + SIDE * PATCH <= 32 * PATCH
    assert len(np.unique(origins)) > 20


def test_a_window_larger_than_the_views_is_refused(cache):
    shape = PromptShape(side=GRID + 1, pictures=1, clicks=0, share=1.0)
    with pytest.raises(ValueError, match="shapes: side 5 is more than the cache's 4 tokens"):
        PromptSampler(cache, PromptSamplesConfig(shapes=(shape,)), seed=0)


def test_a_cache_without_things_is_refused(cache):
    with pytest.raises(ValueError, match="hardly any window of the cache shows a thing"):
        PromptSampler(cache, dataclasses.replace(CONFIG, least_area=1.5), seed=0).batch(0)


def test_hosts_read_their_own_rows_of_a_batch_alone(make_sampler):
    sampler = make_sampler()
    whole = sampler.batch(3)
    count = len(whole[0])
    for rows in (range(1), range(1, count), [count - 1, 0]):
        for part, all_of_it in zip(sampler.batch(3, rows), whole, strict=True):
            np.testing.assert_array_equal(part, all_of_it[list(rows)])


def test_samples_are_named_by_their_views(cache, make_sampler):
    known = {f"{name.source}/{name.picture}" for name in cache.names}
    (name,) = make_sampler().named(3, [0])
    assert set(name.split(", ")) <= known
