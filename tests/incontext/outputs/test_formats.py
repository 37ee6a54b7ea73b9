"""Every format read back: by the tools that it is for, or by its definition."""

import json

import numpy as np
import pytest
from PIL import Image

from incontext.files.masks import load_mask
from incontext.outputs.formats import Drawing, write_output
from incontext.outputs.regions import number_instances
from seggpt.errors import InputError
from tests.incontext.outputs.test_outlines import fill


@pytest.fixture
def label_map():
    """Return discs of the labels 3 and 7, one with a hole."""
    y, x = np.mgrid[:40, :60]
    discs = np.zeros((40, 60), np.int32)
    for row, col, radius, label in ((12, 14, 9, 3), (25, 44, 12, 7), (32, 12, 5, 3)):
        discs[(y - row) ** 2 + (x - col) ** 2 < radius**2] = label
    discs[20:28, 40:49] = 0
    return discs


def write(label_map, output, path, **fields):
    drawing = Drawing(label_map=label_map, labels=(3, 5, 7), **fields)
    write_output(drawing, output, path)
    return path


@pytest.mark.parametrize("output", ["mask", "labels"])
def test_masks_of_labels_are_read_back(label_map, tmp_path, output):
    path = write(label_map, output, tmp_path / "a.png")
    np.testing.assert_array_equal(load_mask(path).labels, label_map)


def test_labels_have_16_bits_where_they_need_them(tmp_path):
    label_map = np.array([[0, 300], [4, 0]], np.int32)
    with Image.open(write(label_map, "labels", tmp_path / "a.png")) as image:
        np.testing.assert_array_equal(np.asarray(image), label_map)
        assert image.mode.startswith("I;16")
    with pytest.raises(InputError, match="do not fit 16 bits"):
        write(np.full((2, 2), 70_000, np.int32), "labels", tmp_path / "b.png")


def test_instances_are_numbered(label_map, tmp_path):
    with Image.open(write(label_map, "labels", tmp_path / "a.png", instances=True)) as image:
        np.testing.assert_array_equal(np.asarray(image), number_instances(label_map))


def test_binary_has_a_file_for_every_label(label_map, tmp_path):
    folder = tmp_path / "a.binary"
    for _ in range(2):  # a folder is replaced like a file
        write(label_map, "binary", folder)
        assert sorted(path.name for path in folder.iterdir()) == ["3.png", "5.png", "7.png"]
    for label in (3, 5, 7):
        with Image.open(folder / f"{label}.png") as image:
            np.testing.assert_array_equal(np.asarray(image), 255 * (label_map == label))
    assert [path.name for path in tmp_path.iterdir()] == ["a.binary"]


def test_probabilities_are_arrays(label_map, tmp_path):
    values = np.random.default_rng(0).random((4, 40, 60)).astype(np.float32)
    path = write(label_map, "probabilities", tmp_path / "a.npz", probabilities=lambda: values)
    with np.load(path) as file:
        np.testing.assert_allclose(file["probabilities"], values, atol=1e-3)
        assert file["labels"].tolist() == [3, 5, 7]


def test_labelme_has_polygons_that_fill_to_the_mask(label_map, tmp_path):
    names = {3: "leaf"}
    path = write(
        label_map,
        "labelme",
        tmp_path / "out" / "a.json",
        names=names,
        source=str(tmp_path / "a.jpg"),
    )
    page = json.loads(path.read_text())
    assert (page["imageHeight"], page["imageWidth"]) == label_map.shape
    assert page["imagePath"] == "../a.jpg"
    assert page["imageData"] is None
    for label, name in ((3, "leaf"), (7, "7")):
        own = [np.array(s["points"]) for s in page["shapes"] if s["label"] == name]
        np.testing.assert_array_equal(fill(own, label_map.shape), label_map == label)
    assert [shape["group_id"] for shape in page["shapes"]] == [1, 1, 2]


def test_yolo_has_polygons_in_shares_of_the_picture(label_map, tmp_path):
    path = write(label_map, "yolo", tmp_path / "a.txt")
    rings = {0: [], 1: [], 2: []}
    for line in path.read_text().splitlines():
        number, *numbers = line.split()
        points = np.array(numbers, float).reshape(-1, 2)
        assert points.min() >= 0
        assert points.max() <= 1
        rings[int(number)].append((points * (60, 40)).round(3))
    assert not rings[1]
    np.testing.assert_array_equal(fill(rings[0], label_map.shape), label_map == 3)
    np.testing.assert_array_equal(fill(rings[2], label_map.shape), label_map == 7)


@pytest.mark.parametrize("instances", [False, True])
def test_geojson_has_closed_rings_with_holes(label_map, tmp_path, instances):
    path = write(label_map, "geojson", tmp_path / "a.geojson", instances=instances)
    features = json.loads(path.read_text())["features"]
    assert len(features) == (3 if instances else 2)
    for label in (3, 7):
        rings = []
        for feature in features:
            properties = feature["properties"]
            assert properties["objectType"] == "annotation"
            if properties["classification"]["name"] == str(label):
                rings += [r for part in feature["geometry"]["coordinates"] for r in part]
        assert all(ring[0] == ring[-1] for ring in rings)
        opened = [np.array(ring[:-1]) for ring in rings]
        np.testing.assert_array_equal(fill(opened, label_map.shape), label_map == label)
