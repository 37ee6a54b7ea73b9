"""Classes of all data sets side by side, each data set in a range of its own."""

import numpy as np
import pytest

from data.classes import ClassSampler
from data.config import PairsConfig
from data.folder import IGNORE, open_folders
from data.pack import Entry, Pack, Source, join, pack_folders
from tests.data.drawn import write_drawn_dataset


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    root = tmp_path_factory.mktemp("classes")
    write_drawn_dataset(root, name="two", pictures=9, classes=2)
    write_drawn_dataset(root, name="three", pictures=6, classes=3, instances=False)
    return pack_folders(open_folders(root), size=32)


def drawings(count):
    """Return a pack of pictures with a class of their own each."""
    images = np.zeros((count, 32, 32, 3), np.uint8)
    ids = np.ones((count, 32, 32, 2), np.uint8)
    entries = tuple(Entry({1: c}, {1: c}, {c: 1.0}) for c in range(count))
    return Pack(images, ids, (Source("sprites", "instance", 0, entries),))


def test_every_data_set_has_a_range_with_its_background_first(pack):
    sampler = ClassSampler(pack, PairsConfig())
    assert [source.name for source in sampler.sources] == ["three", "two"]
    assert sampler.ranges == [(0, 4), (4, 7)]
    for start, end in sampler.ranges:
        assert sampler.shares[start:end].sum() == pytest.approx(1)
        assert (sampler.shares[start:end] > 0).all()


def test_a_mask_becomes_classes_of_its_range_and_what_is_ignored_stays(pack):
    sampler, rng = ClassSampler(pack, PairsConfig()), np.random.default_rng(0)
    seen = set()
    for _ in range(40):
        sample = sampler.draw(rng, progress=0.0)
        start, end = sampler.ranges[sample.kind]
        (picture,) = sample.pictures
        source = sampler.sources[sample.kind]
        assert source.start <= picture < source.start + len(source.entries)
        found = set(np.unique(sample.table[0][pack.ids[picture, ..., 0]]).tolist())
        assert found == {*range(start, end), IGNORE}
        seen.add(sample.kind)
    assert seen == {0, 1}


def test_many_ids_are_one_class(pack):
    sampler = ClassSampler(join([pack, drawings(70)]), PairsConfig())
    assert sampler.ranges[-1] == (7, 9)
    assert sampler.sample_of(sampler.sources[-1], 2, 65).table[0][1] == 8


def test_a_class_that_is_not_known_is_background(pack):
    sampler = ClassSampler(pack, PairsConfig())
    other = Source("two", "semantic", 0, (Entry({1: 1, 2: 9}, {}, {1: 0.5, 9: 0.5}),))
    assert sampler.sample_of(other, 1, 0).table[0][:3].tolist() == [4, 5, 4]


def test_too_many_classes_are_refused():
    sets = [drawings(60) for _ in range(5)]
    with pytest.raises(ValueError, match="305 classes in all; the most are 255"):
        ClassSampler(join(sets), PairsConfig())
