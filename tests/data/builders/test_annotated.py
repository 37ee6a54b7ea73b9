import base64
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.builders import annotated as module
from data.builders.annotated import (
    read_any,
    read_coco_files,
    read_labelme_tree,
    read_yolo_tree,
)
from data.builders.contents import IGNORE
from seggpt.errors import InputError
from tests.data.builders.imitations import SIZE, box, coco, grid, save, write_json
from tests.data.drawn import write_drawn_dataset


def shown(contents, split="train", place=0):
    maps = contents.splits[split][place].read()
    return [contents.classes.get(own, own) for own in np.unique(maps.labels).tolist() if own]


def labelme(path, shapes, image="a.jpg"):
    points = {"big": [[0, 0], [8, 0], [8, 8], [0, 8]], "small": [[0, 0], [4, 0], [4, 4], [0, 4]]}
    rows = [{"label": label, "points": points[of]} for label, of in shapes]
    write_json(path, {"shapes": rows, "imagePath": image})


def test_pictures_with_masks_are_classes_without_instances(tmp_path):
    for stem in "ab":
        save(tmp_path / "images" / f"{stem}.jpg")
        save(tmp_path / "masks" / f"{stem}.png", grid(0, 255))
    contents = read_any(tmp_path)
    assert (contents.kind, dict(contents.classes)) == ("binary", {1: "1"})
    assert [item.name for item in contents.splits["train"]] == ["images/a", "images/b"]
    assert shown(contents) == ["1"]


def test_masks_of_many_labels_have_ids_without_255(tmp_path):
    for number in range(260):
        save(tmp_path / "images" / f"{number:03d}.png")
        mask = grid(1, 1000 + number)
        save(tmp_path / "masks" / f"{number:03d}.png", mask, dtype=np.uint16)
    contents = read_any(tmp_path)
    assert len(contents.classes) == 261
    assert IGNORE not in contents.classes
    assert shown(contents, place=259) == ["1", "1259"]


def test_masks_beyond_what_fits_into_memory_are_read_alike(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TOGETHER_PIXELS", 3 * SIZE**2)
    for number in range(5):
        save(tmp_path / "images" / f"{number}.jpg")
        save(tmp_path / "masks" / f"{number}.png", grid(1, 2 + number))
    contents = read_any(tmp_path)
    assert [shown(contents, place=place) for place in (0, 2, 4)] == [
        ["1", "2"],
        ["1", "4"],
        ["1", 6],
    ]
    save(tmp_path / "masks" / "4.png", grid(1, 1000), dtype=np.uint16)
    with pytest.raises(InputError, match="label 1000, and 254 is the largest"):
        read_any(tmp_path).splits["train"][4].read()
    for number in range(5):
        save(tmp_path / "masks" / f"{number}.png", grid(0, 255))
    assert shown(read_any(tmp_path), place=4) == ["1"]


def test_our_own_layout_keeps_names_splits_and_instances(tmp_path):
    write_drawn_dataset(tmp_path, name="drawn", pictures=6)
    contents = read_any(tmp_path / "drawn")
    assert {split: len(own) for split, own in contents.splits.items()} == {"train": 4, "val": 2}
    assert shown(contents) == ["shape 1", "shape 2", IGNORE]
    assert sorted(contents.splits["train"][0].read().instance_classes.values()) == [1, 2]


def test_files_of_coco_are_splits(tmp_path):
    things = [{"id": 300, "name": "leaf"}, {"id": 2, "name": "stem"}]
    for split in ("train", "valid"):
        save(tmp_path / split / "1.jpg")
        data = coco(things, [box(1, 300, 0, 0, 4, 4), box(2, 2, 4, 4, 8, 8, iscrowd=1)])
        write_json(tmp_path / split / "_annotations.coco.json", data)
    contents = read_coco_files(tmp_path)
    assert {split: len(own) for split, own in contents.splits.items()} == {"train": 1, "val": 1}
    assert shown(contents, "val") == ["leaf", IGNORE]
    one = read_coco_files(tmp_path / "valid" / "_annotations.coco.json")
    assert list(one.splits) == ["train"]
    assert one.splits["train"][0].name == "1"


def test_folders_of_yolo_are_splits(tmp_path):
    for split in ("train", "val"):
        save(tmp_path / "images" / split / f"{split}1.jpg")
        text = tmp_path / "labels" / split / f"{split}1.txt"
        text.parent.mkdir(parents=True)
        text.write_text("1 0 0 0.5 0 0.5 1 0 1\n")
    (tmp_path / "data.yaml").write_text("names: [leaf, stem]\n")
    contents = read_yolo_tree(tmp_path)
    assert {split: len(own) for split, own in contents.splits.items()} == {"train": 1, "val": 1}
    assert shown(contents) == ["stem"]
    maps = contents.splits["train"][0].read()
    assert maps.instances is not None
    np.testing.assert_array_equal(maps.instances[:, : SIZE // 2], 1)


def test_a_small_thing_lies_on_a_large_one_whatever_the_order(tmp_path):
    save(tmp_path / "one" / "a.jpg")
    labelme(tmp_path / "one" / "a.json", [("spot", "small"), ("leaf", "big")])
    contents = read_labelme_tree(tmp_path)
    maps = contents.splits["train"][0].read()
    assert contents.classes[maps.labels[0, 0]] == "spot"
    assert contents.classes[maps.labels[7, 7]] == "leaf"
    assert contents.splits["train"][0].name == "one/a"


def test_things_under_others_are_no_instances(tmp_path):
    save(tmp_path / "a.jpg")
    labelme(tmp_path / "a.json", [("leaf", "big"), ("stem", "big")])
    maps = read_any(tmp_path).splits["train"][0].read()
    assert len(maps.instance_classes) == 1


def test_a_picture_in_an_annotation_file_has_its_name(tmp_path):
    save(tmp_path / "elsewhere.png")
    data = (tmp_path / "elsewhere.png").read_bytes()
    (tmp_path / "elsewhere.png").unlink()
    labelme(tmp_path / "a.json", [("leaf", "big")])
    given = json.loads((tmp_path / "a.json").read_text())
    write_json(tmp_path / "a.json", {**given, "imageData": base64.b64encode(data).decode()})
    [item] = read_labelme_tree(tmp_path).splits["train"]
    assert item.name == "a_json"
    assert not isinstance(item.image, Path)
    assert item.image() == data


@pytest.mark.parametrize(
    ("read", "words"),
    [
        (read_any, "no examples that we know"),
        (read_coco_files, "no COCO file"),
        (read_yolo_tree, "no YOLO files"),
        (read_labelme_tree, "no labelme file"),
    ],
)
def test_a_folder_of_something_else_is_refused(tmp_path, read, words):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg")
    with pytest.raises(InputError, match=words):
        read(tmp_path)
