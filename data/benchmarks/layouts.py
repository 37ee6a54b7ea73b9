"""The benchmarks' data: folders as they are officially laid out, or what was prepared from them.

    coco20i   PATH/val2014/*.jpg, annotations/instances_val2014.json
    pascal5i  PATH/JPEGImages, SegmentationClassAug (or SegmentationClass),
              ImageSets/Segmentation/val.txt
    fss1000   PATH/CLASS/1.jpg, 1.png ... 10.jpg, 10.png
    lvis92i   PATH/lvis_v1_val.json and the folders of pictures, train2017/ and val2017/
    perseg    PATH/Images/OBJECT/00.jpg ..., Annotations/OBJECT/00.png ...

What `python -m data.prepare coco20i --source PATH --out SETS` writes of them is read as well, with
SETS as PATH, and gives the same episodes; so does a prepared voc_aug for pascal5i.

With `splits`, a copy of `data/splits` of HSNet, the lists of COCO-20i and PASCAL-5i are the
published ones: `coco/val/fold0.pkl` and `pascal/val/fold0.txt`.
"""

import json
import pickle
from collections.abc import Callable, Collection
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from data.benchmarks.episodes import Episode, Pair
from data.benchmarks.protocols import FSS_PICTURES, PERSEG_EXAMPLE, Name, Pool
from data.benchmarks.sources import Download, Pictures, find_prepared
from data.builders.table import DATA_SETS
from data.folder import IGNORE, Folder
from seggpt.errors import InputError

FSS_TEST = Path(__file__).with_name("fss1000_test.txt")  # HKUSTCV/FSS-1000: fss_test_set.txt
ANNOTATED = {  # the file in COCO's form, and the folder that its names of pictures start from
    "coco20i": ("annotations/instances_val2014.json", "val2014"),
    "lvis92i": ("lvis_v1_val.json", "."),
}
ALSO = {"pascal5i": "voc_aug"}  # a prepared set that has the same pictures
CACHED = 64  # pictures and masks that are kept decoded

Load = Callable[[str], UInt8[np.ndarray, "h w 3"]]
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
    found = find_prepared(path)
    serving = [key for key in (name, ALSO.get(name)) if key]
    own = next((found[key] for key in serving if key in found), None)
    try:
        if name in ANNOTATED:
            layout = _of_file(name, path, own)
            if name == "coco20i" and splits:
                return _listed(layout, splits / f"coco/val/fold{fold}.pkl")
            return layout
        pictures = own or Download(DATA_SETS[name].read(path))
        if name == "pascal5i":
            return _pascal(pictures, splits / f"pascal/val/fold{fold}.txt" if splits else None)
        return {"fss1000": _fss, "perseg": _perseg}[name](pictures)
    except (InputError, OSError) as error:
        what = f"--data {own.root if own else path}: {error}"
        if isinstance(error, OSError):
            what = f"{error.filename}: {error.strerror}"
        if found and not own:
            what = (
                f"--data {path}: has {', '.join(sorted(found))}, and {' or '.join(serving)} is "
                f"needed; python -m data.prepare {name} --source DIR writes it"
            )
        raise ValueError(f"{name}: {what}; see --help") from error


def _labelled(pictures: Pictures, pool: Pool) -> Layout:
    """Return the layout of pictures with a class a pixel.

    Raises:
        InputError: Some of the pictures are missing.
    """
    wanted = {name for own in pool.pictures.values() for name in own}
    _need(wanted, pictures, pictures.pictures())

    def read(name: str, class_id: int) -> Pair:
        labels = pictures.labels(name)
        return Pair(pictures.image(name), labels == class_id, labels == IGNORE)

    return Layout(pool, read)


def _need(wanted: Collection[str], pictures: Pictures, known: Collection[str]) -> None:
    if missing := sorted({*wanted} - {*known}):
        mend = ""
        if isinstance(pictures, Folder):
            mend = f"; python -m data.prepare {pictures.name} --overwrite writes it again"
        raise InputError(
            f"{len(missing)} of {len(wanted)} pictures are missing, for example {missing[0]}{mend}"
        )


def _pascal(data: Pictures, listed: Path | None) -> Layout:
    if listed:
        rows = [line.split("__") for line in listed.read_text().split()]
        queries = [(name, int(number)) for name, number in rows]
    else:
        queries = [(name, number) for name in data.pictures("val") for number in data.areas(name)]
    pictures: dict[int, list[str]] = {number: [] for number in data.classes}
    for name, number in queries:
        pictures[number].append(name)
    pool = Pool(data.classes, pictures, queries, is_official=listed is not None)
    return _labelled(data, pool)


def _fss(data: Pictures) -> Layout:
    names = sorted(FSS_TEST.read_text().split())
    ids = {name: own for own, name in data.classes.items()}
    if missing := [name for name in names if name not in ids]:
        raise InputError(
            f"{len(missing)} of the {len(names)} test classes are missing, for example {missing[0]}"
        )
    classes = {ids[name]: name for name in names}
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
    return _labelled(data, Pool(classes, pictures, queries, is_official=True))


def _perseg(data: Pictures) -> Layout:
    ids = {name: own for own, name in data.classes.items()}
    pictures: dict[int, list[str]] = {own: [] for own in data.classes}
    for picture in data.pictures():
        pictures[ids[picture.split("/")[0]]].append(picture)
    for own, name in data.classes.items():
        if pictures[own][:1] != [f"{name}/{PERSEG_EXAMPLE}"]:
            raise InputError(f"{name} has no picture {PERSEG_EXAMPLE}, which is the example")
    return _labelled(data, Pool(data.classes, pictures, is_official=True))


def _of_file(name: Name, path: Path, prepared: Folder | None) -> Layout:
    """Open what has its masks in a file, as those of two classes may overlap."""
    file, folder = ANNOTATED[name]
    if not prepared:
        return _annotated(path / file, lambda picture: _rgb(path / folder / picture))
    names = {Path(picture).name: picture for picture in prepared.pictures()}
    layout = _annotated(
        Path(str(prepared.root), Path(file).name),
        lambda picture: prepared.image(names[Path(picture).stem]),
    )
    wanted = {Path(picture).stem for own in layout.pool.pictures.values() for picture in own}
    _need(wanted, prepared, names)
    return layout


def _listed(layout: Layout, file: Path) -> Layout:
    """Return COCO's layout with the published lists."""
    # The lists count classes from 0 in the order of their ids.
    ids = list(layout.pool.classes)
    lists = {ids[number]: names for number, names in _plain_pickle(file).items()}
    own = {c: [Path(name).name for name in lists.get(c, ())] for c in ids}
    return Layout(Pool(layout.pool.classes, own, is_official=True), layout._read)


def _annotated(file: Path, load: Load) -> Layout:
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
        raise ValueError(f"{file}: {outside[0]!r} is outside of the folder of pictures")
    pictures: dict[int, list[str]] = {class_id: [] for class_id in classes}
    for name, class_id in sorted(shapes):
        pictures[class_id].append(name)

    def read(name: str, class_id: int) -> Pair:
        mask = draw_shapes(shapes[name, class_id], sizes[name])
        return Pair(load(name), mask, np.zeros_like(mask))

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
