import json
import pickle
import re
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from data.benchmarks import layouts
from data.benchmarks.layouts import FSS_TEST, draw_shapes, open_layout
from data.benchmarks.protocols import Name, draw_episodes
from data.prepare import main
from tests.data.builders import imitations

SIZE = (6, 8)
COCO = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, np.uint8)).save(path)


def square(value, *, ignore=False):
    mask = np.zeros(SIZE, np.uint8)
    mask[1:4, 2:5] = value
    mask[0] = 255 if ignore else 0
    return mask


def test_pascal_reads_ids_and_ignores_borders(tmp_path):
    names = [f"2007_{number:06}" for number in range(40)]
    for number, name in enumerate(names):
        save(tmp_path / f"JPEGImages/{name}.jpg", np.zeros((*SIZE, 3)))
        save(tmp_path / f"SegmentationClassAug/{name}.png", square(1 + number % 20, ignore=True))
    listed = tmp_path / "ImageSets/Segmentation/val.txt"
    listed.parent.mkdir(parents=True)
    listed.write_text("\n".join(names))
    layout = open_layout("pascal5i", tmp_path, fold=0)
    assert layout.pool.classes[1] == "aeroplane"
    assert len(layout.pool.classes) == 20
    assert layout.pool.queries[:2] == [(names[0], 1), (names[1], 2)]
    assert not layout.pool.is_official
    episode = draw_episodes("pascal5i", layout.pool, fold=1)[0]
    examples, query = layout.load(episode)
    np.testing.assert_array_equal(query.mask, square(1) == 1)
    np.testing.assert_array_equal(query.ignore, square(1, ignore=True) == 255)
    assert len(examples) == 1
    splits = tmp_path / "splits/pascal/val"
    splits.mkdir(parents=True)
    (splits / "fold0.txt").write_text(f"{names[20]}__01\n{names[0]}__01\n")
    layout = open_layout("pascal5i", tmp_path, fold=0, splits=tmp_path / "splits")
    assert layout.pool.queries == [(names[20], 1), (names[0], 1)]
    assert layout.pool.is_official


@pytest.fixture
def few_tests(monkeypatch, tmp_path):
    listed = tmp_path / "tests.txt"
    listed.write_text("zebra\n")
    monkeypatch.setattr(layouts, "FSS_TEST", listed)


def test_fss_asks_for_its_classes_in_the_order_of_files(tmp_path, few_tests):
    assert len(set(FSS_TEST.read_text().split())) == 240
    imitations.fss1000(tmp_path)
    layout = open_layout("fss1000", tmp_path / "fewshot_data", fold=0)
    episodes = draw_episodes("fss1000", layout.pool)
    assert [e.query for e in episodes] == [f"zebra/{n}" for n in (1, 10, *range(2, 10))]
    np.testing.assert_array_equal(layout.load(episodes[0])[1].mask, imitations.grid(0, 1))


def test_fss_is_refused_without_all_of_its_tests(tmp_path, few_tests):
    imitations.fss1000(tmp_path / "raw")
    source, sets = tmp_path / "raw", tmp_path / "sets"
    for end in ("jpg", "png"):
        (source / f"fewshot_data/zebra/7.{end}").unlink()
    assert main(["fss1000", "--source", str(source), "--out", str(sets)]) == 0
    lack = "1 of 10 pictures are missing, for example zebra/7"
    for path, said in (
        (source, f"fss1000: --data {source}: {lack}; see --help"),
        (sets, f"fss1000: --data {sets}/fss1000/1.0.0: {lack}; python -m data.prepare fss1000"),
    ):
        with pytest.raises(ValueError, match=re.escape(said)):
            open_layout("fss1000", path, fold=0)
    (source / "fewshot_data/zebra").rename(tmp_path / "zebra")
    with pytest.raises(ValueError, match="1 of the 1 test classes are missing, for example zebra"):
        open_layout("fss1000", source, fold=0)


@COCO
@pytest.mark.parametrize("name", get_args(Name))
def test_a_prepared_set_gives_the_episodes_of_its_download(name, tmp_path, few_tests):
    source, sets = tmp_path / "source", tmp_path / "sets"
    getattr(imitations, name)(source)
    assert main([name, "--source", str(source), "--out", str(sets)]) == 0
    official, prepared = (open_layout(name, path, fold=0) for path in (source, sets))
    episodes = draw_episodes(name, official.pool)
    assert draw_episodes(name, prepared.pool) == episodes
    assert prepared.pool.is_official == official.pool.is_official
    for episode in episodes[:30]:
        both = [layout.load(episode) for layout in (official, prepared)]
        for one, other in zip(*((*examples, query) for examples, query in both), strict=True):
            assert one.mask.any()
            for part in ("image", "mask", "ignore"):
                np.testing.assert_array_equal(getattr(one, part), getattr(other, part))


def test_a_prepared_voc_aug_serves_pascal(tmp_path):
    imitations.voc_aug(tmp_path)
    assert main(["voc_aug", "--source", str(tmp_path)]) == 0
    prepared = open_layout("pascal5i", tmp_path, fold=0).pool
    assert prepared == open_layout("pascal5i", tmp_path / "VOCdevkit/VOC2012", fold=0).pool
    assert prepared.queries == [("b", 20)]
    said = f"coco20i: --data {tmp_path}: has voc_aug, and coco20i is needed; python -m data.prepare"
    with pytest.raises(ValueError, match=re.escape(said)):
        open_layout("coco20i", tmp_path, fold=0)
    info = tmp_path / ".prepared/voc_aug/1.0.0/info.json"
    info.write_text(json.dumps(json.loads(info.read_text()) | {"splits": {"train": 2}}))
    with pytest.raises(ValueError, match=r"voc_aug/1\.0\.0: no split 'val'; it has \['train'\]"):
        open_layout("pascal5i", tmp_path, fold=0)


def test_perseg_takes_what_is_marked(tmp_path):
    for thing in ("cat", "dog"):
        for number in range(2):
            save(tmp_path / f"Images/{thing}/{number:02}.jpg", np.zeros((*SIZE, 3)))
            save(tmp_path / f"Annotations/{thing}/{number:02}.png", square(128))
    layout = open_layout("perseg", tmp_path, fold=0)
    (first, _) = draw_episodes("perseg", layout.pool)
    assert (first.class_name, first.examples, first.query) == ("cat", ("cat/00",), "cat/01")
    np.testing.assert_array_equal(layout.load(first)[1].mask, square(1) == 1)
    (tmp_path / "Annotations/dog/00.png").unlink()
    (tmp_path / "Images/dog/00.jpg").unlink()
    with pytest.raises(ValueError, match="dog has no picture 00"):
        open_layout("perseg", tmp_path, fold=0)


def write_coco(path, categories=80):
    """Write two pictures with a square each, of class 5."""
    polygon = [[2, 1, 5, 1, 5, 4, 2, 4]]
    data = {
        "categories": [{"id": 10 * c, "name": f"c{c}"} for c in reversed(range(categories))],
        "images": [
            {"id": i, "file_name": f"{i}.jpg", "height": SIZE[0], "width": SIZE[1]} for i in (3, 4)
        ],
        "annotations": [
            {"image_id": i, "category_id": 50, "segmentation": polygon} for i in (4, 3, 3)
        ],
    }
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(data))
    for i in (3, 4):
        save(path.parents[1] / f"val2014/{i}.jpg", np.zeros((*SIZE, 3)))


@COCO
def test_coco_joins_the_annotations_of_a_class(tmp_path):
    write_coco(tmp_path / "annotations/instances_val2014.json")
    layout = open_layout("coco20i", tmp_path, fold=0)
    assert list(layout.pool.classes)[5] == 50
    assert layout.pool.pictures[50] == ["3.jpg", "4.jpg"]
    np.testing.assert_array_equal(layout._read("3.jpg", 50).mask, square(1) == 1)


def test_coco_takes_published_lists_and_runs_nothing_in_them(tmp_path):
    write_coco(tmp_path / "annotations/instances_val2014.json")
    listed = tmp_path / "splits/coco/val/fold0.pkl"
    listed.parent.mkdir(parents=True)
    listed.write_bytes(pickle.dumps({5: ["val2014/4.jpg", "val2014/3.jpg"]}))
    layout = open_layout("coco20i", tmp_path, fold=0, splits=tmp_path / "splits")
    assert layout.pool.pictures[50] == ["4.jpg", "3.jpg"]
    assert layout.pool.is_official
    listed.write_bytes(pickle.dumps({5: print}))
    with pytest.raises(ValueError, match=r"it holds builtins\.print"):
        open_layout("coco20i", tmp_path, fold=0, splits=tmp_path / "splits")


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not annotations in COCO's form"), ("[]", "not annotations"), ("{}", "not annotations")],
)
def test_annotations_that_are_none_are_one_line(tmp_path, text, message):
    (tmp_path / "lvis_v1_val.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        open_layout("lvis92i", tmp_path, fold=0)


def test_pictures_outside_of_the_folder_are_refused(tmp_path):
    image = {"id": 1, "height": 2, "width": 2, "file_name": "../../etc/passwd"}
    data = {"categories": [], "images": [image], "annotations": []}
    (tmp_path / "lvis_v1_val.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match="is outside of"):
        open_layout("lvis92i", tmp_path, fold=0)


@COCO
def test_run_lengths_and_polygons_are_drawn_alike():
    polygon = [[2, 1, 5, 1, 5, 4, 2, 4]]
    runs = {"size": list(SIZE), "counts": [13, 3, 3, 3, 3, 3, 20]}
    expected = square(1) == 1
    np.testing.assert_array_equal(draw_shapes([polygon], SIZE), expected)
    np.testing.assert_array_equal(draw_shapes([runs], SIZE), expected)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"coco20i: .*instances_val2014\.json: No such file"):
        open_layout("coco20i", tmp_path, fold=0)
    with pytest.raises(ValueError, match="no such folder"):
        open_layout("coco20i", tmp_path / "nowhere", fold=0)
