"""Read the plain folder layout: pictures with class and instance masks, from folders or zips.

    <dataset>/images/NAME.jpg  masks/NAME.png  instances/NAME.png  info.json  index.json

Masks hold class ids (0 background, 255 ignore), instance masks ids 1..254. `info.json` names the
classes and the splits; `index.json` says for each picture its size, the area of each class and
the class of each instance. A data set of kind `sprites` has atlases of cut-outs instead. A set
that `data.prepare` has written is read in the same way, from its records.
"""

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image

from data.records import PREPARED, Records

IGNORE = 255

Kind = Literal["semantic", "instance", "binary", "regions", "sprites"]
Ids = UInt8[np.ndarray, "h w"] | UInt16[np.ndarray, "h w"]  # 16 bits where ids need them

_SUFFIXES = {"images": ".jpg", "masks": ".png", "instances": ".png"}


@dataclass(frozen=True)
class Folder:
    """A data set on disk; reading is lazy and every call opens its own file."""

    root: Path | zipfile.Path
    info: dict[str, Any]
    index: Mapping[str, dict[str, Any]]

    @property
    def name(self) -> str:
        """The data set's name."""
        return self.info["name"]

    @property
    def kind(self) -> Kind:
        """What its masks mean."""
        return self.info["kind"]

    @property
    def has_instances(self) -> bool:
        """Whether it has instance masks."""
        return bool(self.info.get("has_instances"))

    @property
    def classes(self) -> dict[int, str]:
        """Class names by id; empty if ids have no meaning across pictures."""
        return {int(key): name for key, name in self.info.get("classes", {}).items()}

    def pictures(self, split: str | None = None) -> list[str]:
        """Return the names of a split's pictures, or of all, sorted."""
        splits = self.info.get("splits", {})
        if split is None:
            return sorted(self.index)
        if split not in splits:
            raise ValueError(f"{self.root}: no split {split!r}; it has {sorted(splits)}")
        if isinstance(self.index, Records):
            return self.index.names(split)
        return sorted(splits[split])

    def areas(self, picture: str) -> dict[int, float]:
        """Return the share of a picture that each of its classes covers."""
        shares = self.index[picture]["frac"].items()
        return {int(key): area for key, area in shares if int(key) != IGNORE}

    def instances(self, picture: str) -> dict[int, int]:
        """Return the class of each of a picture's instances."""
        return {int(k): int(v) for k, v in self.index[picture].get("instances", {}).items()}

    def image(self, picture: str) -> UInt8[np.ndarray, "h w 3"]:
        """Read a picture as RGB."""
        return np.asarray(self._part(picture, "images").convert("RGB"))

    def labels(self, picture: str) -> Ids:
        """Read a picture's class mask."""
        return _as_ids(self._part(picture, "masks"))

    def instance_ids(self, picture: str) -> Ids:
        """Read a picture's instance mask."""
        return _as_ids(self._part(picture, "instances"))

    def sprites(self) -> list[tuple[dict[str, Any], UInt8[np.ndarray, "cell cell 4"]]]:
        """Cut a sprite set's atlases into RGBA cells, each with its entry of `info.json`."""
        cell, sheets, out = self.info["cell"], {}, []
        for sprite in self.info["sprites"]:
            sheet = sprite["sheet"]
            if sheet not in sheets:
                rgb = _open(self.root / f"atlas_{sheet}_rgb.jpg").convert("RGB")
                alpha = _open(self.root / f"atlas_{sheet}_alpha.png").convert("L")
                sheets[sheet] = np.dstack([np.asarray(rgb), np.asarray(alpha)])
            x, y = sprite["x"], sprite["y"]
            out.append((sprite, sheets[sheet][y : y + cell, x : x + cell]))
        return out

    def read(self, picture: str, part: str) -> bytes:
        """Read a picture's part as it is encoded: "images", "masks" or "instances"."""
        if isinstance(self.index, Records):
            return self.index.read(picture, part)
        return (self.root / part / f"{picture}{_SUFFIXES[part]}").read_bytes()

    def _part(self, picture: str, part: str) -> Image.Image:
        return _decode(self.read(picture, part))


def _open(path: Path | zipfile.Path) -> Image.Image:
    return _decode(path.read_bytes())


def _decode(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def _as_ids(image: Image.Image) -> Ids:
    ids = np.asarray(image)
    return ids.astype(np.uint8 if ids.max(initial=0) <= IGNORE else np.uint16, copy=False)


def open_folders(path: str | Path, *, names: Sequence[str] | None = None) -> list[Folder]:
    """Open every data set under a path, sorted by name.

    The path is a data set or holds some, as folders or in zips, up to three levels down. What was
    prepared from a folder (`data.prepare`) counts in its place. `names` keeps only those.

    Raises:
        ValueError: if there is none, or not one of `names`, or a zip is damaged.
    """
    found = {folder.name: folder for folder in _search(Path(path), depth=3)}
    if not found:
        raise ValueError(
            f"{path}: no data set here (a folder or zip with info.json); "
            "python -m data.prepare makes one"
        )
    if missing := sorted(set(names or ()) - set(found)):
        raise ValueError(f"{path}: no data set named {missing}; it has {sorted(found)}")
    return [found[name] for name in sorted(found) if not names or name in names]


def _search(path: Path | zipfile.Path, *, depth: int) -> list[Folder]:
    if not path.exists():
        raise ValueError(f"{path}: no such folder or zip")
    if isinstance(path, Path) and path.suffix == ".zip":
        # A Path into a zip reads members through its own open archive, sharing nothing mutable.
        try:
            path = zipfile.Path(zipfile.ZipFile(path))
        except zipfile.BadZipFile as error:
            raise ValueError(f"{path}: {error}; copy or download it again") from error
    if not path.is_dir():
        return []
    if (prepared := path / PREPARED).is_dir() and (found := _search(prepared, depth=2)):
        return found
    if (path / "info.json").exists():
        return [open_folder(path)]
    if not depth:
        return []
    return [folder for child in path.iterdir() for folder in _search(child, depth=depth - 1)]


def open_folder(path: Path | zipfile.Path) -> Folder:
    """Open the data set that is right here."""
    info = json.loads((path / "info.json").read_text())
    if isinstance(path, Path) and info.get("is_prepared"):
        return Folder(path, info, Records(path, info["splits"]))
    index = path / "index.json"
    return Folder(path, info, json.loads(index.read_text()) if index.exists() else {})
