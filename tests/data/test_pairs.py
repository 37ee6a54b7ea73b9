import numpy as np
import pytest

from data.config import PairsConfig
from data.folder import Kind
from data.pairs import INSTANCE, SEMANTIC, Sampler, collate
from data.pictures import Entry
from tests.data.drawn import Listed


def entry(labels, instances=None, areas=None):
    return Entry(labels, instances or {}, areas or dict.fromkeys(labels.values(), 0.2))


def semantic(count, *, name="semantic", classes=3, kind: Kind = "semantic"):
    """Make pictures that each show two neighbouring classes, under their own ids."""
    shown = [(1 + n % classes, 1 + (n + 1) % classes) for n in range(count)]
    return Listed(name, kind, tuple(entry({c: c for c in pair}) for pair in shown))


def pasted(count):
    """Make pictures whose ids differ from picture to picture, as those of pasted sprites."""
    entries = []
    for n in range(count):
        ids = {1: 7, 2: 8, 3: 7} if n % 2 else {1: 9, 2: 7}
        entries.append(entry(ids, dict(ids)))
    return Listed("pasted", "instance", tuple(entries))


def draw(sources, count=200, *, progress=0.0, seed=0, **changes):
    sampler = Sampler(sources, PairsConfig(**changes))
    rng = np.random.default_rng(seed)
    return [sampler.draw(rng, progress=progress) for _ in range(count)]


def marked(source, picture, table):
    """Return the class of each slot in a picture, and check that ids of one class share it."""
    entries = source.entry(picture).labels
    slots = {}
    for id_, c in entries.items():
        if table[id_]:
            assert slots.setdefault(int(table[id_]), c) == c
    return slots


@pytest.mark.parametrize("source", [semantic(9), pasted(9)], ids=["semantic", "pasted"])
def test_pictures_of_a_sample_share_a_class_under_one_slot(source):
    for sample in draw([source], two_views=(0.0, 0.0)):
        views = [
            marked(source, picture, table)
            for picture, table in zip(sample.pictures, sample.table, strict=True)
        ]
        shared = set.intersection(*(set(view.items()) for view in views))
        assert shared
        # A slot means the same class in every picture that has it.
        for slot in set().union(*views):
            assert len({view[slot] for view in views if slot in view}) == 1
        assert (sample.mask, sample.kind) == (0, SEMANTIC)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.85, 1.0])
def test_instances_of_one_picture_are_marked_as_often_as_wanted(share):
    samples = draw([pasted(9)], 1000, two_views=(1.0, 1.0), instances=share)
    by_instance = np.array([sample.kind == INSTANCE for sample in samples])
    assert by_instance.mean() == pytest.approx(share, abs=0.07 if 0 < share < 1 else 0)
    np.testing.assert_array_equal([sample.mask for sample in samples], by_instance)


def test_some_sets_always_mark_instances_of_one_picture():
    rules = {"two_views": (0.5, 0.5), "instances": 0.0, "by_instance": ("pasted",)}
    for sample in draw([pasted(9)], **rules):
        assert (sample.mask, sample.kind) == (1, INSTANCE)
        assert len(set(sample.pictures.tolist())) == 1
    assert {sample.kind for sample in draw([semantic(9)], **rules)} == {SEMANTIC}


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_pictures_with_one_kind_of_mask_are_marked_by_that(share):
    both = {"two_views": (1.0, 1.0), "instances": share}
    assert {sample.kind for sample in draw([semantic(9)], **both)} == {SEMANTIC}
    alone = Listed("alone", "instance", (Entry({}, {1: 4, 2: 4}, {}),) * 3)
    for sample in draw([alone], **both):
        assert (sample.mask, sample.kind) == (1, INSTANCE)
        assert sample.table[0, 1:3].max() >= 1


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_pictures_that_share_a_class_are_marked_by_it(share):
    samples = draw([pasted(9)], two_views=(0.0, 0.0), instances=share)
    assert {(sample.mask, sample.kind) for sample in samples} == {(0, SEMANTIC)}


def test_pictures_of_a_sample_differ_as_long_as_there_are_others():
    for sample in draw([semantic(30)], two_views=(0.0, 0.0)):
        assert len(set(sample.pictures.tolist())) == 4
    few = Listed("few", "semantic", (entry({1: 1}), entry({1: 1}), entry({2: 2})))
    for sample in draw([few], two_views=(0.0, 0.0)):
        assert set(sample.pictures.tolist()) == {0, 1}


def test_two_views_repeat_one_picture_and_its_table():
    kinds = set()
    for sample in draw([pasted(9)], two_views=(1.0, 1.0)):
        assert len(set(sample.pictures.tolist())) == 1
        assert (sample.table == sample.table[0]).all()
        assert sample.table[0].max(initial=0, where=np.arange(256) < 255) >= 1
        assert (sample.mask, sample.kind) in {(0, SEMANTIC), (1, INSTANCE)}
        kinds.add(sample.kind)
    assert kinds == {SEMANTIC, INSTANCE}


@pytest.mark.parametrize("slots", [2, 4])
def test_tables_map_ids_to_slots_and_keep_255(slots):
    many = Listed("many", "semantic", (entry({c: c for c in range(1, 9)}),) * 5)
    most = set()
    for sample in draw([many, pasted(8)], slots=slots, several_labels=0.7):
        assert sample.table.shape == (4, 256)
        assert (sample.table[:, 255] == 255).all()
        assert (sample.table[:, 0] == 0).all()
        used = set(np.unique(sample.table[:, 1:255]).tolist()) - {0}
        assert used == set(range(1, len(used) + 1))
        most.add(len(used))
    assert most == set(range(1, slots + 1))


def test_one_label_only_where_several_are_not_wanted():
    for sample in draw([semantic(9), pasted(8)], several_labels=0.0):
        assert set(np.unique(sample.table).tolist()) == {0, 1, 255}


def test_regions_are_never_paired_across_pictures():
    regions = semantic(9, kind="regions")
    for sample in draw([regions], two_views=(0.0, 0.0)):
        assert len(set(sample.pictures.tolist())) == 1


def test_small_classes_are_not_asked_for_across_pictures():
    tiny = {1: 0.3, 2: 0.001}
    source = Listed("s", "semantic", (entry({1: 1, 2: 2}, areas=tiny),) * 6)
    for sample in draw([source], two_views=(0.0, 0.0), several_labels=1.0):
        assert (sample.table[:, 2] == 0).all()


def test_pictures_that_show_nothing_are_left_out():
    source = Listed("s", "semantic", (entry({}), entry({1: 1}), entry({}), entry({1: 1})))
    for sample in draw([source]):
        assert set(sample.pictures.tolist()) <= {1, 3}
    empty = Listed("empty", "semantic", (entry({}),))
    for sample in draw([empty, source]):
        assert set(sample.pictures.tolist()) <= {2, 4}
    with pytest.raises(ValueError, match="nothing is marked"):
        draw([empty])


def test_pictures_count_from_the_start_of_their_source():
    for sample in draw([semantic(6), semantic(5, name="other")]):
        numbers = set(sample.pictures.tolist())
        assert numbers <= set(range(6)) or numbers <= set(range(6, 11))


def test_the_same_seed_gives_the_same_draws():
    sources = [semantic(9), pasted(8)]
    sampler = Sampler(sources, PairsConfig())
    first, again, other = (
        collate([sampler.load(sample, 2) for sample in draw(sources, 50, seed=seed)])
        for seed in (0, 0, 1)
    )
    for name, array in first.items():
        np.testing.assert_array_equal(array, again[name])
        assert (array != other[name]).any()


def share_of_first(count, **changes):
    big, small = semantic(count), semantic(4, name="small")
    samples = draw([big, small], 1500, **changes)
    return np.mean([sample.pictures[0] < count for sample in samples])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"temperature": 1.0}, 36 / 40),
        ({"temperature": 0.5}, 6 / 8),
        ({"temperature": 0.0}, 1 / 2),
        ({"temperature": 0.5, "weights": {"small": 9.0}}, 6 / 24),
        ({"temperature": 0.0, "weights": {"semantic": 0.0}}, 0.0),
    ],
)
def test_data_sets_are_drawn_by_weight_and_temperature(changes, expected):
    # Six standard deviations of the mean of 1500 draws are below 0.08.
    assert share_of_first(36, **changes) == pytest.approx(expected, abs=0.08)


@pytest.mark.parametrize(("progress", "expected"), [(0.0, 0.9), (0.5, 0.5), (1.0, 0.1)])
def test_progress_moves_the_share_of_two_view_samples(progress, expected):
    samples = draw([semantic(40)], 1500, two_views=(0.9, 0.1), progress=progress)
    alone = np.mean([len(set(sample.pictures.tolist())) == 1 for sample in samples])
    assert alone == pytest.approx(expected, abs=0.08)


def test_batches_are_arrays_of_samples():
    sampler = Sampler([semantic(9)], PairsConfig(views=5))
    samples = [sampler.load(sample, 2) for sample in draw([semantic(9)], 3, views=5)]
    batch = collate(samples)
    shapes = {name: (array.shape, array.dtype) for name, array in batch.items()}
    assert shapes == {
        "pictures": ((3, 5), np.int32),
        "images": ((3, 5, 2, 2, 3), np.uint8),
        "labels": ((3, 5, 2, 2), np.uint8),
        "kind": ((3,), np.int32),
    }
    np.testing.assert_array_equal(batch["labels"][1], samples[1].labels)


def test_loading_decodes_the_pictures_of_a_sample_and_looks_labels_up():
    sources = [semantic(6), pasted(8)]
    sampler, rng = Sampler(sources, PairsConfig()), np.random.default_rng(0)
    for _ in range(50):
        sample = sampler.draw(rng, progress=0.5)
        loaded = sampler.load(sample, 2)
        for place, picture in enumerate(sample.pictures.tolist()):
            source, number = sampler.find(picture)
            decoded = source.read(number, 2)
            np.testing.assert_array_equal(loaded.images[place], decoded.image)
            labels = sample.table[place][decoded.ids[..., sample.mask]]
            np.testing.assert_array_equal(loaded.labels[place], labels)


def test_ids_beyond_254_have_slots():
    source = Listed("many", "semantic", (entry({700: 700, 3: 3}),) * 5)
    for sample in draw([source], two_views=(0.0, 0.0), several_labels=0.0):
        assert sample.table.shape == (4, 701)
        assert set(np.unique(sample.table[:, [3, 700]])) == {0, 1}


def test_several_labels_need_two_slots():
    with pytest.raises(ValueError, match="slots 1 are too few"):
        PairsConfig(slots=1)
    assert PairsConfig(slots=1, several_labels=0.0).slots == 1
