"""Masks in: any mask file or array becomes an int32 label map, and says what it was taken for."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int32, Shaped, UInt8
from PIL import Image, ImageChops

from incontext.files.decode import MAX_PIXELS, Decoded, FileSource, check_size, decode
from incontext.files.mask_rules import (
    MAX_VALUES,
    Color,
    FoundKind,
    MaskValues,
    RawMask,
    Reading,
    by_palette,
    interpret,
)
from incontext.options import AskedKind
from seggpt.errors import InputError

MaskSource = FileSource | Image.Image | np.ndarray
"""A mask: a path, encoded bytes, an open binary file, a PIL image, or an array."""

# What a label of each kind is: a value that the file holds, a colour, or just "the object".
_STYLES: dict[FoundKind, str] = {
    "binary01": "value",
    "labels": "value",
    "indexed": "value",
    "rgb": "color",
    "binary255": "object",
    "binary": "object",
    "alpha": "object",
}

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class LoadedMask:
    """A label map and what its file was taken for.

    Attributes:
        labels: 0 is background, 255 in an 8-bit mask with other labels is "ignore".
        kind: The dialect of the file; `mask_rules` has the rules.
        classes: The labels that occur, rising, without 0 and without "ignore".
        colors: RGB of the labels, where the file gives any ("indexed" and "rgb").
        note: What the mask was taken for, in one clause.
        name: The source in words.
    """

    labels: Int32[np.ndarray, "h w"]
    kind: FoundKind
    classes: tuple[int, ...]
    colors: Mapping[int, Color]
    note: str
    name: str


def load_mask(
    source: MaskSource,
    *,
    kind: AskedKind = "auto",
    allow_empty: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> LoadedMask:
    """Read one mask; see `load_masks` for several that belong together.

    With kind "auto" the pixels decide, and what has no single reading is refused:

    - bool, 0/1, 0/255, or 0 and any one grey value: one class, 1;
    - a palette PNG: the index values are the labels, whatever their colours;
    - up to 64 grey values, 8 or 16 bit: the values are the labels. 255 beside other labels means
      "ignore": it stays 255 and is no class;
    - up to 64 colours, black among them: black is 0, the others are 1, 2, ... in rising order of
      red, green, blue;
    - transparency: the alpha channel is the mask where the colours say nothing.

    Args:
        source: The mask. An array is (h, w) bool or integer, or (h, w, 3) or (h, w, 4) uint8.
        kind: "binary" makes one class and cuts soft or lossy greys at 128, "labels" takes every
            grey value as a label, "rgb" takes every colour as a class.
        allow_empty: Whether a mask without any foreground is accepted.
        max_pixels: Largest width x height.

    Raises:
        InputError: The mask cannot be read, is ambiguous, or has no foreground.
    """
    return load_masks([source], kind=kind, allow_empty=allow_empty, max_pixels=max_pixels)[0]


def load_masks(
    sources: Sequence[MaskSource],
    *,
    kind: AskedKind = "auto",
    allow_empty: bool = False,
    max_pixels: int = MAX_PIXELS,
    shrink: Callable[[int, MaskValues], MaskValues] | None = None,
) -> list[LoadedMask]:
    """Read masks that share their labels, such as those of several examples of one prompt.

    The rules of `load_mask` see all masks together: one colour gets one label everywhere, and a
    mask of 0 and 7 beside one of 0, 7 and 9 has the label 7. Styles may differ (0/1 beside 0/255)
    only where every mask has the one class 1.

    `shrink` is given each mask's place and its values as soon as they are read, and returns what
    to keep of them, so that hundreds of large masks need not be in memory together.

    Raises:
        InputError: As `load_mask`, or two masks follow contradictory rules.
    """
    raws = []
    for index, source in enumerate(sources):
        raw = _read(source, kind=kind, max_pixels=max_pixels)
        raws.append(replace(raw, values=shrink(index, raw.values)) if shrink else raw)
    readings = _agree(raws, [interpret(raw, kind=kind) for raw in raws], kind=kind)
    masks = [
        LoadedMask(
            reading.labels, reading.kind, reading.classes, reading.colors, reading.note, raw.name
        )
        for raw, reading in zip(raws, readings, strict=True)
    ]
    for mask in masks:
        _check_foreground(mask, allow_empty=allow_empty)
    return masks


def check_same_size(
    image: Shaped[np.ndarray, "h w c"],
    mask: Shaped[np.ndarray, "mask_h mask_w"],
    *,
    image_name: str = "image",
    mask_name: str = "mask",
) -> None:
    """Make sure that a mask belongs to a picture.

    Raises:
        InputError: The sizes differ; the message has both as width x height.
    """
    if image.shape[:2] == mask.shape:
        return
    (height, width), (mask_height, mask_width) = image.shape[:2], mask.shape
    swapped = (height, width) == (mask_width, mask_height)
    mend = (
        "was the mask drawn on the picture before its EXIF rotation? turn the mask upright"
        if swapped
        else "export the mask in the size of the picture"
    )
    raise InputError(
        f"{mask_name}: mask {mask_width}x{mask_height} does not match image {width}x{height} "
        f"({image_name}); {mend}"
    )


def _make_voc_palette() -> UInt8[np.ndarray, "256 3"]:
    """Interleave the bits of the index: bit 3i goes to red, 3i + 1 to green, 3i + 2 to blue."""
    index = np.arange(256)[:, None]
    palette = np.zeros((256, 3), np.uint8)
    for i in range(8):
        bits = index >> (3 * i + np.arange(3)) & 1
        palette |= (bits << (7 - i)).astype(np.uint8)
    palette.flags.writeable = False
    return palette


VOC_PALETTE = _make_voc_palette()
"""The colours of the PASCAL VOC and DAVIS label files (VOCdevkit's VOClabelcolormap)."""


def _read(source: MaskSource, *, kind: AskedKind, max_pixels: int) -> RawMask:
    if isinstance(source, np.ndarray) and source.ndim == 2:
        return _from_array(source, max_pixels=max_pixels)
    if isinstance(source, np.ndarray):
        name = f"<array {'x'.join(map(str, source.shape))} {source.dtype}>"
        if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] not in (3, 4):
            raise InputError(f"{name}: must be (h, w) integer or bool, or (h, w, 3) uint8")
        source = Image.fromarray(source)
    decoded = decode(source, max_pixels=max_pixels)
    image = decoded.image
    if kind == "rgb":
        return _colors(decoded, image.convert("RGBA").convert("RGB"))
    if image.mode == "P":
        return _plain(decoded, np.asarray(image), palette=_palette(image))
    if image.mode in ("1", "L", "I") or image.mode.startswith("I;"):
        return _plain(decoded, np.asarray(image))
    if image.mode == "F":
        return _plain(decoded, _whole(np.asarray(image), name=decoded.name))
    if image.has_transparency_data:
        return _split_alpha(decoded, image.convert("RGBA"))
    return _flat(decoded, image.convert("RGB"))


def _from_array(array: Shaped[np.ndarray, "h w"], *, max_pixels: int) -> RawMask:
    name = f"<array {'x'.join(map(str, array.shape))} {array.dtype}>"
    check_size((array.shape[1], array.shape[0]), name=name, max_pixels=max_pixels)
    if array.dtype != bool and not np.issubdtype(array.dtype, np.integer):
        array = _whole(array, name=name)
    return RawMask(array, "grey", name, {})


def _whole(values: Shaped[np.ndarray, "h w"], *, name: str) -> Int32[np.ndarray, "h w"]:
    """Take float pixels for labels when each of them is a whole number."""
    with np.errstate(invalid="ignore"):
        whole = values.astype(np.int32) if np.issubdtype(values.dtype, np.floating) else None
    if whole is None or not np.array_equal(whole, values):
        raise InputError(f"{name}: {values.dtype} is no mask; threshold it, or cast to integers")
    return whole


def _plain(
    decoded: Decoded, values: np.ndarray, *, palette: Mapping[int, Color] | None = None
) -> RawMask:
    form = "grey" if palette is None else "indexed"
    return RawMask(values, form, decoded.name, palette or {}, lossy=_is_lossy(decoded))


def _is_lossy(decoded: Decoded) -> bool:
    return decoded.format in ("JPEG", "MPO")


def _palette(image: Image.Image) -> dict[int, Color]:
    flat = image.getpalette("RGB") or []
    return {i: (flat[3 * i], flat[3 * i + 1], flat[3 * i + 2]) for i in range(len(flat) // 3)}


def _flat(decoded: Decoded, image: Image.Image, *, aside: str = "") -> RawMask:
    """Read an RGB picture as grey where its channels are one and the same."""
    red, green, blue = image.split()
    if ImageChops.difference(red, green).getbbox() or ImageChops.difference(red, blue).getbbox():
        return _colors(decoded, image, aside=aside)
    values = np.asarray(red)
    return RawMask(values, "grey", decoded.name, {}, lossy=_is_lossy(decoded), aside=aside)


def _colors(decoded: Decoded, image: Image.Image, *, aside: str = "") -> RawMask:
    packed = np.zeros((image.height, image.width), np.int32)
    for channel in image.split():
        packed <<= 8
        packed |= np.asarray(channel)
    return RawMask(packed, "rgb", decoded.name, {}, lossy=_is_lossy(decoded), aside=aside)


def _split_alpha(decoded: Decoded, image: Image.Image) -> RawMask:
    """Choose between the colours and the alpha channel."""
    alpha, rgb = image.getchannel("A"), image.convert("RGB")
    if alpha.getextrema() == (255, 255):
        return _flat(decoded, rgb)
    opaque = alpha.point(lambda value: 255 if value else 0)
    visible = Image.composite(rgb, Image.new("RGB", rgb.size), opaque)
    colors = rgb.getcolors(MAX_VALUES)
    is_hard = sum(count > 0 for count in alpha.histogram()) <= 2
    if colors is None or len(colors) == 1 or not is_hard or visible.getbbox() is None:
        aside = "" if colors and len(colors) == 1 else ", the colours are not used"
        return RawMask(np.asarray(alpha), "alpha", decoded.name, {}, aside=aside)
    return _flat(decoded, visible, aside=", transparent pixels are background")


def _agree(raws: list[RawMask], readings: list[Reading], *, kind: AskedKind) -> list[Reading]:
    """Read masks by one rule where each alone would follow its own; refuse contradictions."""
    if len(raws) == 1:
        return readings
    colors = {color for reading in readings if reading.kind == "rgb" for color in _packed(reading)}
    is_labels = kind == "auto" and any(reading.kind == "labels" for reading in readings)
    agreed: list[Reading] = []
    for raw, reading in zip(raws, readings, strict=True):
        if reading.kind == "rgb":
            agreed.append(by_palette(raw, palette=tuple(sorted(colors))))
        elif is_labels and reading.kind in ("binary", "binary01"):
            agreed.append(interpret(raw, kind="labels"))
        else:
            agreed.append(reading)
    if kind == "auto":  # any other kind is one rule for all
        _check_agreement(raws, agreed)
    return agreed


def _packed(reading: Reading) -> list[int]:
    return [red << 16 | green << 8 | blue for red, green, blue in reading.colors.values()]


def _check_agreement(raws: list[RawMask], readings: list[Reading]) -> None:
    """Refuse masks whose labels mean different things: values, colours, or just "the object"."""
    first: dict[str, tuple[RawMask, Reading]] = {}
    for raw, reading in zip(raws, readings, strict=True):
        if not reading.classes:
            continue
        style = _STYLES[reading.kind]
        if reading.kind == "binary":
            style += str(raw.values.max())  # 0 and 7 in one mask, 0 and 9 in another: classes?
        first.setdefault(style, (raw, reading))
    if len(first) < 2:
        return
    (raw, reading), (other_raw, other) = list(first.values())[:2]
    one_value = all(r.classes == (1,) and r.kind != "binary" for r in readings if r.classes)
    if not one_value:
        raise InputError(
            f"{raw.name} ({reading.note}) and {other_raw.name} ({other.note}) contradict each "
            "other; save all masks in one style, or pass kind"
        )


def _check_foreground(mask: LoadedMask, *, allow_empty: bool) -> None:
    height, width = mask.labels.shape
    if not mask.classes and not allow_empty:
        raise InputError(
            f"{mask.name}: mask has no foreground ({width}x{height}, {mask.note}); "
            "mark the object, or pass allow_empty=True"
        )
    if mask.classes and (mask.labels != 0).all():
        logger.warning("%s: mask covers 100 %%, there is no background", mask.name)
