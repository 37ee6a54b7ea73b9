import numpy as np
import pytest

from data.builders.contents import IGNORE
from data.builders.encoding import encode
from data.builders.table import DATA_SETS
from seggpt.errors import InputError
from tests.data.builders import imitations

MANY = {f"c{number}" for number in range(80)}
# The set: pictures of each split, what the first picture shows (ids of classes by name,
# "" for what does not count), classes of its instances, and a file whose lack must be told.
EXPECTED = {
    "ade20k": ({"train": 1, "val": 1}, {"", "n150"}, [], "objectInfo150.txt"),
    "coco_instances": (
        {"train": 1, "val": 1},
        {"person", "toothbrush"},
        ["person", "toothbrush"],
        "annotations/instances_val2017.json",
    ),
    "coco_panoptic": (
        {"train": 1, "val": 1},
        {"", "person", "sky"},
        ["person"],
        "annotations/panoptic_train2017",
    ),
    "coco_stuff": ({"train": 1, "val": 1}, {"", "person"}, [], "labels.txt"),
    "paco": (
        {"train": 1, "val": 1},
        {"mug:handle"},
        ["mug"],
        "annotations/paco_lvis_v1_train.json",
    ),
    "voc_aug": ({"train": 2, "val": 1}, {"", "tv monitor"}, ["tv monitor"], "benchmark_RELEASE"),
    "cityscapes": ({"train": 1, "val": 1}, {"road", "car"}, ["car"], "gtFine/train/ulm"),
    "lip": ({"train": 1, "val": 1}, {"right shoe"}, [], "TrainVal_parsing_annotations"),
    "loveda": ({"train": 1, "val": 1}, {"", "agriculture"}, [], "Val"),
    "fss1000": ({"train": 10, "test": 10}, {"abacus"}, [], "fewshot_data/zebra/1.png"),
    "coco20i": ({"val": 3}, MANY, sorted(MANY), "annotations/instances_val2014.json"),
    "lvis92i": ({"val": 3}, MANY, sorted(MANY), "lvis_v1_val.json"),
    "pascal5i": (
        {"val": 20},
        {"", "aeroplane", "bicycle"},
        [],
        "SegmentationClassAug/2007_000019.png",
    ),
    "perseg": ({"test": 6}, {"cat"}, [], "Annotations/dog/02.png"),
    "chase_db1": ({"train": 20, "val": 2}, {"vessel"}, [], "Image_03L_1stHO.png"),
    "drive": ({"train": 1, "val": 1}, {"vessel"}, [], "training/1st_manual"),
    "hrf": ({"train": 1, "val": 1}, {"vessel"}, [], "manual1/06_h.tif"),
    "stare": ({"train": 10, "val": 1}, {"vessel"}, [], "labels-ah"),
    "isaid": ({"train": 2, "val": 2}, {"harbor"}, ["harbor"], "train/images/P0000.png"),
}


@pytest.fixture(params=sorted(EXPECTED))
def official(request, tmp_path):
    getattr(imitations, request.param)(tmp_path)
    return request.param, tmp_path


def remove(path):
    if path.is_dir():
        path.rename(path.with_name("away"))
    else:
        path.unlink()


def read_first(name, root):
    for items in DATA_SETS[name].read(root).splits.values():
        items[0].read()


def test_every_official_data_set_is_tested():
    assert {name for name, row in DATA_SETS.items() if row.home} == set(EXPECTED)


def test_a_download_is_read(official):
    name, root = official
    counts, shown, things, _ = EXPECTED[name]
    contents = DATA_SETS[name].read(root)
    assert {split: len(items) for split, items in contents.splits.items()} == counts
    names = {**contents.classes, IGNORE: ""}
    first = next(iter(contents.splits.values()))
    item = first[-1 if name == "isaid" else 0]
    maps = item.read()
    assert {names[own] for own in np.unique(maps.labels).tolist() if own} == shown
    assert sorted(contents.classes[own] for own in maps.instance_classes.values()) == things
    if things:
        assert maps.instances is not None
        assert set(np.unique(maps.instances)) - {0} == set(maps.instance_classes)
    for items in contents.splits.values():
        assert encode(items[-1], wide=True)["images"]


def test_what_is_missing_is_named(official):
    name, root = official
    lost = EXPECTED[name][3]
    path = root / "ADEChallengeData2016" / lost if name == "ade20k" else root / lost
    remove(path)
    with pytest.raises(InputError) as caught:
        read_first(name, root)
    assert lost.split("/")[-1] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_small_things_lie_on_large_ones(tmp_path):
    imitations.coco_instances(tmp_path)
    contents = DATA_SETS["coco_instances"].read(tmp_path)
    labels = contents.splits["train"][0].read().labels
    names = [contents.classes[own] for own in (labels[0, 0], labels[7, 7])]
    assert names == ["toothbrush", "person"]
