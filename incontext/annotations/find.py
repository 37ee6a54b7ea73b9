"""Examples in files and folders of any kind that is known: told by what is in them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from os import PathLike
from pathlib import Path

from incontext.annotations.classes import number_classes
from incontext.annotations.coco import read_coco
from incontext.annotations.folders import JSON_SUFFIXES, json_kind, read_folder, read_yolo_files
from incontext.annotations.geojson import read_geojson
from incontext.annotations.labelme import read_labelme
from incontext.annotations.naming import pair_by_name
from incontext.annotations.parse import load_json, show
from incontext.annotations.pictures import find_stem, missing
from incontext.annotations.shapes import draw, fit
from incontext.annotations.source import Asked, Source
from incontext.annotations.yolo import picture_folder
from incontext.files.arrays import DrawnMask
from incontext.files.images import IMAGE_SUFFIXES, find_images
from seggpt.errors import InputError, one_line

Paths = str | PathLike[str] | Sequence[str | PathLike[str]]


@dataclass(frozen=True, eq=False)
class Examples:
    """What was found.

    Attributes:
        pairs: Pictures and masks.
        names: What labels are called, where the files say so.
        files: All that was read, besides what pictures hold themselves.
    """

    pairs: tuple[tuple[Path | bytes, Path | DrawnMask], ...] = ()
    names: Mapping[int, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()


def find_examples(
    paths: Paths,
    *,
    images: str | PathLike[str] | None = None,
    limit: int | None = None,
    most: int | None = None,
    empty: bool = False,
    names: Mapping[int, str] | None = None,
    max_pixels: int | None = None,
) -> Examples:
    """Find examples in annotation files, and in folders of them or of pictures and masks.

    Args:
        paths: Files of COCO, labelme, GeoJSON (QuPath), YOLO or numpy, or folders.
        images: Where the pictures are, if not beside the files or in the usual neighbours.
        limit: Take so many pictures, the first ones.
        most: Refuse more than so many, unless there is a limit.
        empty: Whether pictures without annotations are examples too.
        names: The labels that classes shall have, where these are known by name.
        max_pixels: Largest width x height of a picture with annotations.

    Raises:
        InputError: A file makes no sense, or a folder can be read in two ways.
    """
    asked = Asked(Path(images) if images is not None else None, limit, most, empty)
    if asked.images is not None and not asked.images.is_dir():
        raise InputError(f"{one_line(asked.images)}: not a folder of pictures")
    paths = [paths] if isinstance(paths, str | PathLike) else paths
    sources = [_read(Path(path), asked) for path in paths]
    labels, called = number_classes(sources, names or {})
    pairs: list[tuple[Path | bytes, Path | DrawnMask]] = []
    files: list[Path] = []
    for source in sources:
        for picture in source.annotated:
            picture = fit(picture, max_pixels=max_pixels)
            pairs.append((picture.image, DrawnMask(picture.name, partial(draw, picture, labels))))
        pairs += source.pairs
        files += source.files
    if not pairs:
        raise InputError(f"{', '.join(map(one_line, paths))}: nothing is marked in any picture")
    files += [part for pair in pairs for part in pair if isinstance(part, Path)]
    return Examples(tuple(pairs), called, tuple(files))


def _read(path: Path, asked: Asked) -> Source:
    """Read a file or a folder.

    Raises:
        InputError: It is missing, or nothing that we know.
    """
    name, suffix = one_line(path), path.suffix.lower()
    if path.is_dir():
        return read_folder(path, asked)
    if not path.is_file():
        raise InputError(f"no such file: {name}")
    if suffix in JSON_SUFFIXES:
        return _read_json(path, asked)
    if suffix in (".yaml", ".yml"):
        return read_folder(path.parent, asked)
    if suffix == ".txt":
        picture = find_stem(path.stem, path, images=asked.images)
        picture = picture or find_stem(path.stem, path, images=picture_folder(path))
        if picture is None:
            raise missing(name, show(f"{path.stem}.*"))
        return read_yolo_files([(picture, path)], path.parent, asked)
    if suffix == ".npy":
        return _read_array(path, asked)
    what = "a picture" if suffix in IMAGE_SUFFIXES else "no annotation file that we know"
    raise InputError(
        f"{name}: {what}; give a picture and its mask as a pair, or a folder of pairs, COCO, "
        "labelme, GeoJSON, YOLO or .npy"
    )


def _read_json(path: Path, asked: Asked) -> Source:
    data = load_json(path)
    match json_kind(data):
        case "coco":
            return read_coco(data, path, asked)
        case "labelme":
            picture = read_labelme(data, path, images=asked.images)
        case "geojson":
            picture = read_geojson(data, path, images=asked.images)
        case _:
            raise InputError(
                f"{data.place}: neither COCO (images, annotations) nor labelme (shapes) nor "
                "GeoJSON (features); export it as one of these"
            )
    return Source(data.place, asked.keep([picture], data.place), files=(path,))


def _read_array(path: Path, asked: Asked) -> Source:
    """Pair an array with the picture beside it, or in the folder of pictures."""
    name = one_line(path)
    for folder in [asked.images] if asked.images else [path.parent, path.parent.parent / "images"]:
        try:
            pictures = find_images([folder], recursive=False)
        except InputError:  # none
            continue
        pairing = pair_by_name(pictures, [(path, Path(path.stem))])
        if pairing.pairs:
            return Source(name, pairs=tuple(asked.take(pairing.pairs, name)))
    raise missing(name, show(f"{path.stem}.*"))
