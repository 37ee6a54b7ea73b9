"""`seggpt export`: masks to other formats, without a model."""

import csv
import json
import os

import numpy as np
import pytest
from PIL import Image

from incontext.cli import main

MASK = np.array([[0, 1, 1, 0], [2, 0, 0, 0], [2, 0, 1, 1]], np.uint8)


@pytest.fixture
def masks(tmp_path, monkeypatch):
    """Work in a folder with two masks and the pictures that they are of."""
    monkeypatch.chdir(tmp_path)
    for folder in ("masks/sub", "photos/sub"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("a", "sub/b"):
        Image.fromarray(MASK).save(f"masks/{name}.png")
        Image.new("RGB", (4, 3)).save(f"photos/{name}.jpg")
    (tmp_path / "names.json").write_text('{"1": "leaf", "2": "stem"}')
    return tmp_path


def test_coco_and_the_table_are_of_all_masks(masks):
    named = ("--images", "photos", "--names", "names.json", "--instances")
    assert main(["export", "masks", "-o", "out", "--format", "coco,table", *named]) == 0
    coco = json.loads((masks / "out" / "coco.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == ["a.jpg", "sub/b.jpg"]
    assert [category["name"] for category in coco["categories"]] == ["leaf", "stem"]
    assert len(coco["annotations"]) == 2 * 3
    with (masks / "out" / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["leaf", "leaf", "stem"] * 2
    assert [row["area"] for row in rows[:3]] == ["2", "2", "2"]


def test_every_mask_has_its_file_below_the_folder(masks):
    assert main(["export", "masks", "-o", "out", "--format", "labels,labelme,yolo"]) == 0
    for name in ("a", "sub/b"):
        with Image.open(masks / "out" / f"{name}.labels.png") as image:
            np.testing.assert_array_equal(np.asarray(image), MASK)
        page = json.loads((masks / "out" / f"{name}.json").read_text())
        assert len(page["shapes"]) == 3
        assert len((masks / "out" / f"{name}.txt").read_text().splitlines()) == 3


def test_a_bad_mask_does_not_stop_the_others(masks, capsys):
    (masks / "masks" / "broken.png").write_bytes(b"no picture")
    assert main(["export", "masks", "-o", "out"]) == 3
    assert "broken.png" in capsys.readouterr().err
    assert len(json.loads((masks / "out" / "coco.json").read_text())["images"]) == 2


def test_masks_of_colours_are_refused(masks, capsys):
    colours = np.zeros((3, 4, 3), np.uint8)
    colours[0, 0], colours[1, 1] = (255, 0, 0), (0, 0, 255)
    Image.fromarray(colours).save("masks/c.png")
    assert main(["export", "masks/c.png", "-o", "out", "--format", "labels"]) == 1
    assert "a mask of colours" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--format", "overlay"], "unknown format 'overlay'; choose from coco, table, mask"),
        (["--skip-existing"], "leave --skip-existing out"),
        (["--names", "nowhere.json"], "--names nowhere.json: No such file"),
    ],
)
def test_what_makes_no_sense_is_refused(masks, capsys, more, words):
    assert main(["export", "masks", "-o", "out", *more]) == 2
    assert words in capsys.readouterr().err
    assert not (masks / "out").exists()


def test_nothing_is_overwritten_unasked(masks, capsys):
    assert main(["export", "masks", "-o", "out"]) == 0
    assert main(["export", "masks", "-o", "out"]) == 2
    assert "coco.json exists; add --overwrite" in capsys.readouterr().err
    assert main(["export", "masks", "-o", "out", "--overwrite"]) == 0


def test_names_that_are_no_text_are_escaped(masks):
    strange = os.fsdecode(b"caf\xe9.png")
    try:
        (masks / "masks/a.png").rename(masks / "masks" / strange)
    except OSError:
        pytest.skip("this file system has Unicode names only")
    assert main(["export", "masks", "-o", "out", "--format", "coco,table"]) == 0
    assert "caf\\udce9.png" in (masks / "out/table.csv").read_text()
    assert os.fsencode(json.loads((masks / "out/coco.json").read_text())["images"][0]["file_name"])
