"""Plain folders, COCO, YOLO and labelme: what `incontext.annotations` reads, as records."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import UInt16

from data.builders.contents import Contents, Item, Maps, class_id, find_split
from data.folder import IGNORE, Folder, open_folder
from data.records import PREPARED
from incontext.annotations.classes import number_classes
from incontext.annotations.coco import read_coco
from incontext.annotations.folders import json_kind, read_folder, read_yolo_files
from incontext.annotations.labelme import read_labelme
from incontext.annotations.parse import Points, load_json
from incontext.annotations.shapes import (
    Annotated,
    Class,
    Patch,
    Polygons,
    Region,
    Shape,
    draw,
    fit,
)
from incontext.annotations.source import Asked, Source
from incontext.annotations.yolo import label_file
from incontext.files.decode import find_facts
from incontext.files.images import find_images
from incontext.files.masks import LoadedMask, load_mask, load_masks
from incontext.options import AskedIgnore, AskedKind
from seggpt.errors import InputError, one_line

LEAST_SPLIT = 10  # pictures, for some to be held out
TOGETHER_PIXELS = 400_000_000
"""Masks are read together, as one rule holds for all; further ones by what these have settled."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What people say of their own data, as they say it to `seggpt segment`."""

    images: Path | None = None  # where the pictures of annotation files are, if not beside them
    mask_kind: AskedKind = "auto"
    ignore: AskedIgnore = "auto"
    val: float = 0.0  # share of pictures that are held out where none has a split


PLAIN = Options()


def read_any(source: Path, options: Options = PLAIN) -> Contents:
    """Read a folder of pictures and masks or of annotations, told by what is in it.

    Raises:
        InputError: There is nothing of the kind, or there are two kinds.
    """
    if not source.is_dir():
        raise InputError(f"{one_line(source)}: no such folder")
    if (source / "info.json").exists() and (source / "masks").is_dir():
        return _read_own(open_folder(source))
    return _contents([read_folder(source, Asked(options.images))], source, options)


def read_coco_files(source: Path, options: Options = PLAIN) -> Contents:
    """Read all of COCO's files of a folder, or one; what they are called says their split.

    Raises:
        InputError: There is none.
    """
    files = [source] if source.is_file() else _json_files(source, "coco")
    if not files:
        raise InputError(f"{one_line(source)}: no COCO file (images, annotations) here")
    return read_files(files, source if source.is_dir() else source.parent, options)


def read_files(files: Sequence[Path], root: Path, options: Options = PLAIN) -> Contents:
    """Read some of COCO's files."""
    sources = [read_coco(load_json(file), file, Asked(options.images)) for file in files]
    return _contents(sources, root, options)


def read_yolo_tree(source: Path, options: Options = PLAIN) -> Contents:
    """Read YOLO's tree: `images/train/a.jpg` and `labels/train/a.txt`, or files beside pictures.

    Raises:
        InputError: There are no such files.
    """
    pictures = [picture for picture, _ in find_images([options.images or source])]
    pairs = [(picture, text) for picture in pictures if (text := label_file(picture))]
    if not pairs:
        raise InputError(f"{one_line(source)}: no YOLO files (labels/a.txt of images/a.jpg) here")
    return _contents([read_yolo_files(pairs, source, Asked())], source, options)


def read_labelme_tree(source: Path, options: Options = PLAIN) -> Contents:
    """Read labelme's files of a folder and of those in it.

    Raises:
        InputError: There is none.
    """
    files = _json_files(source, "labelme")
    if not files:
        raise InputError(f"{one_line(source)}: no labelme file (shapes) here")
    annotated = [read_labelme(load_json(file), file, images=options.images) for file in files]
    sources = [Source("", Asked().keep(annotated, one_line(source)))]
    return _contents(sources, source, options)


def _json_files(folder: Path, kind: str) -> list[Path]:
    files = (path for path in sorted(folder.glob("**/*.json")) if PREPARED not in path.parts)
    return [file for file in files if json_kind(load_json(file)) == kind]


def number_sources(sources: Sequence[Source]) -> tuple[dict[Class, int], dict[int, str]]:
    """Return the id of every class, and the names of ids."""
    labels, called = number_classes(sources, {})
    ids = {label: class_id(place) for place, label in enumerate(sorted(set(labels.values())), 1)}
    names = {own: called.get(label, str(label)) for label, own in ids.items()}
    return {of: ids[label] for of, label in labels.items()}, names


def draw_regions(picture: Annotated, classes: Mapping[Class, int]) -> Maps:
    """Draw the regions of a picture, the largest first; each is an instance.

    Raises:
        InputError: They do not fit their picture.
    """
    regions = sorted(picture.regions, key=lambda region: -area(region.shape))
    numbered: list[Region] = []
    table = [0]
    for region in regions:
        if region.of is not None:
            table.append(classes[region.of])
        own = None if region.of is None else Class(number=len(table) - 1)
        numbered.append(replace(region, of=own))
    numbers = {Class(number=number): number for number in range(1, len(table))}
    ids = draw(fit(replace(picture, regions=tuple(numbered))), numbers)
    shown = sorted(set(np.unique(ids).tolist()) - {0, -1})
    labels = np.array([*table, IGNORE], np.uint16)[ids]  # what does not count is -1, the last
    again = np.zeros(len(table) + 1, np.uint16)
    again[shown] = np.arange(1, len(shown) + 1)
    return Maps(labels, again[ids], {place: table[own] for place, own in enumerate(shown, 1)})


def area(shape: Shape) -> float:
    """Return about how many pixels a shape has."""
    match shape:
        case Polygons(parts):
            return sum(map(_ring_area, (part[0] for part in parts)))
        case Patch(mask):
            return float(mask.sum())
        case _:
            return float(shape.counts[1::2].sum())


def _ring_area(ring: Points) -> float:
    x, y = (ring - ring.mean(axis=0)).T
    return abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1))) / 2


def _contents(sources: Sequence[Source], root: Path, options: Options) -> Contents:
    pairs = [pair for source in sources for pair in source.pairs]
    if pairs:
        return _paired_contents(pairs, root, options)
    classes, names = number_sources(sources)
    items: list[tuple[str, Item]] = []
    for source in sources:
        file = Path(source.name).stem if source.name.endswith(".json") else ""
        for picture in source.annotated:
            name = _name(picture, root)
            image = picture.image
            load = image if isinstance(image, Path) else partial(bytes, image)
            item = Item(name, load, partial(draw_regions, picture, classes))
            items.append((f"{Path(name).parent} {file}", item))
    return Contents("instance", names, _splits(items, options))


def _splits(items: Sequence[tuple[str, Item]], options: Options) -> dict[str, list[Item]]:
    """Return the pictures of each split that the words beside them name.

    Where there is one alone, some are drawn for `val`, always the same ones.
    """
    splits: dict[str, list[Item]] = {}
    for words, item in items:
        splits.setdefault(find_split(words), []).append(item)
    if len(splits) > 1:
        return splits
    count = round(options.val * len(items)) if len(items) >= LEAST_SPLIT else 0
    held = set(np.random.default_rng(0).permutation(len(items))[:count].tolist())
    splits = {"train": [item for place, (_, item) in enumerate(items) if place not in held]}
    if held:
        splits["val"] = [items[place][1] for place in sorted(held)]
    return splits


def _paired_contents(pairs: Sequence[tuple[Path, Path]], root: Path, options: Options) -> Contents:
    """Read pictures and masks without annotations: one rule says what all masks mean.

    Raises:
        InputError: The masks have no single reading.
    """
    first = _fit_memory([mask for _, mask in pairs])
    masks = load_masks(first, kind=options.mask_kind, ignore=options.ignore, allow_empty=True)
    labels = sorted({label for mask in masks for label in mask.classes})
    ids = {label: class_id(place) for place, label in enumerate(labels, 1)}
    maps = [partial(Maps, _renumber(mask, ids)) for mask in masks]
    if len(first) < len(pairs):
        kind, ignore = _settle(masks, root)
        ids = {label: label for label in range(1, IGNORE)}
        maps = [partial(_read_alone, mask, kind, ignore, ids) for _, mask in pairs]
    items: list[tuple[str, Item]] = []
    for (picture, _), read in zip(pairs, maps, strict=True):
        name = _relative(picture, root)
        items.append((str(Path(name).parent), Item(name, picture, read)))
    names = {ids[label]: str(label) for label in labels if label in ids}
    return Contents("binary" if len(names) == 1 else "semantic", names, _splits(items, options))


def _fit_memory(masks: Sequence[Path]) -> Sequence[Path]:
    """Return the first masks that fit into memory together."""
    pixels = 0
    for count, mask in enumerate(masks):
        facts = find_facts(mask)
        pixels += facts.size[0] * facts.size[1] if facts else 0
        if pixels > TOGETHER_PIXELS and count:
            return masks[:count]
    return masks


def _settle(masks: Sequence[LoadedMask], root: Path) -> tuple[AskedKind, AskedIgnore]:
    """Return how to read further masks one by one, as those before them were read together.

    Raises:
        InputError: They are coloured, and only all together tell which colours there are.
    """
    kinds = {mask.kind for mask in masks}
    if "rgb" in kinds:
        raise InputError(
            f"{one_line(root)}: coloured masks of more than {TOGETHER_PIXELS / 1e6:.0f} Mpx cannot "
            "be compared; save labels of 1 to 254 as PNG, or prepare parts of the folder"
        )
    has_ignored = any(mask.ignored is not None for mask in masks)
    is_labels = kinds & {"labels", "indexed"}
    return "labels" if is_labels else "binary", IGNORE if has_ignored else "none"


def _read_alone(path: Path, kind: AskedKind, ignore: AskedIgnore, ids: Mapping[int, int]) -> Maps:
    mask = load_mask(path, kind=kind, ignore=ignore, allow_empty=True)
    if unknown := set(mask.classes) - set(ids):
        raise InputError(f"{one_line(path)}: label {min(unknown)}, and 254 is the largest here")
    return Maps(_renumber(mask, ids))


def _renumber(mask: LoadedMask, ids: Mapping[int, int]) -> UInt16[np.ndarray, "h w"]:
    labels = np.zeros(mask.labels.shape, np.uint16)
    for label in mask.classes:
        labels[mask.labels == label] = ids[label]
    if mask.ignored is not None:
        labels[mask.labels == mask.ignored] = IGNORE
    return labels


def _read_own(folder: Folder) -> Contents:
    """Read our own layout."""

    def read(picture: str) -> Maps:
        instances = folder.instance_ids(picture) if folder.has_instances else None
        return Maps(folder.labels(picture), instances, folder.instances(picture))

    def item(picture: str) -> Item:
        return Item(
            picture, Path(str(folder.root), "images", f"{picture}.jpg"), partial(read, picture)
        )

    splits = {
        split: [item(picture) for picture in folder.pictures(split)]
        for split in folder.info["splits"]
    }
    return Contents(folder.kind, folder.classes, splits)


def _name(picture: Annotated, root: Path) -> str:
    """Return what a picture is called: by its path, or by the file that holds it."""
    if isinstance(picture.image, Path):
        return _relative(picture.image, root)
    return re.sub(r"\W+", "_", picture.name.removeprefix(f"{root}/")).strip("_")


def _relative(path: Path, root: Path) -> str:
    """Return a path below a folder, or its name if it lies elsewhere, without its suffix."""
    try:
        relative = path.resolve().relative_to(root.resolve())
    except ValueError:
        relative = Path(path.name)
    return relative.with_suffix("").as_posix()
