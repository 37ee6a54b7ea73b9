"""A tiny data set in the folder layout, drawn on the spot, and one of lists alone."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from data.folder import IGNORE, Kind
from data.pictures import Decoded, Entry

COLOURS = ("#e04030", "#30a040", "#3060e0", "#e0c020", "#a030c0", "#20c0c0")  # of class 1, 2 ...
BACKGROUND = "#505050"


def write_drawn_dataset(
    root: Path,
    *,
    name: str,
    pictures: int = 6,
    size: int = 48,
    classes: int = 2,
    instances: bool = True,
    seed: int = 0,
    kind: str | None = None,
) -> Path:
    """Write `root/name` and return it.

    Every picture shows every class once, as a disc (odd classes) or a square (even ones) of the
    class's colour, at random places that do not overlap; the instance ids are shuffled. The lowest
    two rows are to be ignored. The last third of the pictures, two or more, are the split "val".
    `kind` is "instance" or "semantic" by default; with "regions" the classes have no names.
    """
    if not 1 <= classes <= len(COLOURS):
        raise ValueError(f"classes {classes} must be 1..{len(COLOURS)}")
    folder = root / name
    rng = np.random.default_rng(seed)
    parts = ("images", "masks", "instances") if instances else ("images", "masks")
    for part in parts:
        (folder / part).mkdir(parents=True)
    index = {}
    for number in range(pictures):
        image, labels, ids, of_id = _draw(size, classes, rng)
        picture = f"p{number:02d}"
        image.save(folder / "images" / f"{picture}.jpg", quality=95)
        Image.fromarray(labels).save(folder / "masks" / f"{picture}.png")
        if instances:
            Image.fromarray(ids).save(folder / "instances" / f"{picture}.png")
        values, counts = np.unique(labels[labels > 0], return_counts=True)
        shares = {str(v): float(c / size**2) for v, c in zip(values, counts, strict=True)}
        index[picture] = {"size": [size, size], "frac": shares}
        if instances:
            index[picture]["instances"] = of_id
    kind = kind or ("instance" if instances else "semantic")
    names = {} if kind == "regions" else {str(c): f"shape {c}" for c in range(1, classes + 1)}
    held_out = max(2, pictures // 3)
    splits = {"train": sorted(index)[:-held_out], "val": sorted(index)[-held_out:]}
    info = {"name": name, "kind": kind, "classes": names, "splits": splits, "ignore": IGNORE}
    info |= {"licence": "CC0 1.0", "source_repo": "drawn by the tests"}
    (folder / "info.json").write_text(json.dumps(info | {"has_instances": instances}))
    (folder / "index.json").write_text(json.dumps(index))
    return folder


def _draw(
    size: int, classes: int, rng: np.random.Generator
) -> tuple[Image.Image, np.ndarray, np.ndarray, dict[str, int]]:
    """Return a picture, its class mask, its instance mask and the class of each instance."""
    image = Image.new("RGB", (size, size), BACKGROUND)
    labels, ids = Image.new("L", (size, size)), Image.new("L", (size, size))
    across = math.ceil(math.sqrt(classes + 1))  # cells; one at least stays empty
    side = (size - 2) // across
    cells = rng.permutation(across**2)[:classes].tolist()
    shuffled = (1 + rng.permutation(classes)).tolist()
    for class_id, (cell, instance) in enumerate(zip(cells, shuffled, strict=True), start=1):
        y, x = side * (cell // across), side * (cell % across)
        margins = rng.integers(1, max(2, side // 4), size=4).tolist()
        box = (x + margins[0], y + margins[1], x + side - margins[2], y + side - margins[3])
        for canvas, fill in ((image, COLOURS[class_id - 1]), (labels, class_id), (ids, instance)):
            pen = ImageDraw.Draw(canvas)
            (pen.ellipse if class_id % 2 else pen.rectangle)(box, fill=fill)
    ImageDraw.Draw(labels).rectangle((0, size - 2, size, size), fill=IGNORE)
    of_id = {str(instance): c for c, instance in enumerate(shuffled, start=1)}
    return image, np.asarray(labels), np.asarray(ids), of_id


@dataclass(frozen=True, eq=False)
class Listed:
    """Pictures that are nothing but lists of what they show."""

    name: str
    kind: Kind
    entries: Sequence[Entry]

    def __len__(self) -> int:
        return len(self.entries)

    def entry(self, number: int) -> Entry:
        return self.entries[number]

    def read(self, number: int, size: int) -> Decoded:
        """Show the first ids of each mask, and the picture's number in red."""
        entry = self.entries[number]
        image = np.full((size, size, 3), (number % 256, 0, 0), np.uint8)
        ids = np.zeros((size**2, 2), np.uint16)
        for mask, own in enumerate((entry.labels, entry.instances)):
            ids[: len(own), mask] = list(own)[: size**2]
        return Decoded(image, ids.reshape(size, size, 2))
