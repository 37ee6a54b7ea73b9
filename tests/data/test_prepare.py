import json
import pickle
import sys

import numpy as np
import pytest
from PIL import Image

from data import prepare as module
from data.folder import IGNORE, open_folders
from data.prepare import main, slug
from data.records import PREPARED
from tests.data.builders.imitations import SIZE, fss1000, grid, save
from tests.data.drawn import write_drawn_dataset


def write_pairs(root, *, count=3, mask=None):
    for number in range(count):
        save(root / "images" / f"{number}.jpg")
        save(root / "masks" / f"{number}.png", grid(0, 255) if mask is None else mask)
    return root


def test_a_folder_is_prepared_in_place_and_read_like_any_set(tmp_path, capsys):
    source = write_pairs(tmp_path / "My leaves 2")
    assert main(["folder", "--source", str(source)]) == 0
    assert "3 train pictures; written" in capsys.readouterr().out
    [folder] = open_folders(source)
    assert (folder.name, folder.kind, folder.classes) == ("my_leaves_2", "binary", {1: "1"})
    assert folder.pictures("train") == folder.pictures() == [f"images/{n}" for n in range(3)]
    assert folder.areas("images/0") == {1: 0.5}
    np.testing.assert_array_equal(folder.labels("images/1"), grid(0, 1))
    decoded = np.asarray(Image.open(source / "images" / "2.jpg"))
    np.testing.assert_array_equal(folder.image("images/2"), decoded)
    assert "tensorflow" not in sys.modules
    with pytest.raises(ValueError, match="no split 'val'"):
        folder.pictures("val")
    with pytest.raises(KeyError):
        folder.labels("images/9")


@pytest.mark.parametrize(("given", "held"), [([], 2), (["--val", "0"], 0), (["--val", ".5"], 6)])
def test_some_of_enough_pictures_are_held_out(tmp_path, given, held):
    source = write_pairs(tmp_path / "a", count=12)
    assert main(["folder", "--source", str(source), *given]) == 0
    [folder] = open_folders(source)
    splits = [folder.pictures(split) for split in folder.info["splits"]]
    assert sorted(map(len, splits)) == sorted(filter(None, [12 - held, held]))
    assert sorted(name for own in splits for name in own) == folder.pictures()


def test_a_share_that_is_none_is_refused(tmp_path, capsys):
    source = write_pairs(tmp_path / "a")
    assert main(["folder", "--source", str(source), "--val", "20"]) == 2
    assert "--val 20.0: a share of the pictures, from 0 to below 1" in capsys.readouterr().err


def test_a_prepared_set_is_the_same_as_its_folder(tmp_path):
    source = write_drawn_dataset(tmp_path, name="drawn", pictures=6)
    [plain] = open_folders(source)
    assert main(["folder", "--source", str(source), "--out", str(tmp_path / "out")]) == 0
    [folder] = open_folders(tmp_path / "out")
    assert folder.classes == plain.classes
    assert folder.has_instances
    for split in ("train", "val"):
        assert folder.pictures(split) == plain.pictures(split)
    for picture in plain.pictures():
        assert folder.instances(picture) == plain.instances(picture)
        assert folder.areas(picture) == pytest.approx(plain.areas(picture))
        for part in ("image", "labels", "instance_ids"):
            one, other = (getattr(own, part)(picture) for own in (folder, plain))
            assert one.dtype == np.uint8
            np.testing.assert_array_equal(one, other)


def test_our_own_layout_is_prepared_again_from_its_files(tmp_path):
    source = write_drawn_dataset(tmp_path, name="drawn", pictures=6)
    for more in ([], ["--overwrite"]):
        assert main(["folder", "--source", str(source), *more]) == 0
    [folder] = open_folders(source)
    assert len(folder.pictures()) == 6
    assert str(folder.root).startswith(str(source / PREPARED))


def test_a_second_time_says_that_it_is_there(tmp_path, capsys):
    source = write_pairs(tmp_path / "a")
    command = ["folder", "--source", str(source)]
    assert main(command) == 0
    write_pairs(source, count=5)
    assert main(command) == 0
    assert "3 train pictures; is there already" in capsys.readouterr().out
    assert main([*command, "--overwrite"]) == 0
    assert len(open_folders(source)[0].pictures()) == 5


def test_ids_beyond_254_have_16_bits(tmp_path, monkeypatch):
    fss1000(tmp_path)
    for number in range(260):
        (tmp_path / "fewshot_data" / f"b{number:03d}").mkdir()
    assert main(["fss1000", "--source", str(tmp_path)]) == 0
    [folder] = open_folders(tmp_path)
    assert folder.classes[263] == "zebra"
    assert IGNORE not in folder.classes
    labels = folder.labels("zebra/1")
    assert labels.dtype == np.uint16
    np.testing.assert_array_equal(labels, grid(0, 263))
    assert folder.labels("abacus/1").dtype == np.uint8
    assert folder.pictures("test")[:3] == ["zebra/1", "zebra/10", "zebra/2"]


def test_a_bad_picture_is_left_out(tmp_path, capsys, caplog):
    source = write_pairs(tmp_path / "a")
    (source / "images" / "1.jpg").write_bytes(b"\xff\xd8 no picture")
    Image.new("RGB", (9, 9)).save(source / "images" / "2.jpg")
    assert main(["folder", "--source", str(source)]) == 3
    assert "2 pictures are left out" in capsys.readouterr().err
    assert "1.jpg" in caplog.text
    assert "does not match" in caplog.text
    assert open_folders(source)[0].pictures() == ["images/0"]


def test_nothing_usable_leaves_nothing(tmp_path, capsys):
    source = write_pairs(tmp_path / "a", count=1)
    (source / "images" / "0.jpg").write_bytes(b"\xff\xd8 no picture")
    assert main(["folder", "--source", str(source)]) == 2
    assert "no picture of a split can be read" in capsys.readouterr().err
    assert list((source / PREPARED).iterdir()) == []


def test_what_is_stopped_leaves_nothing(tmp_path, capsys, monkeypatch):
    source = write_pairs(tmp_path / "a", count=1)

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("data.builders.builder.write_tables", stop)
    assert main(["folder", "--source", str(source)]) == 130
    assert list((source / PREPARED).iterdir()) == []


def test_a_missing_file_is_named_with_where_to_get_it(tmp_path, capsys):
    assert main(["ade20k", "--source", str(tmp_path)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "objectInfo150.txt" in line
    assert "data.csail.mit.edu" in line
    assert main(["folder", "--source", str(tmp_path / "absent")]) == 2
    assert "absent: no such folder" in capsys.readouterr().err


def test_names_of_folders_become_names_of_sets(tmp_path):
    names = [slug(tmp_path / name) for name in ("Leaves (2)", "2024", "été")]
    assert names == ["leaves_2", "set_2024", "t"]
    assert module.DATA_SETS


def test_what_a_set_is_stands_in_its_folder(tmp_path):
    source = write_pairs(tmp_path / "a")
    assert main(["folder", "--source", str(source)]) == 0
    info = json.loads((source / PREPARED / "a" / "1.0.0" / "info.json").read_text())
    assert info["splits"] == {"train": 3}
    assert open_folders(source)[0].image("images/0").shape[0] == SIZE


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("records")
    source = write_drawn_dataset(root, name="drawn", pictures=9)
    assert main(["folder", "--source", str(source), "--out", str(root / "out")]) == 0
    return open_folders(root / "out")[0]


def test_nothing_of_a_set_is_in_memory_when_it_is_opened(folder):
    assert len(pickle.dumps(folder.index)) < 500
    assert all(isinstance(table, np.memmap) for table in folder.index._tables.values())


def test_records_are_read_in_another_process(folder):
    again = pickle.loads(pickle.dumps(folder.index))
    assert list(again) == list(folder.index) == folder.pictures()
    name = folder.pictures()[4]
    assert again[name] == folder.index[name]
    assert again.read(name, "images") == folder.read(name, "images")


def test_rows_are_pictures_in_the_order_of_their_names(folder):
    for row, name in enumerate(folder.pictures()):
        areas = dict(folder.index.areas(row))
        assert {c: areas[c] for c in areas if c != IGNORE} == folder.areas(name)
        assert dict(folder.index.instances(row)) == folder.instances(name)
    with pytest.raises(KeyError):
        folder.index["absent"]
