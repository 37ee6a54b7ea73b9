"""The rules that turn the pixels of a mask file into labels.

Masks come in at least six dialects (0/1, 0/255, label values, palette indices, colours, alpha), and
most tools guess silently. Here every reading is named and put in words, and what has two readings
is an `InputError` that says how to choose.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int, Int32, Integer

from incontext.files.mask_shapes import IGNORE as IGNORE
from incontext.files.mask_shapes import is_flat, judge_255
from incontext.options import AskedIgnore, AskedKind
from incontext.wording import option
from seggpt.errors import InputError

Color = tuple[int, int, int]
FoundKind = Literal[
    "binary01", "binary255", "binary", "indexed", "labels", "rgb", "alpha", "annotated"
]
MaskValues = Bool[np.ndarray, "h w"] | Integer[np.ndarray, "h w"]

MAX_VALUES = 64
"""More distinct grey values or colours than this are taken for a photograph, not for classes."""

# Colours nearer than this in every channel are the dirt of lossy compression, not a palette: the
# nearest two of VOC's 256 colours differ by 32.
_NEAR_COLORS = 8
_CUT = 128


@dataclass(frozen=True, eq=False)
class RawMask:
    """The pixels of a mask before anything is decided.

    Attributes:
        values: Grey values, palette indices, alpha, colours packed as 0xRRGGBB, or labels.
        form: What `values` holds.
        name: The file in words.
        palette: Colours of the palette indices.
        lossy: Whether the file format blurs edges (JPEG).
        aside: What was left out while reading, for the note; may be empty.
        decided: What was decided before this and could be read otherwise; may be empty.
    """

    values: MaskValues
    form: Literal["grey", "indexed", "rgb", "alpha", "labels"]
    name: str
    palette: Mapping[int, Color]
    lossy: bool = False
    aside: str = ""
    decided: str = ""


@dataclass(frozen=True, eq=False)
class Reading:
    """One way to read a mask: its labels, its kind, and the words for it.

    `ignored` is the label of pixels that do not count, and `decided` what could be read otherwise.
    """

    labels: Int32[np.ndarray, "h w"]
    classes: tuple[int, ...]
    kind: FoundKind
    note: str
    colors: Mapping[int, Color]
    ignored: int | None = None
    decided: str = ""


def interpret(raw: RawMask, *, kind: AskedKind, ignore: AskedIgnore = "auto") -> Reading:
    """Read the labels of a mask, by its own pixels or by the kind that the caller names.

    Raises:
        InputError: The pixels have no reading, or more than one.
    """
    if ignore != "auto":
        void = find_void(raw, ignore)
        if void is not None:
            rest = replace(raw, values=np.where(void, raw.values.dtype.type(0), raw.values))
            return _mark_void(_interpret(rest, kind=kind, ignore="beside"), void)
    return _interpret(raw, kind=kind, ignore=ignore)


def find_void(raw: RawMask, ignore: AskedIgnore) -> Bool[np.ndarray, "h w"] | None:
    """Return the pixels that the caller wants ignored; None where there are none.

    Raises:
        InputError: What is to be ignored is no value or colour, or not one of this mask's kind.
    """
    if ignore == "none":
        return None
    color = re.fullmatch("#([0-9a-fA-F]{6})", ignore) if isinstance(ignore, str) else None
    if color is None and (isinstance(ignore, str | bool) or not hasattr(ignore, "__index__")):
        raise InputError(
            f"ignore {ignore!r} is no label value and no colour; give a whole number, "
            "'#rrggbb', 'none' or 'auto'"
        )
    if color is None and raw.form == "rgb":
        raise InputError(
            f"{raw.name}: the mask is coloured and {option('ignore', ignore)} is no colour; "
            f"pass {option('ignore', '#rrggbb')}"
        )
    if color is None:
        void = raw.values == int(ignore)
    elif raw.form == "indexed":
        packed = int(color[1], 16)
        wanted = (packed >> 16, packed >> 8 & 255, packed & 255)
        void = np.isin(raw.values, [i for i, own in raw.palette.items() if own == wanted])
    else:
        packed = int(color[1], 16)
        is_grey = raw.form != "rgb" and packed == (packed & 255) * 0x010101
        void = raw.values == (packed & 255 if is_grey else packed)
    return void if void.any() else None


def _mark_void(reading: Reading, void: Bool[np.ndarray, "h w"]) -> Reading:
    """Give ignored pixels a label of their own, which is no class."""
    ignored = IGNORE if IGNORE not in reading.classes else -1
    labels = np.where(void, np.int32(ignored), reading.labels)
    note = f"{reading.note} ({int(void.sum())} pixels are ignored)"
    return replace(reading, labels=labels, note=note, ignored=ignored)


def _interpret(raw: RawMask, *, kind: AskedKind, ignore: AskedIgnore) -> Reading:
    distinct = np.unique(raw.values).astype(np.int64)
    if distinct[0] < 0 or distinct[-1] > np.iinfo(np.int32).max:
        worst = int(distinct[0] if distinct[0] < 0 else distinct[-1])
        raise InputError(
            f"{raw.name}: label {worst} is not in 0..2^31-1; {option('ignore', worst)} leaves "
            "its pixels out"
        )
    if raw.form == "rgb":
        reading = _by_color(raw, distinct, kind=kind)
    elif kind == "binary":
        reading = _cut(raw, distinct, ignore=ignore)
    elif kind == "labels" or raw.form == "indexed":
        reading = _by_value(raw, distinct, ignore=ignore)
    else:
        reading = _by_grey(raw, distinct, ignore=ignore)
    decided = "; ".join(filter(None, (raw.decided, reading.decided)))
    return replace(reading, note=reading.note + raw.aside, decided=decided)


def listed(values: tuple[object, ...], *, limit: int = 8) -> str:
    """Join values for a message, the first `limit` of them."""
    words = ", ".join(map(str, values[:limit]))
    return f"{words}, ... ({len(values)} in all)" if len(values) > limit else words


def hex_color(packed: int) -> str:
    """Write a packed colour as people write it in CSS."""
    return f"#{packed:06x}"


def _one_class(raw: RawMask, *, where: np.ndarray, kind: FoundKind, note: str) -> Reading:
    labels = where.astype(np.int32)
    return Reading(labels, (1,) if labels.any() else (), kind, note, {})


def _by_grey(raw: RawMask, distinct: Int[np.ndarray, " n"], *, ignore: AskedIgnore) -> Reading:
    """Decide by the distinct values: nothing, one class, label values, or a refusal."""
    values = distinct[distinct != 0]
    if values.size == 0:
        return _one_class(raw, where=raw.values != 0, kind="binary01", note=f"{raw.form}: all zero")
    # A lone value beside ignored pixels is a label, as in a set of VOC's masks.
    if values.size == 1 and (ignore != "beside" or values[0] in (1, 255)):
        return _two_valued(raw, value=int(values[0]))
    way = "for one class" if is_flat(raw.values) else f"to cut at {_CUT}"
    binary = f"pass {option('kind', 'binary')} {way}"
    each = f"{option('kind', 'labels')} if each value is a label"
    if raw.lossy and values.size > 1:
        raise InputError(
            f"{raw.name}: lossy mask: {distinct.size} grey values; save it as PNG, or {binary}"
        )
    many = distinct.size > MAX_VALUES
    if raw.form == "alpha" or (not many and is_soft(raw.values, distinct)):
        raise InputError(
            f"{raw.name}: soft mask: {distinct.size} {raw.form} values "
            f"({listed(tuple(distinct), limit=4)}); {binary}, or {each}"
        )
    if many:
        raise InputError(
            f"{raw.name}: {distinct.size} grey values, like a photograph or a soft mask; "
            f"{binary}, or {each}"
        )
    return _by_value(raw, distinct, ignore=ignore)


def _two_valued(raw: RawMask, *, value: int) -> Reading:
    kinds: dict[int, FoundKind] = {1: "binary01", IGNORE: "binary255"}
    kind: FoundKind = "alpha" if raw.form == "alpha" else kinds.get(value, "binary")
    note = f"{raw.form} mask of 0 and {value}: one class, 1"
    if kind == "binary":
        note += f" ({option('kind', 'labels')} would keep {value})"
    return _one_class(raw, where=raw.values != 0, kind=kind, note=note)


def _by_value(raw: RawMask, distinct: Int[np.ndarray, " n"], *, ignore: AskedIgnore) -> Reading:
    values = tuple(int(value) for value in distinct if value != 0)
    if raw.form == "indexed" and values == (IGNORE,):
        return _two_valued(raw, value=IGNORE)
    verdict = verdict_of(raw, distinct) if ignore == "auto" else None
    if verdict == "unclear":
        raise InputError(
            f"{raw.name}: 255 beside {listed(values[:-1])} may be a label, or pixels to leave out; "
            f"pass {option('ignore', 'none')} or {option('ignore', IGNORE)}"
        )
    ignored = IGNORE if verdict == "ignored" else None
    classes = values[:-1] if ignored else values
    what = "the palette indices" if raw.form == "indexed" else f"the {raw.form} values"
    note = f"{what} are the labels: {listed(classes) or 'none'}"
    decided = ""
    if verdict == "ignored":
        note += " (255 is ignored)"
        decided = f"255 is ignored, as a border; {option('ignore', 'none')} makes it a label"
    elif verdict == "label":
        decided = (
            f"255 is a label, as {listed(classes[:-1])}; {option('ignore', 255)} leaves it out"
        )
    kind: FoundKind = "indexed" if raw.form == "indexed" else "labels"
    colors = {label: raw.palette[label] for label in classes if label in raw.palette}
    labels = raw.values.astype(np.int32)
    return Reading(labels, classes, kind, note, colors, ignored=ignored, decided=decided)


def verdict_of(
    raw: RawMask, distinct: Int[np.ndarray, " n"]
) -> Literal["ignored", "label", "unclear"] | None:
    """Say what 255 means in a mask of labels; None where it is not there, or not special."""
    others = [int(value) for value in distinct if value not in (0, IGNORE)]
    # In a 16-bit file 255 is a label like any other, and so it is alone.
    if raw.form not in ("grey", "indexed") or distinct[-1] != IGNORE or not others:
        return None
    return judge_255(raw.values.astype(np.int32), others, palette=raw.palette)


def _cut(raw: RawMask, distinct: Int[np.ndarray, " n"], *, ignore: AskedIgnore) -> Reading:
    """Make one class: what is not 0, or what is bright where there are soft edges."""
    values = distinct[distinct != 0]
    if values.size == 0 or (values.size == 1 and raw.form != "indexed"):
        return _by_grey(raw, distinct, ignore="none")
    what = "palette indices" if raw.form == "indexed" else f"{raw.form} values"
    cut = _CUT if values[-1] <= 255 else _CUT << 8
    is_soft_mask = raw.lossy or raw.form == "alpha" or not is_flat(raw.values)
    if raw.form == "indexed" or values[-1] < cut or not is_soft_mask:
        note = f"{what} {listed(tuple(values))}: one class, 1"
        reading = _one_class(raw, where=raw.values != 0, kind="binary", note=note)
        if ignore != "auto" or verdict_of(raw, distinct) != "ignored":
            return reading
        decided = f"255 is ignored, as a border; {option('ignore', 'none')} makes it the object"
        return replace(_mark_void(reading, raw.values == IGNORE), decided=decided)
    note = f"{distinct.size} {what} cut at {cut}: one class, 1"
    reading = _one_class(raw, where=raw.values >= cut, kind="binary", note=note)
    return replace(reading, decided=f"{distinct.size} {what} are cut at {cut}")


def is_soft(values: MaskValues, distinct: Int[np.ndarray, " n"]) -> bool:
    """Whether a grey mask is a 0/255 mask with dirty or antialiased edges.

    Dirt lies next to both ends. Antialiasing lies on both sides of the middle and is rarer than
    the solid part; label values fail one of the two (VOC's end at 20 and have little 255).
    """
    if distinct[-1] > 255 or distinct[0] > 8:
        return False
    if ((distinct > 0) & (distinct <= 8)).any() and ((distinct >= 247) & (distinct < 255)).any():
        return True
    middle = distinct[(distinct > 8) & (distinct < 247)]
    if middle.size < 3 or middle[0] >= _CUT or middle[-1] < _CUT:
        return False
    if (values >= 247).sum() < ((values > 8) & (values < 247)).sum():
        return False
    return not is_flat(values)


def _by_color(raw: RawMask, distinct: Int[np.ndarray, " n"], *, kind: AskedKind) -> Reading:
    dirty = raw.lossy and distinct.size > 2
    dirty = dirty or distinct.size > MAX_VALUES or has_near_colors(distinct)
    if kind == "labels":
        raise InputError(f"{raw.name}: the mask is coloured; pass {option('kind', 'rgb')}")
    if kind == "binary":
        return _cut_color(raw, distinct, dirty=dirty)
    if kind == "auto" and dirty:
        what = "lossy mask" if distinct.size <= 4 * MAX_VALUES else "a photograph or a lossy mask"
        raise InputError(
            f"{raw.name}: {what}: {distinct.size} colours; save the mask as PNG, "
            f"or pass {option('kind', 'binary')} for one class or {option('kind', 'rgb')} for one "
            "class a colour"
        )
    names = tuple(hex_color(int(value)) for value in distinct)
    if kind == "auto" and distinct[0] != 0:
        raise InputError(
            f"{raw.name}: no black background among the colours {listed(names)}; "
            f"paint the background #000000, or pass {option('kind', 'rgb')} to make every colour "
            "a class"
        )
    palette = tuple(int(value) for value in distinct if value != 0)
    return by_palette(raw, palette=palette)


def by_palette(raw: RawMask, *, palette: tuple[int, ...]) -> Reading:
    """Label packed colours 1, 2, ... by their place in a palette; what is not in it becomes 0."""
    if len(palette) > 254:
        raise InputError(f"{raw.name}: {len(palette)} colours; 254 classes are the most")
    labels = np.zeros(raw.values.shape, np.int32)
    present: dict[int, Color] = {}
    for label, packed in enumerate(palette, 1):
        here = raw.values == packed
        if here.any():
            labels[here] = label
            present[label] = (packed >> 16, packed >> 8 & 255, packed & 255)
    words = tuple(f"{label}={hex_color(palette[label - 1])}" for label in present)
    note = f"one class a colour: {listed(words) or 'none'}"
    return Reading(labels, tuple(present), "rgb", note, present)


def _cut_color(raw: RawMask, distinct: Int[np.ndarray, " n"], *, dirty: bool) -> Reading:
    if not dirty and distinct[0] == 0:
        note = f"{distinct.size - 1} colours on black: one class, 1"
        return _one_class(raw, where=raw.values != 0, kind="binary", note=note)
    brightest = np.zeros(raw.values.shape, bool)
    for shift in (16, 8, 0):
        brightest |= (raw.values >> shift & 255) >= _CUT
    decided = f"{distinct.size} colours are cut at {_CUT} in the brightest channel"
    reading = _one_class(raw, where=brightest, kind="binary", note=f"{decided}: one class, 1")
    return replace(reading, decided=decided)


def has_near_colors(distinct: Int[np.ndarray, " n"]) -> bool:
    """Whether two packed colours are nearly the same."""
    if distinct.size > MAX_VALUES:
        return False
    channels = np.stack([distinct >> 16, distinct >> 8 & 255, distinct & 255])
    distance = abs(channels[:, :, None] - channels[:, None, :]).max(axis=0)
    np.fill_diagonal(distance, 255)
    return bool((distance < _NEAR_COLORS).any())
