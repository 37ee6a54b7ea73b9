"""COCO's JSON: polygons, run lengths, crowds."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from incontext.annotations import pictures
from incontext.annotations.parse import Node
from incontext.annotations.shapes import Annotated, Class, Polygons, Region, Shape
from incontext.annotations.source import Asked, Source
from incontext.files import rle
from incontext.files.decode import check_size
from seggpt.errors import InputError

MOST_LABEL = 65535  # what masks of 16 bits hold
_MOST_PIXELS = 1 << 40  # of run lengths that are only counted


def read_coco(data: Node, file: Path, asked: Asked) -> Source:
    """Read a file of COCO: annotations of things in pictures.

    Raises:
        InputError: Something in it makes no sense, or a picture is missing.
    """
    images = _by_id(data["images"], "image")
    marked: dict[int, list[Node]] = {}
    annotations = _by_id(data["annotations"], "ann")
    for ann in annotations.values():
        image = ann["image_id"].whole()
        if image not in images:
            raise ann.error(f"image_id {image} is not among the images")
        marked.setdefault(image, []).append(ann)
    used = {ann["category_id"].whole() for ann in annotations.values()}
    classes = _classes(data, used, annotations)
    lone = [image for image in images if image not in marked]
    if lone and not asked.empty:
        asked.leave_out(len(lone), data.place)
    wanted = [image for image in images if asked.empty or image in marked]
    annotated = []
    for number in asked.take(wanted, data.place):
        image = images[number]
        size = None
        if image.has("width") and image.has("height"):
            size = (image["width"].whole(least=1), image["height"].whole(least=1))
            check_size(size, name=image.place, max_pixels=None)
        regions = (_region(ann, classes) for ann in marked.get(number, ()))
        name = _file_name(image)
        picture = pictures.find_named(name, file, images=asked.images)
        if picture is None:
            raise pictures.missing(image.place, str(name.value))
        annotated.append(Annotated(picture, image.place, tuple(regions), size))
    return Source(data.place, annotated=tuple(annotated), files=(file,))


def _file_name(image: Node) -> Node:
    """Return the name of a picture's file; LVIS has its address alone."""
    if image.has("file_name") or not image.has("coco_url"):
        return image["file_name"]
    address = image["coco_url"]
    return replace(address, value="/".join(address.text().split("/")[-2:]))


def _by_id(entries: Node, what: str) -> dict[int, Node]:
    """Return entries by their ids, each called by its own.

    Raises:
        InputError: Two have one id, or one has none.
    """
    found: dict[int, Node] = {}
    for entry in entries.items(f"{what} at place"):
        number = entry["id"].whole()
        if number in found:
            raise InputError(f"{entries.place}: {what} {number} is there twice; give it another id")
        found[number] = Node(entry.value, f"{entries.place}: {what} {number}")
    return found


def _classes(data: Node, used: set[int], annotations: Mapping[int, Node]) -> dict[int, Class]:
    """Return the classes of the ids in use.

    Ids are the labels. Where one cannot be, as 0 is the background, all categories are numbered
    from 1 in the order of their ids.

    Raises:
        InputError: A category is unknown or has no name, or two have one name.
    """
    names: dict[int, str | None] = dict.fromkeys(used)
    if data.has("categories"):
        known = _by_id(data["categories"], "category")
        for ann in annotations.values():
            if (own := ann.value["category_id"]) not in known:
                raise ann.error(f"category_id {own} is not among the categories")
        names = {
            number: category["name"].text().strip() if number in used else None
            for number, category in known.items()
        }
    first: dict[str, int] = {}
    for number, name in names.items():
        if name is not None and first.setdefault(name, number) != number:
            raise InputError(
                f"{data.place}: categories {first[name]} and {number} are both called '{name}'; "
                "rename one"
            )
    labels = {number: number for number in names}
    if used and not 1 <= min(used) <= max(used) <= MOST_LABEL:
        labels = {number: place for place, number in enumerate(sorted(names), 1)}
    return {number: Class(labels[number], names[number]) for number in used}


def _region(ann: Node, classes: Mapping[int, Class]) -> Region:
    is_crowd = ann.has("iscrowd") and ann["iscrowd"].whole() != 0
    if not ann.has("segmentation") or ann.value["segmentation"] == []:
        what = (
            "segments of COCO panoptic lie in PNG files; give those as masks"
            if ann.has("segments_info")
            else "no segmentation, and boxes are no masks; outline the thing, or delete the entry"
        )
        raise ann.error(what)
    shape = _shape(ann["segmentation"])
    return Region(shape, None if is_crowd else classes[ann["category_id"].whole()], ann.place)


def _shape(segmentation: Node) -> Shape:
    if isinstance(segmentation.value, list):
        rings = [Node(part, segmentation.place).flat_points() for part in segmentation.value]
        return Polygons(tuple((ring,) for ring in rings))
    sides = segmentation["size"]
    if not isinstance(sides.value, list) or len(sides.value) != 2:
        raise sides.error("segmentation.size must be [height, width]")
    height, width = (
        Node(side, sides.place, "segmentation.size").whole(least=1) for side in sides.value
    )
    return _runs(segmentation["counts"], (height, width))


def _runs(counts: Node, size: tuple[int, int]) -> rle.RunLengths:
    height, width = size
    check_size((width, height), name=counts.place, max_pixels=_MOST_PIXELS)
    if isinstance(counts.value, str):
        try:
            runs = rle.from_coco(size, counts.value)
        except InputError as error:
            raise counts.error(str(error)) from error
    else:
        if not isinstance(counts.value, list):
            raise counts.error("segmentation.counts must be a list or a text")
        for count in counts.value:
            if type(count) is not int or not 0 <= count <= height * width:
                raise counts.error(
                    f"segmentation.counts has {count!r:.40}, and must have whole numbers of "
                    f"pixels of {width}x{height}"
                )
        runs = rle.RunLengths(size, np.array(counts.value, np.int64))
    total = sum(runs.counts.tolist())  # Python's numbers cannot overflow
    if total != height * width:
        raise counts.error(
            f"run lengths of {total} pixels for a mask of {width}x{height}; export again"
        )
    return runs
