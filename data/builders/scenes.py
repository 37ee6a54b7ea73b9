"""Pictures with masks of class numbers: ADE20K, PASCAL VOC, Cityscapes, LIP, LoveDA."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Integer
from scipy.io import loadmat

from data.builders.contents import (
    Contents,
    Item,
    Maps,
    listed,
    need,
    number,
    paired,
    read_ids,
    read_pixels,
)
from data.folder import IGNORE
from seggpt.errors import InputError, one_line

Table = Integer[np.ndarray, " stored"]

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("dining table", "dog", "horse", "motorbike", "person", "potted plant", "sheep", "sofa"),
    *("train", "tv monitor"),
)
# By the labelId of the files; the others are not evaluated, and do not count here.
CITYSCAPES_CLASSES = {
    7: "road",
    8: "sidewalk",
    11: "building",
    12: "wall",
    13: "fence",
    17: "pole",
    19: "traffic light",
    20: "traffic sign",
    21: "vegetation",
    22: "terrain",
    23: "sky",
    24: "person",
    25: "rider",
    26: "car",
    27: "truck",
    28: "bus",
    31: "train",
    32: "motorcycle",
    33: "bicycle",
}
LIP_CLASSES = (
    *("hat", "hair", "glove", "sunglasses", "upper clothes", "dress", "coat", "socks", "pants"),
    *("jumpsuit", "scarf", "skirt", "face", "left arm", "right arm", "left leg", "right leg"),
    *("left shoe", "right shoe"),
)
LOVEDA_CLASSES = ("building", "road", "water", "barren", "forest", "agriculture")


def identity(count: int) -> Table:
    """Return the table of a mask that stores class ids from 1 to `count`, and 255."""
    table = np.arange(256, dtype=np.uint16)
    table[count + 1 :] = IGNORE
    return table


def renamed(picture: Path, folders: Mapping[str, str], *, end: tuple[str, str] = ("", "")) -> Path:
    """Return the PNG whose path has other folders than a picture's, and another end of its name."""
    parts = (folders.get(part, part) for part in picture.parent.parts)
    return Path(*parts, picture.stem.removesuffix(end[0]) + end[1] + ".png")


def read_ade20k(source: Path) -> Contents:
    """Read ADEChallengeData2016: 150 classes; 0 is what is none of them, and does not count."""
    root = source / "ADEChallengeData2016" if (source / "ADEChallengeData2016").exists() else source
    rows = need(root / "objectInfo150.txt").read_text().splitlines()
    names = [row.split("\t")[-1].split(",")[0].strip() for row in rows[1:]]
    table = identity(len(names))
    table[0] = IGNORE
    read = partial(read_ids, table=table)
    mask_of = partial(renamed, folders={"images": "annotations"})
    splits = {
        split: paired(root / "images" / folder, "*.jpg", mask_of, read)
        for split, folder in (("train", "training"), ("val", "validation"))
    }
    return Contents("semantic", number(names), splits)


def read_voc_aug(source: Path) -> Contents:
    """Read VOC 2012 with the masks of SBD: all of SBD but VOC's val, and VOC's train."""
    voc = need(source / "VOCdevkit" / "VOC2012")
    sbd = need(source / "benchmark_RELEASE" / "dataset")
    lists = voc / "ImageSets" / "Segmentation"
    own = paired(
        voc / "SegmentationClass",
        "*.png",
        partial(renamed, folders={"SegmentationClass": "SegmentationObject"}),
        _read_voc,
    )
    images = voc / "JPEGImages"
    own = [Item(item.name, images / f"{item.name}.jpg", item.read) for item in own]
    val = listed(own, lists / "val.txt")
    train = listed(own, lists / "train.txt")
    taken = {item.name for item in (*val, *train)}
    more = [
        Item(path.stem, sbd / "img" / f"{path.stem}.jpg", partial(_read_sbd, path))
        for path in sorted(need(sbd / "cls").glob("*.mat"))
        if path.stem not in taken
    ]
    return Contents("instance", number(VOC_CLASSES), {"train": [*train, *more], "val": val})


def _read_voc(instances: Path) -> Maps:
    """Read VOC's palette files; both are void, 255, along the edges of things."""
    labels = read_pixels(instances.parents[1] / "SegmentationClass" / instances.name)
    return _with_classes(labels, read_pixels(instances))


def _read_sbd(path: Path) -> Maps:
    labels = _read_mat(path, "GTcls")
    return _with_classes(labels, _read_mat(path.parents[1] / "inst" / path.name, "GTinst"))


def _read_mat(path: Path, key: str) -> np.ndarray:
    try:
        return loadmat(need(path), simplify_cells=True)[key]["Segmentation"]
    except (ValueError, KeyError, TypeError, NotImplementedError) as error:
        raise InputError(f"{one_line(path)}: no mask of SBD ({key}.Segmentation)") from error


def _with_classes(labels: np.ndarray, instances: np.ndarray) -> Maps:
    if labels.ndim != 2 or labels.shape != instances.shape:
        raise InputError(f"masks of {labels.shape} and {instances.shape} for one picture")
    instances = np.where((labels == 0) | (labels == IGNORE), 0, instances)
    ids, first = np.unique(instances, return_index=True)
    classes = labels.reshape(-1)[first]
    return Maps(labels, instances, {int(i): int(c) for i, c in zip(ids, classes, strict=True) if i})


def read_cityscapes(source: Path) -> Contents:
    """Read Cityscapes' fine annotations: the 19 classes that count, and instances of eight."""
    table = np.full(256, IGNORE, np.uint16)
    table[list(CITYSCAPES_CLASSES)] = range(1, len(CITYSCAPES_CLASSES) + 1)
    end = ("_leftImg8bit", "_gtFine_labelIds")
    mask_of = partial(renamed, folders={"leftImg8bit": "gtFine"}, end=end)
    splits = {
        split: paired(
            source / "leftImg8bit" / split,
            "*/*_leftImg8bit.png",
            mask_of,
            partial(_read_cityscapes, table=table),
        )
        for split in ("train", "val")
    }
    return Contents("instance", number(tuple(CITYSCAPES_CLASSES.values())), splits)


def _read_cityscapes(path: Path, table: Table) -> Maps:
    labels = read_ids(path, table).labels
    named = path.with_name(path.name.replace("labelIds", "instanceIds"))
    stored = read_pixels(need(named))  # labelId * 1000 + number, or labelId where none is told
    things = np.where((stored >= 1000) & (labels != IGNORE), stored, 0)
    known, instances = np.unique(things, return_inverse=True)
    instances = instances.reshape(things.shape) + int(known[0] != 0)
    known = known[known > 0]
    return Maps(labels, instances, {i: int(table[k // 1000]) for i, k in enumerate(known, 1)})


def read_lip(source: Path) -> Contents:
    """Read LIP's single persons: 19 parts and clothes."""
    read = partial(read_ids, table=identity(len(LIP_CLASSES)))
    masks = need(source / "TrainVal_parsing_annotations")
    splits = {
        split: paired(
            source / "TrainVal_images" / f"{split}_images",
            "*.jpg",
            lambda picture, split=split: masks / f"{split}_segmentations" / f"{picture.stem}.png",
            read,
        )
        for split in ("train", "val")
    }
    return Contents("semantic", number(LIP_CLASSES), splits)


def read_loveda(source: Path) -> Contents:
    """Read LoveDA: 0 in its files is no data, and 1 the background."""
    table = np.full(256, IGNORE, np.uint16)
    table[1:8] = range(7)
    mask_of = partial(renamed, folders={"images_png": "masks_png"})
    splits = {
        split.lower(): paired(
            source / split, "*/images_png/*.png", mask_of, partial(read_ids, table=table)
        )
        for split in ("Train", "Val")
    }
    return Contents("semantic", number(LOVEDA_CLASSES), splits)
