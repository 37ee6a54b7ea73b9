"""What is annotated on COCO's pictures: instances, panoptic segments, stuff, and PACO's parts."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from data.builders.annotated import draw_regions, number_sources, read_files
from data.builders.contents import (
    Contents,
    Item,
    Maps,
    class_id,
    need,
    paired,
    read_ids,
    read_pixels,
)
from data.folder import IGNORE
from incontext.annotations.coco import read_coco
from incontext.annotations.parse import Node, load_json
from incontext.annotations.shapes import Annotated, Class
from incontext.annotations.source import Asked
from seggpt.errors import InputError, one_line

SPLITS = ("train", "val")


def read_instances(source: Path) -> Contents:
    """Read instances_train2017.json and instances_val2017.json."""
    return read_files([_file(source, f"instances_{split}2017") for split in SPLITS], source)


def read_coco20i(source: Path) -> Contents:
    """Read instances_val2014.json."""
    return _read_benchmark(_file(source, "instances_val2014"), source)


def read_lvis92i(source: Path) -> Contents:
    """Read lvis_v1_val.json."""
    return _read_benchmark(need(source / "lvis_v1_val.json"), source)


def _read_benchmark(file: Path, source: Path) -> Contents:
    """Read a file, and keep it: benchmarks ask for whole masks, which may overlap."""
    contents = read_files([file], source)
    items = [item for own in contents.splits.values() for item in own]
    return replace(contents, splits={"val": items}, files=(file,))


def read_panoptic(source: Path) -> Contents:
    """Read panoptic_train2017.json and its PNG files, and those of val2017."""
    splits: dict[str, list[Item]] = {}
    classes: dict[int, str] = {}
    for split in SPLITS:
        file = _file(source, f"panoptic_{split}2017")
        masks, pictures = need(file.with_suffix("")), need(source / f"{split}2017")
        data = load_json(file)
        categories = {c["id"].whole(): c for c in data["categories"].items("category")}
        ids = {own: class_id(place) for place, own in enumerate(sorted(categories), 1)}
        things = {ids[own] for own, c in categories.items() if c["isthing"].whole()}
        classes |= {ids[own]: c["name"].text() for own, c in categories.items()}
        splits[split] = []
        for ann in data["annotations"].items("annotation"):
            stem = Path(ann["file_name"].text()).stem
            read = partial(_read_segments, masks / f"{stem}.png", _segments(ann, ids), things)
            splits[split].append(Item(stem, need(pictures / f"{stem}.jpg"), read))
    return Contents("instance", classes, splits)


def _segments(ann: Node, ids: Mapping[int, int]) -> dict[int, tuple[int, bool]]:
    """Return the class of each segment, and whether it is a crowd."""
    found = {}
    for segment in ann["segments_info"].items("segment"):
        category = segment["category_id"].whole()
        if category not in ids:
            raise segment.error(f"category_id {category} is not among the categories")
        is_crowd = segment.has("iscrowd") and segment["iscrowd"].whole() != 0
        found[segment["id"].whole()] = (ids[category], is_crowd)
    return found


def _read_segments(path: Path, segments: Mapping[int, tuple[int, bool]], things: set[int]) -> Maps:
    pixels = read_pixels(need(path))
    if pixels.ndim != 3:
        raise InputError(f"{one_line(path)}: no colours, and segments are red + 256 green + ...")
    packed = pixels[..., :3].astype(np.int32) @ np.array([1, 1 << 8, 1 << 16], np.int32)
    known, inverse = np.unique(packed, return_inverse=True)
    classes, instances = np.zeros(len(known), np.uint16), np.zeros(len(known), np.uint16)
    of: dict[int, int] = {}
    for place, own in enumerate(known.tolist()):
        if own and own not in segments:
            raise InputError(f"{one_line(path)}: segment {own} is not in the JSON file")
        classes[place], is_crowd = segments[own] if own else (IGNORE, True)
        if classes[place] in things and not is_crowd:
            instances[place] = len(of) + 1
            of[len(of) + 1] = int(classes[place])
    inverse = inverse.reshape(packed.shape)
    return Maps(classes[inverse], instances[inverse], of)


def read_stuff(source: Path) -> Contents:
    """Read stuffthingmaps_trainval2017.zip, unpacked into `stuffthingmaps`, with its labels.txt."""
    rows = need(source / "labels.txt").read_text().splitlines()
    names = [row.partition(":")[2].strip() for row in rows if row.strip()][1:]  # 0 is unlabelled
    table = np.full(256, IGNORE, np.uint16)
    table[: len(names)] = range(1, len(names) + 1)  # the files count from 0
    splits = {}
    for split in SPLITS:
        masks = source / "stuffthingmaps" / f"{split}2017"
        splits[split] = paired(
            source / f"{split}2017",
            "*.jpg",
            lambda picture, masks=masks: masks / f"{picture.stem}.png",
            partial(read_ids, table=table),
        )
    return Contents("semantic", dict(enumerate(names, 1)), splits)


def read_paco(source: Path) -> Contents:
    """Read PACO-LVIS: classes are parts of objects, such as "mug:handle"; instances are objects."""
    files = [_file(source, f"paco_lvis_v1_{split}") for split in SPLITS]
    sources = [read_coco(load_json(file), file, Asked(images=source)) for file in files]
    classes, names = number_sources(sources)
    splits = {
        split: [
            Item(picture.image.stem, picture.image, partial(_read_parts, picture, classes))
            for picture in own.annotated
            if isinstance(picture.image, Path)
        ]
        for split, own in zip(SPLITS, sources, strict=True)
    }
    return Contents("instance", names, splits)


def _read_parts(picture: Annotated, classes: Mapping[Class, int]) -> Maps:
    is_part = [region.of is None or ":" in (region.of.name or "") for region in picture.regions]
    parts = tuple(r for r, own in zip(picture.regions, is_part, strict=True) if own)
    objects = tuple(r for r, own in zip(picture.regions, is_part, strict=True) if not own)
    things = draw_regions(replace(picture, regions=objects), classes)
    labels = draw_regions(replace(picture, regions=parts), classes).labels
    return Maps(labels, things.instances, things.instance_classes)


def _file(source: Path, stem: str) -> Path:
    return need(source / "annotations" / f"{stem}.json")
