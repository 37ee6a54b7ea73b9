import csv
import io
import json

import numpy as np
import pytest

from incontext.outputs.run_files import RunFiles

MAPS = {
    "a.jpg": np.array([[1, 1, 0, 2], [0, 0, 0, 2], [1, 0, 0, 0]], np.int32),
    "sub/b.jpg": np.array([[0, 0], [0, 2]], np.int32),
    "empty.jpg": np.zeros((2, 3), np.int32),
}


def collect(*, instances):
    run = RunFiles(names={1: "leaf", 4: "stem"}, instances=instances)
    for name, label_map in MAPS.items():
        run.add(name, label_map)
    return run


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("instances", [False, True])
def test_pycocotools_reads_the_masks(tmp_path, instances):
    coco = pytest.importorskip("pycocotools.coco")
    path = tmp_path / "coco.json"
    path.write_text(collect(instances=instances).coco())
    read = coco.COCO(str(path))
    assert [c["name"] for c in read.loadCats(read.getCatIds())] == ["leaf", "2", "stem"]
    for image in read.loadImgs(read.getImgIds()):
        label_map = MAPS[image["file_name"]]
        found = np.zeros_like(label_map)
        for annotation in read.loadAnns(read.getAnnIds(image["id"])):
            mask = read.annToMask(annotation).astype(bool)
            found[mask] = annotation["category_id"]
            assert annotation["area"] == mask.sum()
            x, y, width, height = annotation["bbox"]
            assert mask[y : y + height, x : x + width].sum() == mask.sum()
        np.testing.assert_array_equal(found, label_map)
    assert len(read.getAnnIds()) == (4 if instances else 3)


def test_ids_are_counted_from_one():
    page = json.loads(collect(instances=True).coco())
    assert [image["id"] for image in page["images"]] == [1, 2, 3]
    assert [annotation["id"] for annotation in page["annotations"]] == [1, 2, 3, 4]


def test_the_table_counts_components_and_pixels():
    rows = list(csv.DictReader(io.StringIO(collect(instances=False).table())))
    assert [(r["image"], r["name"], r["components"], r["area"]) for r in rows] == [
        ("a.jpg", "leaf", "2", "3"),
        ("a.jpg", "2", "1", "2"),
        ("sub/b.jpg", "2", "1", "1"),
    ]
    assert [rows[1][key] for key in ("x", "y", "width", "height")] == ["3", "0", "1", "2"]
    rows = list(csv.DictReader(io.StringIO(collect(instances=True).table())))
    assert [row["area"] for row in rows] == ["2", "1", "2", "1"]
