"""Sets of few-shot benchmarks: PASCAL-5i, FSS-1000, PerSeg; others are on COCO's pictures."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from data.builders.contents import (
    Contents,
    Item,
    Maps,
    need,
    number,
    paired,
    read_grey,
    read_ids,
)
from data.builders.scenes import VOC_CLASSES, identity


def read_pascal5i(source: Path) -> Contents:
    """Read VOC 2012's val, of `SegmentationClassAug` where that is there, as HSNet has it."""
    masks = source / "SegmentationClassAug"
    masks = masks if masks.is_dir() else source / "SegmentationClass"
    table = identity(len(VOC_CLASSES))
    names = need(source / "ImageSets" / "Segmentation" / "val.txt").read_text().split()
    items = [
        Item(
            name,
            need(source / "JPEGImages" / f"{name}.jpg"),
            partial(read_ids, need(masks / f"{name}.png"), table),
        )
        for name in names
    ]
    return Contents("semantic", number(VOC_CLASSES), {"val": items})


def read_fss1000(source: Path) -> Contents:
    """Read FSS-1000: ten pictures of each class, those of `fss_test_set.txt` as the split test."""
    root = source / "fewshot_data"
    root = root if root.is_dir() else need(source)
    contents = _of_folders(
        root, lambda picture: picture.with_suffix(".png"), lambda grey: grey >= 128
    )
    tests = source / "fss_test_set.txt"
    held_out = set(tests.read_text().split()) if tests.exists() else set()
    splits: dict[str, list[Item]] = {"train": [], "test": []}
    for item in contents.splits["test"]:
        splits["test" if item.name.split("/")[0] in held_out else "train"].append(item)
    return Contents(contents.kind, contents.classes, splits)


def read_perseg(source: Path) -> Contents:
    """Read PerSeg: a folder for each object, and what is not black marked."""
    masks = source / "Annotations"
    return _of_folders(
        source / "Images",
        lambda picture: masks / picture.parent.name / f"{picture.stem}.png",
        lambda grey: grey > 0,
    )


def _of_folders(
    root: Path,
    mask_of: Callable[[Path], Path],
    is_marked: Callable[[UInt8[np.ndarray, "h w"]], np.ndarray],
) -> Contents:
    """Read pictures of one class each, in folders that are called as their class."""
    folders = (path.name for path in need(root).iterdir() if path.is_dir())
    names = number(sorted(name for name in folders if not name.startswith(".")))
    ids = {name: own for own, name in names.items()}

    def read(mask: Path) -> Maps:
        return Maps(is_marked(read_grey(mask)).astype(np.uint16) * ids[mask.parent.name])

    items = paired(
        root,
        "*/*.jpg",
        mask_of,
        read,
        name_of=lambda picture: f"{picture.parent.name}/{picture.stem}",
    )
    return Contents("semantic", names, {"test": items})
