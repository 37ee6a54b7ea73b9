"""Masks in: any mask file or array becomes an int32 label map, and says what it was taken for."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Int32, Shaped
from PIL import Image, ImageChops

from incontext.files.arrays import DrawnMask, array_file
from incontext.files.decode import (
    MAX_PIXELS,
    ArrayLike,
    Decoded,
    FileSource,
    array_name,
    as_array,
    check_size,
    decode,
)
from incontext.files.mask_rules import MAX_VALUES, Color, FoundKind, MaskValues, RawMask
from incontext.files.mask_sets import read_together
from incontext.files.mask_shapes import VOC_PALETTE as VOC_PALETTE
from incontext.options import AskedIgnore, AskedKind
from seggpt.errors import InputError

MaskSource = FileSource | Image.Image | np.ndarray | ArrayLike | DrawnMask
"""A mask: a path, encoded bytes, an open binary file, a PIL image, an array, or an annotation."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class LoadedMask:
    """A label map and what its file was taken for.

    Attributes:
        labels: 0 is background.
        kind: The dialect of the file; `mask_rules` has the rules.
        classes: The labels that occur, rising, without 0 and without "ignore".
        colors: RGB of the labels, where the file gives any ("indexed" and "rgb").
        note: What the mask was taken for, in one clause.
        name: The source in words.
        ignored: The label of pixels that do not count: 255, or -1 where that is a class; None
            where there are none.
    """

    labels: Int32[np.ndarray, "h w"]
    kind: FoundKind
    classes: tuple[int, ...]
    colors: Mapping[int, Color]
    note: str
    name: str
    ignored: int | None = None


def load_mask(
    source: MaskSource,
    *,
    kind: AskedKind = "auto",
    ignore: AskedIgnore = "auto",
    allow_empty: bool = False,
    max_pixels: int | None = None,
) -> LoadedMask:
    """Read one mask; see `load_masks` for several that belong together.

    With kind "auto" the pixels decide, and what has no single reading is refused:

    - bool, 0/1, 0/255, or 0 and any one grey value: one class, 1;
    - a palette file whose index 0 is black: the indices are the labels. Any other palette is read
      as the same mask in RGB;
    - up to 64 grey values, 8 or 16 bit: the values are the labels. 255 is ignored where it is a
      thin border around labels up to 91, a label beside grey levels, and else has to be told;
    - up to 64 colours, black among them: black is 0, the others are 1, 2, ... in rising order of
      red, green, blue;
    - the dirt of lossy files and soft edges take the few values or colours of flat parts;
    - transparency: the alpha channel is the mask where the colours say nothing.

    What could be read otherwise is logged as a warning, in one line.

    Args:
        source: The mask. An array is (h, w) bool or integer, or (h, w, 3) or (h, w, 4) uint8.
        kind: "binary" makes one class of all that is not 0 (soft or lossy greys of no few values
            are cut at 128), "labels" takes every grey value or index as a label, "rgb" takes every
            colour as a class.
        ignore: The value, or the colour as "#rrggbb", of pixels that do not count; "none" makes a
            label of every value.
        allow_empty: Whether a mask without any foreground is accepted.
        max_pixels: Largest width x height: `MAX_PIXELS` for a file, any for an array by default.

    Raises:
        InputError: The mask cannot be read, is ambiguous, or has no foreground.
    """
    return load_masks(
        [source], kind=kind, ignore=ignore, allow_empty=allow_empty, max_pixels=max_pixels
    )[0]


def load_masks(
    sources: Sequence[MaskSource],
    *,
    kind: AskedKind = "auto",
    ignore: AskedIgnore = "auto",
    known: Sequence[int] = (),
    allow_empty: bool = False,
    max_pixels: int | None = None,
    shrink: Callable[[int, MaskValues], MaskValues] | None = None,
) -> list[LoadedMask]:
    """Read masks that share their labels, such as those of several examples of one prompt.

    The rules of `load_mask` see all masks together: one colour gets one label everywhere, and a
    mask of 0 and 7 beside one of 0, 7 and 9 has the label 7, as it has with 7 among the `known`
    labels of a prompt. Styles may differ (0/1 beside 0/255) only where every mask has the one
    class 1.

    `shrink` is given each mask's place and its values as soon as they are read, and returns what
    to keep of them, so that hundreds of large masks need not be in memory together.

    Raises:
        InputError: As `load_mask`, or two masks follow contradictory rules.
    """
    raws = []
    for index, source in enumerate(sources):
        raw = _read(source, kind=kind, max_pixels=max_pixels)
        raws.append(replace(raw, values=shrink(index, raw.values)) if shrink else raw)
    readings = read_together(raws, kind=kind, ignore=ignore, known=known)
    masks = [
        LoadedMask(
            reading.labels,
            reading.kind,
            reading.classes,
            reading.colors,
            reading.note,
            raw.name,
            reading.ignored,
        )
        for raw, reading in zip(raws, readings, strict=True)
    ]
    for mask in masks:
        _check_foreground(mask, allow_empty=allow_empty)
        logger.info("%s: %s", mask.name, mask.note)
    _say_decisions([(raw.name, r.decided) for raw, r in zip(raws, readings, strict=True)])
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


def _read(source: MaskSource, *, kind: AskedKind, max_pixels: int | None) -> RawMask:
    source = array_file(source, max_pixels=max_pixels) or source
    given: Any = as_array(source)
    if isinstance(given, np.ndarray) and given.ndim == 2:
        raw = _from_array(given, max_pixels=max_pixels)
        if isinstance(source, DrawnMask):
            form = "labels" if source.is_labels else "grey"
            return replace(raw, name=source.name, form=form)
        return raw
    if isinstance(given, np.ndarray):
        name = array_name(given)
        if given.dtype != np.uint8 or given.ndim != 3 or given.shape[2] not in (3, 4):
            raise InputError(f"{name}: must be (h, w) integer or bool, or (h, w, 3) uint8")
        check_size((given.shape[1], given.shape[0]), name=name, max_pixels=max_pixels)
        given = Image.fromarray(given)
        max_pixels = given.width * given.height
    decoded = decode(given, max_pixels=MAX_PIXELS if max_pixels is None else max_pixels)
    image = decoded.image
    if decoded.is_odd:
        return _odd(decoded)
    if kind == "rgb":
        return _colors(decoded, image.convert("RGBA").convert("RGB"))
    if image.mode == "P":
        return _plain(decoded, np.asarray(image), palette=_palette(image))
    if image.mode in ("1", "L", "I") or image.mode.startswith("I;"):
        return _stored(decoded)
    if image.mode == "F":
        return _plain(decoded, _whole(np.asarray(image), name=decoded.name))
    if image.has_transparency_data:
        return _split_alpha(decoded, image.convert("RGBA"))
    return _flat(decoded, image.convert("RGB"))


def _odd(decoded: Decoded) -> RawMask:
    """Read labels of 64 bits and the like."""
    assert decoded.deep is not None  # of what is odd
    values = decoded.deep()
    if values.ndim != 2:
        bands = f"{values.shape[2]} bands of {values.dtype}"
        raise InputError(f"{decoded.name}: {bands} are no mask; save the labels as one band")
    if not np.issubdtype(values.dtype, np.integer):
        return _plain(decoded, _whole(values, name=decoded.name))
    return _plain(decoded, values.astype(np.int64))


def _from_array(array: Shaped[np.ndarray, "h w"], *, max_pixels: int | None) -> RawMask:
    name = array_name(array)
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


def _stored(decoded: Decoded) -> RawMask:
    """Read grey values as the file stores them: labels are numbers, and not shades.

    Raises:
        InputError: The file stores white as 0, has two values, and may mean either by "marked".
    """
    values, facts = np.asarray(decoded.image), decoded.facts
    if facts.levels < 255:  # 1, 2 and 4 bits, which Pillow spreads over 0..255
        values = np.rint(values.astype(np.float32) * facts.levels / 255).astype(np.uint8)
    if not facts.white_is_zero:
        return _plain(decoded, values)
    if values.dtype == bool:
        values = ~values
    elif decoded.image.mode == "L":  # Pillow has inverted it
        values = facts.levels - values
    raw = _plain(decoded, values)
    distinct = np.unique(values)
    # tifffile, and what writes through it, stores arrays of bool so: the numbers are the mask.
    if len(distinct) == 2 and distinct[0] == 0 and "tifffile" not in facts.software:
        marked, white = int((values != 0).sum()), int((values == 0).sum())
        raise InputError(
            f"{decoded.name}: TIFF that stores white as 0 (MinIsWhite): either the stored numbers "
            f"mark the object ({marked} pixels) or what looks white does ({white}); save it as PNG"
        )
    said = "white is stored as 0 (MinIsWhite): the stored numbers are the mask, not the shades"
    return replace(raw, decided=said)


def _is_lossy(decoded: Decoded) -> bool:
    return decoded.format in ("JPEG", "MPO")


def _palette(image: Image.Image) -> dict[int, Color]:
    """Return the colours of the indices; a transparent index 0 is the background, so black."""
    flat = image.getpalette("RGB") or []
    colors = {i: (flat[3 * i], flat[3 * i + 1], flat[3 * i + 2]) for i in range(len(flat) // 3)}
    alpha = image.info.get("transparency")
    if alpha == 0 or (isinstance(alpha, bytes) and alpha[:1] == b"\0"):
        colors[0] = (0, 0, 0)
    return colors


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


def _check_foreground(mask: LoadedMask, *, allow_empty: bool) -> None:
    height, width = mask.labels.shape
    if not mask.classes and not allow_empty:
        raise InputError(
            f"{mask.name}: mask has no foreground ({width}x{height}, {mask.note}); "
            "mark the object, or pass allow_empty=True"
        )
    if mask.classes and (mask.labels != 0).all():
        logger.warning("%s: mask covers 100 %%, there is no background", mask.name)


def _say_decisions(decided: Sequence[tuple[str, str]]) -> None:
    """Log what could be read otherwise: a line for each decision, not for each mask."""
    names: dict[str, list[str]] = {}
    for name, text in decided:
        if text:
            names.setdefault(text, []).append(name)
    for text, files in names.items():
        more = f" (and {len(files) - 1} more)" if len(files) > 1 else ""
        logger.warning("%s%s: %s", files[0], more, text)
