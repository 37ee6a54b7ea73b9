import numpy as np
import pytest
from PIL import Image

from data.folder import open_folders
from data.pack import join, pack_folders, squeeze
from tests.data.drawn import write_drawn_dataset
from tests.data.drawn_sprites import write_sprites


@pytest.fixture
def root(tmp_path):
    write_drawn_dataset(tmp_path, name="a", pictures=6)
    write_drawn_dataset(tmp_path, name="b", pictures=5, size=30, instances=False, seed=1)
    write_sprites(tmp_path, names=["cat"])
    return tmp_path


def test_pictures_follow_each_other_source_by_source(root):
    folders = open_folders(root)
    pack = pack_folders(folders, size=16)
    assert pack.images.shape == (7, 16, 16, 3)
    assert pack.ids.shape == (7, 16, 16, 2)
    # Sprite sets hold no pictures.
    assert [(s.name, s.kind, s.start, len(s.entries)) for s in pack.sources] == [
        ("a", "instance", 0, 4),
        ("b", "semantic", 4, 3),
    ]
    for folder, source in zip(folders, pack.sources, strict=False):
        for number, picture in enumerate(folder.pictures("train"), start=source.start):
            image = Image.fromarray(folder.image(picture))
            expected = image.resize((16, 16), Image.Resampling.BICUBIC)
            np.testing.assert_array_equal(pack.images[number], np.asarray(expected))


def test_ids_are_class_ids_and_instance_ids_and_nothing_between(root):
    folders = open_folders(root)
    pack = pack_folders(folders, size=16)
    for folder, source in zip(folders, pack.sources, strict=False):
        for number, picture in enumerate(folder.pictures("train")):
            entry, ids = source.entries[number], pack.ids[source.start + number]
            assert entry.labels == {1: 1, 2: 2}
            assert entry.areas == folder.areas(picture)
            assert entry.instances == folder.instances(picture)
            assert set(np.unique(ids[..., 0])) <= {0, 255, *entry.labels}
            assert set(np.unique(ids[..., 1])) <= {0, *entry.instances}
            classes = np.array([0, *[entry.instances[i] for i in sorted(entry.instances)]])
            if entry.instances:
                known = ids[..., 0] != 255
                np.testing.assert_array_equal(classes[ids[..., 1]][known], ids[..., 0][known])


def test_the_other_split_and_a_missing_one(root):
    folders = open_folders(root)
    assert [len(s.entries) for s in pack_folders(folders, size=8, split="val").sources] == [2, 2]
    assert [len(s.entries) for s in pack_folders(folders, size=8, split=None).sources] == [6, 5]
    with pytest.raises(ValueError, match="a: no split 'test'"):
        pack_folders(folders, size=8, split="test")


def test_sprites_alone_make_no_pack(root):
    with pytest.raises(ValueError, match="no pictures"):
        pack_folders(open_folders(root, names=["sprites"]), size=8)


def test_joined_packs_keep_every_picture_under_its_source(root):
    a, b = (pack_folders(open_folders(root, names=[name]), size=8) for name in "ab")
    both = join([a, b, a])
    assert [(s.name, s.start) for s in both.sources] == [("a", 0), ("b", 4), ("a", 7)]
    for source, pack in zip(both.sources, (a, b, a), strict=True):
        own = slice(source.start, source.start + len(source.entries))
        np.testing.assert_array_equal(both.images[own], pack.images)
        np.testing.assert_array_equal(both.ids[own], pack.ids)
        assert source.entries == pack.sources[0].entries
    equal = pack_folders(open_folders(root, names=["a", "b"]), size=8)
    np.testing.assert_array_equal(join([a, b]).ids, equal.ids)
    assert join([a, b]).sources == equal.sources


def test_squeezing_to_the_same_size_changes_nothing():
    array = np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8)
    np.testing.assert_array_equal(squeeze(array, 12, smooth=True), array)
    np.testing.assert_array_equal(squeeze(array[..., 0], 12, smooth=False), array[..., 0])
    assert squeeze(array[:6], 8, smooth=True).shape == (8, 8, 3)
