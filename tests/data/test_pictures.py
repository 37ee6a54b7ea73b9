import numpy as np
import pytest
from PIL import Image

from data.folder import open_folders
from data.pictures import open_sources, squeeze
from tests.data.drawn import write_drawn_dataset
from tests.data.drawn_sprites import write_sprites


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    write_drawn_dataset(root, name="a", pictures=6, classes=3)
    write_drawn_dataset(root, name="b", pictures=5, instances=False)
    write_sprites(root, names=["cat", "dog"])
    return root


def test_pictures_are_read_as_the_folder_has_them_but_square(root):
    folders = open_folders(root)
    sources = open_sources(folders)
    assert [(source.name, source.kind, len(source)) for source in sources] == [
        ("a", "instance", 4),
        ("b", "semantic", 3),
    ]
    for source, folder in zip(sources, folders, strict=False):
        for number, name in enumerate(folder.pictures("train")):
            decoded = source.read(number, 16)
            expected = squeeze(folder.image(name), 16, smooth=True)
            np.testing.assert_array_equal(decoded.image, expected)
            labels = squeeze(folder.labels(name), 16, smooth=False)
            np.testing.assert_array_equal(decoded.ids[..., 0], labels)
            assert decoded.ids[..., 1].any() == folder.has_instances


def test_entries_tell_the_class_of_every_id(root):
    folders = open_folders(root)
    for source, folder in zip(open_sources(folders), folders, strict=False):
        for number, name in enumerate(folder.pictures("train")):
            entry = source.entry(number)
            assert entry.areas == folder.areas(name)
            assert entry.labels == {c: c for c in entry.areas}
            assert entry.instances == folder.instances(name)


def test_a_split_is_named_or_refused(root):
    folders = open_folders(root)
    assert [len(source) for source in open_sources(folders, split="val")] == [2, 2]
    with pytest.raises(ValueError, match="no split 'test'"):
        open_sources(folders, split="test")


def test_sprites_alone_are_no_pictures(root):
    with pytest.raises(ValueError, match="no pictures of split 'train'"):
        open_sources(open_folders(root, names=["sprites"]))


def test_squeezing_smooths_pictures_and_keeps_ids():
    ids = np.zeros((10, 20), np.uint8)
    ids[:, 10:] = 200
    assert set(np.unique(squeeze(ids, 7, smooth=False))) == {0, 200}
    image = np.asarray(Image.fromarray(ids).convert("RGB"))
    assert squeeze(image, 7, smooth=True).shape == (7, 7, 3)
    assert len(np.unique(squeeze(image, 7, smooth=True))) > 2
