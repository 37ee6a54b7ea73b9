"""Cut-outs around single things."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from data.closeups import LEAST, NARROW, ROOM, VISIBLE, cut_closeups
from data.config import DataConfig
from data.folder import open_folders
from tests.data.drawn import write_drawn_dataset

SIZE = 32


@pytest.fixture
def root(tmp_path):
    write_drawn_dataset(tmp_path, name="a", pictures=6, size=96)
    write_drawn_dataset(tmp_path, name="b", pictures=5, size=96, instances=False, seed=1)
    return tmp_path


def cut(root, **changes):
    pack = cut_closeups(open_folders(root), **({"count": 8, "size": SIZE, "seed": 0} | changes))
    assert pack is not None
    return pack


def test_every_thing_of_the_training_pictures_is_cut_out_once(root):
    pack = cut(root, count=100)
    (source,) = pack.sources
    assert source.kind == "regions"  # no class pairs
    assert pack.images.shape == (8, SIZE, SIZE, 3)  # 4 training pictures of 2 things
    assert pack.ids.shape == (8, SIZE, SIZE, 2)
    assert len(source.entries) == 8


def test_fewer_things_come_from_as_many_pictures_as_there_are(root):
    folder = open_folders(root)[0]
    for grey, name in enumerate(folder.pictures("train")):
        Image.new("RGB", (96, 96), (50 * grey,) * 3).save(root / "a" / "images" / f"{name}.jpg")
    greys = cut(root, count=4).images.mean(axis=(1, 2, 3))
    assert sorted(round(float(grey) / 50) for grey in greys) == [0, 1, 2, 3]


def test_a_cut_out_holds_its_thing_and_names_what_is_visible(root):
    pack = cut(root, count=100)
    for ids, entry in zip(pack.ids[..., 1], pack.sources[0].entries, strict=True):
        shares = np.bincount(ids.ravel(), minlength=256) / ids.size
        assert entry.instances
        assert all(shares[i] >= VISIBLE for i in entry.instances)
        # The thing takes its share of a cut-out that is up to so many times as large.
        assert max(shares[i] for i in entry.instances) > 0.4 * NARROW / ROOM[1] ** 2


@pytest.mark.parametrize("name", ["closeups", "sprites"])
def test_a_negative_number_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} -1 must not be negative"):
        dataclasses.replace(DataConfig(), **{name: -1})


def test_the_same_seed_cuts_the_same(root):
    one, same, other = cut(root), cut(root), cut(root, seed=1)
    np.testing.assert_array_equal(one.images, same.images)
    np.testing.assert_array_equal(one.ids, same.ids)
    assert (one.images != other.images).any()


def test_without_instances_or_with_specks_alone_there_is_nothing(tmp_path):
    write_drawn_dataset(tmp_path, name="b", instances=False)
    assert cut_closeups(open_folders(tmp_path), count=4, size=SIZE, seed=0) is None
    folder = write_drawn_dataset(tmp_path, name="specks", size=96)
    for path in (folder / "instances").iterdir():
        ids = np.zeros((96, 96), np.uint8)
        ids[4 : 4 + LEAST - 1, 4:8] = 1
        Image.fromarray(ids).save(path)
    index = json.loads((folder / "index.json").read_text())
    for entry in index.values():
        entry["instances"] = {"1": 1}
    (folder / "index.json").write_text(json.dumps(index))
    assert cut_closeups(open_folders(tmp_path), count=4, size=SIZE, seed=0) is None
