"""The benchmarks' data as they are officially laid out.

    coco20i   PATH/val2014/*.jpg, annotations/instances_val2014.json
    pascal5i  PATH/JPEGImages, SegmentationClassAug (or SegmentationClass),
              ImageSets/Segmentation/val.txt
    fss1000   PATH/CLASS/1.jpg, 1.png ... 10.jpg, 10.png
    lvis92i   PATH/lvis_v1_val.json and the folders of pictures, train2017/ and val2017/
    perseg    PATH/Images/OBJECT/00.jpg ..., Annotations/OBJECT/00.png ...

With `splits`, a copy of `data/splits` of HSNet, the lists of COCO-20i and PASCAL-5i are the
published ones: `coco/val/fold0.pkl` and `pascal/val/fold0.txt`.
"""

import json
import pickle
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from data.benchmarks.episodes import Episode, Pair
from data.benchmarks.protocols import FSS_PICTURES, PERSEG_EXAMPLE, Name, Pool
from data.folder import IGNORE

FSS_TEST = Path(__file__).with_name("fss1000_test.txt")  # HKUSTCV/FSS-1000: fss_test_set.txt
VOC = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
CACHED = 64  # pictures and masks that are kept decoded

Read = Callable[[str, int], Pair]


class Layout:
    """A benchmark's data: what there is to draw from, and pictures with masks by name."""

    def __init__(self, pool: Pool, read: Read) -> None:
        self.pool = pool
        self._read = lru_cache(CACHED)(read)

    def load(self, episode: Episode) -> tuple[list[Pair], Pair]:
        """Read an episode's examples and its query."""
        examples = [self._read(name, episode.class_id) for name in episode.examples]
        return examples, self._read(episode.query, episode.class_id)


def open_layout(name: Name, path: Path, *, fold: int, splits: Path | None = None) -> Layout:
    """Open the data of a benchmark.

    Raises:
        ValueError: if they are not laid out as they should be.
    """
    if not path.is_dir():
        raise ValueError(f"--data {path}: no such folder")
    try:
        if name == "coco20i":
            return _coco(path, splits / f"coco/val/fold{fold}.pkl" if splits else None)
        if name == "pascal5i":
            return _pascal(path, splits / f"pascal/val/fold{fold}.txt" if splits else None)
        return {"fss1000": _fss, "lvis92i": _lvis, "perseg": _perseg}[name](path)
    except OSError as error:
        raise ValueError(f"{name}: {error.filename}: {error.strerror}; see --help") from error


def _pascal(path: Path, listed: Path | None) -> Layout:
    masks = path / "SegmentationClassAug"
    masks = masks if masks.is_dir() else path / "SegmentationClass"
    if listed:
        rows = [line.split("__") for line in listed.read_text().split()]
        queries = [(name, int(number)) for name, number in rows]
    else:
        names = (path / "ImageSets/Segmentation/val.txt").read_text().split()
        queries = [
            (name, number)
            for name in names
            for number in np.unique(_ids(masks / f"{name}.png")).tolist()
            if 0 < number < IGNORE
        ]
    pictures: dict[int, list[str]] = {number: [] for number in range(1, len(VOC) + 1)}
    for name, number in queries:
        pictures[number].append(name)

    def read(name: str, class_id: int) -> Pair:
        ids = _ids(masks / f"{name}.png")
        return Pair(_rgb(path / f"JPEGImages/{name}.jpg"), ids == class_id, ids == IGNORE)

    classes = dict(enumerate(VOC, start=1))
    return Layout(Pool(classes, pictures, queries, is_official=listed is not None), read)


def _fss(path: Path) -> Layout:
    names = sorted(FSS_TEST.read_text().split())
    if missing := [name for name in names if not (path / name).is_dir()]:
        raise ValueError(
            f"--data {path}: {len(missing)} of the {len(names)} test classes are missing, "
            f"e.g. {missing[0]}"
        )
    classes = dict(enumerate(names))
    pictures = {
        class_id: [f"{name}/{number}" for number in range(1, FSS_PICTURES + 1)]
        for class_id, name in classes.items()
    }
    # Sorted by file name, as HSNet asks: 1.jpg, 10.jpg, 2.jpg.
    queries = [
        (query, class_id)
        for class_id, own in pictures.items()
        for query in sorted(own, key=lambda query: f"{query}.jpg")
    ]

    def read(name: str, _: int) -> Pair:
        mask = np.asarray(Image.open(path / f"{name}.png").convert("L")) >= 128
        return Pair(_rgb(path / f"{name}.jpg"), mask, np.zeros_like(mask))

    return Layout(Pool(classes, pictures, queries, is_official=True), read)


def _perseg(path: Path) -> Layout:
    objects = sorted(folder.name for folder in (path / "Annotations").iterdir() if folder.is_dir())
    if not objects:
        raise ValueError(f"--data {path}: no folders in Annotations")
    classes = dict(enumerate(objects))
    pictures = {}
    for class_id, name in classes.items():
        pictures[class_id] = sorted(
            f"{name}/{mask.stem}" for mask in (path / "Annotations" / name).glob("*.png")
        )
        if pictures[class_id][:1] != [f"{name}/{PERSEG_EXAMPLE}"]:
            raise ValueError(f"--data {path}: Annotations/{name} has no {PERSEG_EXAMPLE}.png")

    def read(name: str, _: int) -> Pair:
        mask = np.asarray(Image.open(path / f"Annotations/{name}.png").convert("L")) > 0
        return Pair(_rgb(path / f"Images/{name}.jpg"), mask, np.zeros_like(mask))

    return Layout(Pool(classes, pictures, is_official=True), read)


def _coco(path: Path, listed: Path | None) -> Layout:
    layout = _annotated(path / "annotations/instances_val2014.json", path / "val2014")
    if listed is None:
        return layout
    # The lists count classes from 0 in the order of their ids.
    ids = list(layout.pool.classes)
    lists = {ids[number]: names for number, names in _plain_pickle(listed).items()}
    own = {c: [Path(name).name for name in lists.get(c, ())] for c in ids}
    return Layout(Pool(layout.pool.classes, own, is_official=True), layout._read)


def _lvis(path: Path) -> Layout:
    return _annotated(path / "lvis_v1_val.json", path)


def _annotated(file: Path, folder: Path) -> Layout:
    """Open annotations in COCO's form; the mask of a class is all of its annotations together."""
    try:
        data = json.loads(file.read_text())
        classes = {c["id"]: c["name"] for c in sorted(data["categories"], key=lambda c: c["id"])}
        sizes, names = {}, {}
        for image in data["images"]:
            # LVIS names a picture by its address.
            name = image.get("file_name") or "/".join(image["coco_url"].split("/")[-2:])
            sizes[name], names[image["id"]] = (image["height"], image["width"]), name
        shapes: dict[tuple[str, int], list[Any]] = {}
        for ann in data["annotations"]:
            key = names[ann["image_id"]], ann["category_id"]
            shapes.setdefault(key, []).append(ann["segmentation"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file}: not annotations in COCO's form ({error!r})") from error
    if outside := [name for name in sizes if ".." in Path(name).parts or Path(name).is_absolute()]:
        raise ValueError(f"{file}: {outside[0]!r} is outside of {folder}")
    pictures: dict[int, list[str]] = {class_id: [] for class_id in classes}
    for name, class_id in sorted(shapes):
        pictures[class_id].append(name)

    def read(name: str, class_id: int) -> Pair:
        mask = draw_shapes(shapes[name, class_id], sizes[name])
        return Pair(_rgb(folder / name), mask, np.zeros_like(mask))

    return Layout(Pool(classes, pictures), read)


def draw_shapes(shapes: list[Any], size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """Draw the union of annotations: polygons, or run lengths, packed or not."""
    try:
        from pycocotools import mask as coco  # optional dependency
    except ImportError as error:
        raise ValueError('annotations in COCO\'s form: pip install "seggpt-jax[coco]"') from error

    whole = np.zeros(size, bool)
    for shape in shapes:
        packed = shape
        if isinstance(shape, list) or isinstance(shape["counts"], list):
            packed = coco.frPyObjects(shape, *size)
        if isinstance(packed, list):
            packed = coco.merge(packed)
        whole |= coco.decode(packed).astype(bool)
    return whole


class _Plain(pickle.Unpickler):
    """Reads dicts, lists, strings and numbers, and runs nothing."""

    def find_class(self, module: str, name: str) -> Any:
        raise ValueError(f"it holds {module}.{name}, not plain lists of names")


def _plain_pickle(file: Path) -> dict[int, list[str]]:
    with file.open("rb") as opened:
        try:
            lists = _Plain(opened).load()
            return {int(number): [str(name) for name in names] for number, names in lists.items()}
        except (ValueError, pickle.UnpicklingError, EOFError, AttributeError, TypeError) as error:
            raise ValueError(f"{file}: not a list of pictures by class ({error})") from error


def _rgb(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def _ids(path: Path) -> UInt8[np.ndarray, "h w"]:
    with Image.open(path) as image:
        return np.asarray(image)
