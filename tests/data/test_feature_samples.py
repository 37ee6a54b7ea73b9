import dataclasses

import numpy as np
import pytest

from data.feature_cache import open_cache
from data.feature_samples import (
    SampleBatch,
    Sampler,
    SamplesConfig,
    Shape,
    draw_colours,
    loss_weights,
)
from data.prefetch import prefetch
from tests.data.drawn_cache import GRID, PATCH, write_drawn_cache

SIDE = 3
CONFIG = SamplesConfig(
    groups=4,
    queries=3,
    shapes=(Shape(examples=2, side=SIDE, share=1.0),),
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return open_cache(write_drawn_cache(tmp_path_factory.mktemp("samples")))


@pytest.fixture(scope="module")
def make_sampler(cache):
    return lambda seed=0, **changes: Sampler(
        cache, dataclasses.replace(CONFIG, **changes), seed=seed
    )


def equal(one, two):
    return all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def windows(batch: SampleBatch):
    """Yield features and image of every example and query of a batch."""
    for parts in (
        (batch.example_features, batch.example_images),
        (batch.query_features, batch.query_images),
    ):
        yield from zip(*(part.reshape(-1, *part.shape[2:]) for part in parts), strict=True)


def test_a_step_decides_what_its_batch_is(make_sampler):
    sampler, again, other = make_sampler(), make_sampler(), make_sampler(seed=1)
    later = sampler.batch(7)
    assert equal(again.batch(7), later)  # whatever was drawn before
    sampler.batch(0)
    assert equal(sampler.batch(7), later)
    assert not equal(sampler.batch(8), later)
    assert not equal(other.batch(7), later)


def test_batches_made_ahead_are_the_same(make_sampler):
    sampler = make_sampler()
    for step, batch in enumerate(prefetch(sampler.batch, range(4, 9), workers=2), start=4):
        assert equal(batch, sampler.batch(step))


def test_features_pixels_and_masks_are_cut_and_flipped_alike(make_sampler):
    flipped = 0
    for step in range(10):
        for features, image in windows(make_sampler().batch(step)):
            tokens = features.astype(np.float32).reshape(SIDE, SIDE, 5)
            cells = image.reshape(SIDE, PATCH, SIDE, PATCH, 3).mean(axis=(1, 3))
            np.testing.assert_allclose(tokens[..., :3] * 2 - 1, cells, atol=2e-3)
            rows, columns = tokens[..., 3], tokens[..., 4]
            assert (np.diff(rows, axis=0) == 1).all()
            turned = columns[0, 0] > columns[0, 1]
            assert (np.diff(columns, axis=1) == (-1 if turned else 1)).all()
            flipped += turned
    assert 60 < flipped < 140  # of 200


def test_masks_lie_on_what_they_mark(cache, make_sampler):
    # A window is found again in the cache by its pixels; its labels must be those that lie there.
    sampler = make_sampler(same_class=1.0, multi_label=0.0, pasted=0.0, drawn=0.0, flip=0.0)
    found = 0
    for step in range(3):
        batch = sampler.batch(step)
        images = batch.query_images.reshape(-1, *batch.query_images.shape[2:])
        class_ids = batch.query_class_ids.reshape(-1, *batch.query_class_ids.shape[2:])
        for image, own in zip(images, class_ids, strict=True):
            pixels = ((image + 1) * 127.5).round().astype(np.uint8)
            for top in range(GRID - SIDE + 1):
                for left in range(GRID - SIDE + 1):
                    rows = slice(top * PATCH, (top + SIDE) * PATCH)
                    columns = slice(left * PATCH, (left + SIDE) * PATCH)
                    same = (cache.pixels[:, rows, columns] == pixels).all(axis=(1, 2, 3))
                    for view in np.flatnonzero(same):
                        found += 1
                        classes = cache.classes[view, rows, columns]
                        np.testing.assert_array_equal(own == 255, classes == 255)
                        asked = np.unique(classes[own == 1])
                        assert len(asked) <= 1
                        assert not np.isin(classes[own == 0], asked).any()
    assert found >= 36


def test_shapes_are_what_the_config_says(make_sampler):
    shapes = (
        Shape(examples=1, side=2, share=0.5),
        Shape(examples=3, side=2, share=0.2),
        Shape(examples=1, side=4, share=0.3),
    )
    sampler = make_sampler(shapes=shapes, queries=2)
    seen = {}
    for step in range(60):
        batch = sampler.batch(step)
        b, e, n, f = batch.example_features.shape
        side = int(n**0.5)
        assert f == 5
        assert batch.query_features.shape == (b, 2, n, f)
        pixels = (side * PATCH, side * PATCH)
        assert batch.example_images.shape == (b, e, *pixels, 3)
        assert batch.example_class_ids.shape == (b, e, *pixels)
        assert batch.colours.shape == (b, sampler.config.labels + 1, 3)
        assert batch.query_images.shape == (b, 2, *pixels, 3)
        assert batch.query_class_ids.shape == batch.query_weights.shape == (b, 2, *pixels)
        seen[e, side, b] = seen.get((e, side, b), 0) + 1
    assert set(seen) == {(1, 2, 4), (3, 2, 4), (1, 4, 2)}
    assert seen[1, 2, 4] > seen[3, 2, 4]


def test_examples_show_what_is_asked_for(make_sampler):
    sampler = make_sampler(same_class=1.0)
    for step in range(20):
        class_ids = sampler.batch(step).example_class_ids
        assert ((class_ids > 0) & (class_ids != 255)).any(axis=(2, 3)).all()


def test_queries_of_a_class_are_other_pictures(cache, make_sampler):
    sampler = make_sampler(same_class=1.0)
    rng = np.random.default_rng(0)
    for _ in range(40):
        choice = sampler._choose(2, rng)
        shown, asked = ({cache.names[v] for v in part} for part in (choice.shown, choice.asked))
        assert len(shown) == 2
        assert len(choice.asked) == 3
        assert not shown & asked
        assert len({(name.kind, name.source) for name in shown | asked}) == 1
        for view in (*choice.shown, *choice.asked):
            assert (cache.classes[view] == choice.ids[0]).any()


def test_queries_of_things_are_other_views_of_one_picture(cache, make_sampler):
    sampler = make_sampler(same_class=0.0)
    rng = np.random.default_rng(0)
    by_instance = set()
    for _ in range(40):
        choice = sampler._choose(2, rng)
        assert len({cache.names[v] for v in (*choice.shown, *choice.asked)}) == 1
        assert choice.asked[0] != choice.shown[0]
        masks = cache.instances if choice.by_instance else cache.classes
        assert set(choice.ids) <= set(np.unique(masks[choice.shown[0]]).tolist()) - {0, 255}
        by_instance.add((choice.by_instance, cache.names[choice.shown[0]].source))
    assert by_instance == {(True, "things"), (False, "regions")}


def test_each_label_has_a_row_of_the_colours(make_sampler):
    sampler = make_sampler()
    for step in range(10):
        batch = sampler.batch(step)
        for colours, *class_ids in zip(
            batch.colours, batch.example_class_ids, batch.query_class_ids, strict=True
        ):
            shown, asked = ({*np.unique(a).tolist()} - {255} for a in class_ids)
            assert min(shown | asked) >= 0
            used = max(shown | asked) + 1
            assert used <= sampler.config.labels + 1
            assert len(np.unique(colours[:used], axis=0)) == used


def test_rows_beyond_the_labels_are_0(cache, make_sampler):
    sampler = make_sampler(same_class=1.0, multi_label=0.0)
    for step in range(5):
        colours = sampler.batch(step).colours
        assert not colours[:, 2:].any()
        assert (colours[:, 0] != colours[:, 1]).any(axis=-1).all()


def test_colours_are_far_apart():
    rng = np.random.default_rng(0)
    drawn = [draw_colours(4, rng, config=CONFIG) for _ in range(200)]
    for colours in drawn:
        assert colours.dtype == np.float32
        assert np.abs(colours).max() <= 1
        apart = np.abs(colours[:, None] - colours).max(axis=-1) + 9 * np.eye(5)
        assert apart.min() > 0.55
    assert 0.45 < np.mean([(colours[0] == -1).all() for colours in drawn]) < 0.75
    assert 0.1 < np.mean([(colours[1] == 1).all() for colours in drawn]) < 0.4


def test_ignored_pixels_do_not_count(make_sampler):
    ignored = 0
    for step in range(10):
        batch = make_sampler().batch(step)
        out = batch.query_class_ids == 255
        ignored += out.sum()
        assert (batch.query_weights[out] == 0).all()
        assert (batch.query_weights[~out] > 0).all()
        valid = 1 - out.mean(axis=(2, 3))
        means = batch.query_weights.mean(axis=(2, 3))
        np.testing.assert_allclose(means, 0.35 + 0.65 * valid, rtol=1e-5)
    assert ignored


def test_labels_share_the_balanced_part_alike():
    class_ids = np.zeros((20, 20), np.int32)
    class_ids[:5] = 1
    class_ids[5] = 3
    weights = loss_weights(class_ids, balanced=1.0, floor=0.01)
    parts = [weights[class_ids == class_id].sum() for class_id in (0, 1, 3)]
    np.testing.assert_allclose(parts, 400 / 3, rtol=1e-5)
    np.testing.assert_allclose(loss_weights(class_ids, balanced=0.0, floor=0.01), 1)
    # One pixel of 400 counts as four would.
    class_ids[:] = 0
    class_ids[0, 0] = 2
    weights = loss_weights(class_ids, balanced=1.0, floor=0.01)
    assert weights[0, 0] / weights[1, 1] == pytest.approx(399 / 4)


def test_nothing_but_ignored_pixels_weighs_nothing():
    class_ids = np.full((4, 4), 255, np.int32)
    assert not loss_weights(class_ids, balanced=0.35, floor=0.01).any()


def test_a_cache_that_cannot_give_a_shape_is_told(make_sampler):
    with pytest.raises(ValueError, match="side 5 is more than the cache's 4 tokens"):
        make_sampler(shapes=(Shape(examples=1, side=5, share=1.0),))
    with pytest.raises(ValueError, match="hardly any view of the cache fits a sample with 40"):
        make_sampler(shapes=(Shape(examples=40, side=2, share=1.0),), same_class=1.0).batch(0)
    with pytest.raises(ValueError, match="shapes must not be empty"):
        SamplesConfig(shapes=())


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
