"""Folders of examples: what lies in them is found out; what has two readings is refused."""

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path

from incontext.annotations.coco import read_coco
from incontext.annotations.geojson import is_geojson, read_geojson
from incontext.annotations.labelme import read_labelme
from incontext.annotations.naming import (
    MASK_SUFFIXES,
    Found,
    Pairing,
    is_mask_folder,
    pair_by_name,
    shown,
)
from incontext.annotations.parse import Node, load_json, read_text
from incontext.annotations.shapes import Annotated
from incontext.annotations.source import Asked, Source
from incontext.annotations.yolo import find_names, label_file, read_yolo
from incontext.files.images import IMAGE_SUFFIXES, find_images
from seggpt.errors import InputError, one_line

JSON_SUFFIXES = (".json", ".geojson")
_VOC_MASKS = "segmentationclass"
_YOLO_LINE = re.compile(r"\s*[0-9]+(\s+[-+.0-9eE]+){4,}\s*")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reading:
    """One way to read a folder, and what it is called."""

    words: str
    read: Callable[[Asked], Source]


def read_folder(folder: Path, asked: Asked) -> Source:
    """Read a folder of annotations, or of pictures and masks.

    Raises:
        InputError: There is nothing of the kind, or there are two kinds.
    """
    name = one_line(folder)
    found = chain(
        _json_readings(folder, asked), _yolo_readings(folder, asked), _pair_readings(folder)
    )
    readings = list(islice(found, 2))  # a third would only cost time
    if not readings:
        raise InputError(
            f"{name}: no examples that we know: COCO, labelme, GeoJSON, YOLO, or pictures and "
            "masks (images/ and masks/, or a.jpg and a_mask.png)"
        )
    if len(readings) > 1:
        both = " or as ".join(reading.words for reading in readings)
        raise InputError(
            f"{name}: can be read as {both}; name the one file or folder that is meant, or move "
            "the other away"
        )
    return readings[0].read(asked)


def json_kind(data: Node) -> str:
    """Return what a JSON file holds: coco, labelme, geojson, or nothing that we know."""
    if data.has("images") and data.has("annotations"):
        return "coco"
    if data.has("shapes"):
        return "labelme"
    return "geojson" if is_geojson(data) else ""


def read_yolo_files(pairs: Sequence[tuple[Path, Path]], folder: Path, asked: Asked) -> Source:
    """Read pictures and their YOLO files; names of classes are near the folder of the files.

    Raises:
        InputError: A line makes no sense, or names cannot be read.
    """
    file, names = find_names(folder)
    annotated = [read_yolo(picture, text, names) for picture, text in pairs]
    files = (*(text for _, text in pairs), *([file] if file else []))
    return Source(one_line(folder), asked.keep(annotated, one_line(folder)), files=files)


def _json_readings(folder: Path, asked: Asked) -> Iterator[Reading]:
    groups: dict[str, list[tuple[Path, Annotated]]] = {"labelme": [], "GeoJSON": []}
    for file in _json_files(folder):
        data = load_json(file)
        match json_kind(data):
            case "coco":
                yield Reading(f"COCO ({one_line(file)})", partial(_read_coco, file))
            case "labelme":
                picture = read_labelme(data, file, images=asked.images)
                groups["labelme"].append((file, picture))
            case "geojson":
                picture = read_geojson(data, file, images=asked.images)
                groups["GeoJSON"].append((file, picture))
    for kind, found in groups.items():
        if found:
            words = f"{kind} ({shown(file for file, _ in found)})"
            yield Reading(words, partial(_keep, found, one_line(folder)))


def _read_coco(file: Path, asked: Asked) -> Source:
    """Read a file again that is large, so that two of them are never in memory together."""
    return read_coco(load_json(file), file, asked)


def _keep(found: Sequence[tuple[Path, Annotated]], name: str, asked: Asked) -> Source:
    annotated = asked.keep([picture for _, picture in found], name)
    return Source(name, annotated, files=tuple(file for file, _ in found))


def _json_files(folder: Path) -> list[Path]:
    """Return JSON files of a folder, and of folders in it that are named after annotations."""
    files = _files(folder, JSON_SUFFIXES, recursive=False)
    for part in _folders(folder):
        if is_mask_folder(part):
            files += _files(part, JSON_SUFFIXES)
    return [file for file, _ in files]


def _yolo_readings(folder: Path, asked: Asked) -> Iterator[Reading]:
    pictures = _files(asked.images or folder, IMAGE_SUFFIXES)
    if asked.images is None:
        texts = [(picture, label_file(picture)) for picture, _ in pictures]
    else:
        by_stem = {stem: file for file, stem in _files(folder, (".txt",))}
        texts = [(picture, by_stem.get(stem)) for picture, stem in pictures]
    pairs = [(picture, text) for picture, text in texts if text is not None]
    if any(map(_is_yolo, (text for _, text in pairs))):
        words = f"YOLO ({shown(text for _, text in pairs)})"
        yield Reading(words, partial(read_yolo_files, pairs, folder))


def _is_yolo(file: Path) -> bool:
    lines = filter(str.strip, read_text(file).splitlines())
    return _YOLO_LINE.fullmatch(next(lines, "")) is not None


def _pair_readings(folder: Path) -> Iterator[Reading]:
    name = one_line(folder)
    folders = _folders(folder)
    masks = _mask_folders(folders)
    others = [part for part in folders if not is_mask_folder(part)]
    for own in masks:
        found = _files(own, MASK_SUFFIXES)
        for part in (folder, *others) if found else ():
            pictures = _files(part, IMAGE_SUFFIXES, recursive=part is not folder)
            pairing = pair_by_name(pictures, found)
            if pairing.pairs:
                words = f"masks in {one_line(own)} of pictures in {one_line(part)}"
                yield Reading(words, partial(_pairs, pairing, name))
    beside = pair_by_name(_files(folder, IMAGE_SUFFIXES), _files(folder, MASK_SUFFIXES))
    if beside.pairs:
        first = shown(beside.pairs[0])
        yield Reading(f"masks beside pictures ({first})", partial(_pairs, beside, name))


def _mask_folders(folders: Sequence[Path]) -> list[Path]:
    """Return the folders of masks; VOC's have a second one, of instances."""
    masks = [part for part in folders if is_mask_folder(part)]
    if not any(part.name.lower() == _VOC_MASKS for part in masks):
        return masks
    return [part for part in masks if part.name.lower() == _VOC_MASKS]


def _pairs(pairing: Pairing, name: str, asked: Asked) -> Source:
    say_alone(pairing, name)
    return Source(name, pairs=tuple(asked.take(pairing.pairs, name)))


def say_alone(pairing: Pairing, name: str) -> None:
    """Say what has no partner."""
    for what, lacks, files in (
        ("pictures", "mask", pairing.lone_pictures),
        ("masks", "picture", pairing.lone_masks),
    ):
        if files:
            logger.warning(
                "%s: %d %s have no %s and are left out: %s",
                name, len(files), what, lacks, shown(files),
            )  # fmt: skip


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(part for part in folder.iterdir() if part.is_dir() and part.name[0] != ".")
    except OSError as error:
        raise InputError(f"{one_line(folder)}: cannot read: {error.strerror}") from error


def _files(folder: Path, suffixes: tuple[str, ...], *, recursive: bool = True) -> list[Found]:
    try:
        return find_images([folder], recursive=recursive, suffixes=suffixes)
    except InputError:  # none
        return []
