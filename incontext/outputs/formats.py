"""The formats of `Result.save`: what each is called, its files, and what writes them."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int32, UInt8
from PIL import Image

from incontext.files.atomic import write_whole
from incontext.files.drawing import cut_out, draw_overlay, make_palette, save_png
from incontext.files.mask_rules import Color
from incontext.outputs.annotations import to_geojson, to_labelme, to_yolo
from incontext.outputs.regions import number_instances
from seggpt.errors import InputError

OUTPUT_SUFFIXES: Mapping[str, str] = {
    "mask": ".png",
    "overlay": ".overlay.png",
    "cutout": ".cutout.png",
    "labels": ".labels.png",
    "binary": ".binary",
    "probabilities": ".npz",
    "labelme": ".json",
    "yolo": ".txt",
    "geojson": ".geojson",
}
"""What each format of `Result.save` appends to the name."""

NEED_IMAGE = frozenset({"overlay", "cutout"})
_MOST_8_BIT, _MOST_16_BIT = 255, 65535


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawing:
    """What files are made of.

    Attributes:
        label_map: The label of every pixel.
        labels: The labels that there can be, in order.
        image: The picture, if there is one.
        source: Its file, if there is one.
        names: What labels are called.
        colors: RGB of labels that shall not have VOC's colours.
        probabilities: Computes the probabilities of background and labels.
        instances: Whether connected components count as things of their own.
    """

    label_map: Int32[np.ndarray, "h w"]
    labels: tuple[int, ...]
    image: UInt8[np.ndarray, "h w 3"] | None = None
    source: str | None = None
    names: Mapping[int, str] = field(default_factory=dict)
    colors: Mapping[int, Color] | None = None
    probabilities: Callable[[], Float32[np.ndarray, "k h w"]] | None = None
    instances: bool = False


def write_output(drawing: Drawing, output: str, path: Path) -> None:
    """Write one format.

    Raises:
        InputError: A label or a number of instances does not fit, or a file cannot be written.
    """
    label_map, instances = drawing.label_map, drawing.instances
    match output:
        case "mask":
            _write_mask(drawing, path)
        case "labels":
            save_png(path, _grey(number_instances(label_map) if instances else label_map))
        case "binary":
            write_whole(path, lambda folder: _write_binary(drawing, folder))
        case "overlay" | "cutout":
            _write_picture(drawing, output, path)
        case "probabilities":
            write_whole(path, lambda part: _write_probabilities(drawing, part))
        case "labelme":
            page = to_labelme(
                label_map,
                names=drawing.names,
                image_path=_relative(drawing.source, path.parent),
                instances=instances,
            )
            _write_text(path, json.dumps(page))
        case "yolo":
            _write_text(path, to_yolo(label_map, labels=drawing.labels))
        case "geojson":
            palette = make_palette(drawing.colors)
            colors = {label: tuple(palette[label % 256].tolist()) for label in drawing.labels}
            page = to_geojson(label_map, names=drawing.names, palette=colors, instances=instances)
            _write_text(path, json.dumps(page))


def check_labels(labels: tuple[int, ...], output: str) -> None:
    """Check that labels fit a format.

    Raises:
        InputError: if one does not, with the mend.
    """
    most = max(labels, default=0)
    if output == "mask" and most > _MOST_8_BIT:
        raise InputError(
            f"label {most} does not fit an 8-bit mask; use labels up to {_MOST_8_BIT}, or the "
            "format labels"
        )
    if output == "labels" and most > _MOST_16_BIT:
        raise InputError(f"label {most} does not fit 16 bits; use labels up to {_MOST_16_BIT}")


def _write_mask(drawing: Drawing, path: Path) -> None:
    mask = Image.fromarray(drawing.label_map.astype(np.uint8))
    mask.putpalette(make_palette(drawing.colors).tobytes())
    save_png(path, mask)


def _grey(values: Int32[np.ndarray, "h w"]) -> Image.Image:
    """Return 8 bits where they suffice, else 16."""
    if (most := int(values.max(initial=0))) > _MOST_16_BIT:
        raise InputError(f"{most} instances do not fit 16 bits; write them as geojson or labelme")
    return Image.fromarray(values.astype(np.uint8 if most <= _MOST_8_BIT else np.uint16))


def _write_binary(drawing: Drawing, folder: Path) -> None:
    for label in drawing.labels:
        mask = (drawing.label_map == label).astype(np.uint8) * 255
        save_png(folder / f"{label}.png", Image.fromarray(mask))


def _write_picture(drawing: Drawing, output: str, path: Path) -> None:
    assert drawing.image is not None  # the caller checks
    if output == "cutout":
        picture = cut_out(drawing.image, drawing.label_map)
    else:
        palette = make_palette(drawing.colors)
        picture = draw_overlay(drawing.image, drawing.label_map, palette=palette)
    # Drawn pictures are large and seldom read.
    save_png(path, Image.fromarray(picture), compress_level=3)


def _write_probabilities(drawing: Drawing, part: Path) -> None:
    assert drawing.probabilities is not None  # the caller gives them
    with part.open("wb") as file:
        np.savez_compressed(
            file,
            probabilities=drawing.probabilities().astype(np.float16),
            labels=np.array(drawing.labels, np.int32),
        )


def _relative(source: str | None, folder: Path) -> str:
    """Return a picture's path as seen from a folder, with forward slashes."""
    if not source or source.startswith("<"):
        return ""
    try:
        return Path(os.path.relpath(source, folder)).as_posix()
    except ValueError:  # another drive of Windows
        return Path(source).as_posix()


def _write_text(path: Path, text: str) -> None:
    write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))
