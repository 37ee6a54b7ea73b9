"""iSAID: aerial pictures of up to 100 megapixels, in tiles."""

import threading
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer, UInt8

from data.builders.contents import MOST_PIXELS, Contents, Item, Maps, need, number
from data.builders.encoding import encode_png
from incontext.annotations.shapes import find_size
from incontext.files.images import load_image
from seggpt.errors import InputError, one_line

TILE = 896  # pixels along a side, as is usual for this set
CLASSES = {
    "ship": 0x00003F,
    "storage tank": 0x003F3F,
    "baseball diamond": 0x003F00,
    "tennis court": 0x003F7F,
    "basketball court": 0x003FBF,
    "ground track field": 0x003FFF,
    "bridge": 0x007F3F,
    "large vehicle": 0x007F7F,
    "small vehicle": 0x00007F,
    "helicopter": 0x0000BF,
    "swimming pool": 0x0000FF,
    "roundabout": 0x00BF7F,
    "soccer ball field": 0x007FBF,
    "plane": 0x007FFF,
    "harbor": 0x00649B,
}
"""The colours of the classes, 0xRRGGBB."""


class Scene(NamedTuple):
    """The files of a picture."""

    image: Path
    classes: Path
    instances: Path


def read_isaid(source: Path) -> Contents:
    """Read iSAID's masks and DOTA's pictures, wherever they lie below `train` and `val`.

    Raises:
        InputError: There are none, or a picture is missing.
    """
    splits = {split: _read_split(need(source / split)) for split in ("train", "val")}
    return Contents("instance", number(tuple(CLASSES)), splits)


def _read_split(folder: Path) -> list[Item]:
    files = {path.name: path for path in sorted(folder.glob("**/P*.png"))}
    names = sorted(
        name.removesuffix("_instance_color_RGB.png")
        for name in files
        if name.endswith("_instance_color_RGB.png")
    )
    if not names:
        raise InputError(f"{one_line(folder)}: no P0000_instance_color_RGB.png in it")
    load, items = _Loader(), []
    for name in names:
        wanted = (f"{name}.png", f"{name}_instance_color_RGB.png", f"{name}_instance_id_RGB.png")
        scene = Scene(*(files.get(own) or need(folder / own) for own in wanted))
        width, height = find_size(scene.image)
        for top in _starts(height):
            for left in _starts(width):
                tile = (slice(top, top + TILE), slice(left, left + TILE))
                items.append(
                    Item(
                        f"{name}_{top}_{left}",
                        partial(
                            lambda scene, tile: encode_png(load(scene.image)[tile]), scene, tile
                        ),
                        partial(_read_tile, load, scene, tile),
                    )
                )
    return items


def _starts(side: int) -> list[int]:
    """Return where tiles begin along a side; the last ends with it."""
    return [min(start, max(0, side - TILE)) for start in range(0, side, TILE)]


class _Loader:
    """Keeps the last pictures, as their tiles follow each other; threads wait for one another."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.load = lru_cache(maxsize=6)(partial(load_image, max_pixels=MOST_PIXELS))

    def __call__(self, path: Path) -> UInt8[np.ndarray, "h w 3"]:
        with self.lock:
            return self.load(path)


def _read_tile(load: _Loader, scene: Scene, tile: tuple[slice, slice]) -> Maps:
    colours, things = (_pack(load(path)[tile]) for path in (scene.classes, scene.instances))
    labels = np.zeros(colours.shape, np.uint8)
    for own, colour in enumerate(CLASSES.values(), 1):
        labels[colours == colour] = own
    things = np.where(labels > 0, things, 0)
    known, first, instances = np.unique(things, return_index=True, return_inverse=True)
    shift = int(known[0] != 0)  # 0 is no thing, and may not be there
    classes = labels.reshape(-1)[first]
    of = {place + shift: int(own) for place, own in enumerate(classes) if known[place]}
    return Maps(labels, instances.reshape(things.shape) + shift, of)


def _pack(colours: UInt8[np.ndarray, "h w 3"]) -> Integer[np.ndarray, "h w"]:
    return colours.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
