"""The rules that turn the pixels of a mask file into labels.

Masks come in at least six dialects (0/1, 0/255, label values, palette indices, colours, alpha), and
most tools guess silently. Here every reading is named and put in words, and what has two readings
is an `InputError` that says how to choose.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int, Int32, Integer

from incontext.options import AskedKind
from seggpt.errors import InputError

Color = tuple[int, int, int]
FoundKind = Literal["binary01", "binary255", "binary", "indexed", "labels", "rgb", "alpha"]
MaskValues = Bool[np.ndarray, "h w"] | Integer[np.ndarray, "h w"]

MAX_VALUES = 64
"""More distinct grey values or colours than this are taken for a photograph, not for classes."""

IGNORE = 255
"""The label of pixels that count neither as an object nor as background (VOC's "void")."""

# Colours nearer than this in every channel are the dirt of lossy compression, not a palette: the
# nearest two of VOC's 256 colours differ by 32.
_NEAR_COLORS = 8
_CUT = 128


@dataclass(frozen=True, eq=False)
class RawMask:
    """The pixels of a mask before anything is decided.

    Attributes:
        values: Grey values, palette indices, alpha, or colours packed as 0xRRGGBB.
        form: What `values` holds.
        name: The file in words.
        palette: Colours of the palette indices.
        lossy: Whether the file format blurs edges (JPEG).
        aside: What was left out while reading, for the note; may be empty.
    """

    values: MaskValues
    form: Literal["grey", "indexed", "rgb", "alpha"]
    name: str
    palette: Mapping[int, Color]
    lossy: bool = False
    aside: str = ""


@dataclass(frozen=True, eq=False)
class Reading:
    """One way to read a mask: its labels, its kind, and the words for it."""

    labels: Int32[np.ndarray, "h w"]
    classes: tuple[int, ...]
    kind: FoundKind
    note: str
    colors: Mapping[int, Color]


def interpret(raw: RawMask, *, kind: AskedKind) -> Reading:
    """Read the labels of a mask, by its own pixels or by the kind that the caller names.

    Raises:
        InputError: The pixels have no reading, or more than one.
    """
    distinct = np.unique(raw.values).astype(np.int64)
    if distinct[0] < 0 or distinct[-1] > np.iinfo(np.int32).max:
        raise InputError(f"{raw.name}: label {distinct[0]} or {distinct[-1]} is not in 0..2^31-1")
    if raw.form == "rgb":
        reading = _by_color(raw, distinct, kind=kind)
    elif kind == "binary":
        reading = _cut(raw, distinct)
    elif kind == "labels" or raw.form == "indexed":
        reading = _by_value(raw, distinct)
    else:
        reading = _by_grey(raw, distinct)
    return replace(reading, note=reading.note + raw.aside)


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


def _by_grey(raw: RawMask, distinct: Int[np.ndarray, " n"]) -> Reading:
    """Decide by the distinct values: nothing, one class, label values, or a refusal."""
    values = distinct[distinct != 0]
    if values.size == 0:
        return _one_class(raw, where=raw.values != 0, kind="binary01", note=f"{raw.form}: all zero")
    if values.size == 1:
        return _two_valued(raw, value=int(values[0]))
    if raw.lossy:
        raise InputError(
            f"{raw.name}: lossy mask: {distinct.size} grey values; save it as PNG, "
            f"or pass kind='binary' to cut at {_CUT}"
        )
    many = distinct.size > MAX_VALUES
    if raw.form == "alpha" or (not many and _is_soft(raw.values, distinct)):
        raise InputError(
            f"{raw.name}: soft mask: {distinct.size} {raw.form} values "
            f"({listed(tuple(distinct), limit=4)}); pass kind='binary' to cut at {_CUT}, "
            "or kind='labels' if each value is a label"
        )
    if many:
        raise InputError(
            f"{raw.name}: {distinct.size} grey values, like a photograph or a soft mask; "
            f"pass kind='binary' to cut at {_CUT}, or kind='labels' if each value is a label"
        )
    return _by_value(raw, distinct)


def _two_valued(raw: RawMask, *, value: int) -> Reading:
    kinds: dict[int, FoundKind] = {1: "binary01", IGNORE: "binary255"}
    kind: FoundKind = "alpha" if raw.form == "alpha" else kinds.get(value, "binary")
    note = f"{raw.form} mask of 0 and {value}: one class, 1"
    if kind == "binary":
        note += f" (kind='labels' would keep {value})"
    return _one_class(raw, where=raw.values != 0, kind=kind, note=note)


def _by_value(raw: RawMask, distinct: Int[np.ndarray, " n"]) -> Reading:
    values = tuple(int(value) for value in distinct if value != 0)
    if raw.form == "indexed" and values == (IGNORE,):
        return _two_valued(raw, value=IGNORE)
    # In a 16-bit file 255 is a label like any other.
    ignored = len(values) > 1 and values[-1] == IGNORE
    classes = values[:-1] if ignored else values
    what = "the palette indices" if raw.form == "indexed" else f"the {raw.form} values"
    note = f"{what} are the labels: {listed(classes) or 'none'}"
    note += " (255 is ignored)" if ignored else ""
    kind: FoundKind = "indexed" if raw.form == "indexed" else "labels"
    colors = {label: raw.palette[label] for label in classes if label in raw.palette}
    return Reading(raw.values.astype(np.int32), classes, kind, note, colors)


def _cut(raw: RawMask, distinct: Int[np.ndarray, " n"]) -> Reading:
    """Make one class: what is not 0, or what is bright where there are greys in between."""
    values = distinct[distinct != 0]
    if raw.form == "indexed":
        void = values.size > 1 and values[-1] == IGNORE
        note = f"palette indices {listed(tuple(values))}: one class, 1"
        reading = _one_class(raw, where=raw.values != 0, kind="binary", note=note)
        if void:
            reading.labels[raw.values == IGNORE] = IGNORE
        return reading
    if values.size <= 1:
        return _by_grey(raw, distinct)
    if values[-1] < _CUT:
        note = f"{raw.form} values {listed(tuple(values))}: one class, 1"
        return _one_class(raw, where=raw.values != 0, kind="binary", note=note)
    cut = _CUT if values[-1] <= 255 else _CUT << 8
    note = f"{distinct.size} {raw.form} values cut at {cut}: one class, 1"
    return _one_class(raw, where=raw.values >= cut, kind="binary", note=note)


def _is_soft(values: MaskValues, distinct: Int[np.ndarray, " n"]) -> bool:
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
    return bool((values >= 247).sum() >= ((values > 8) & (values < 247)).sum())


def _by_color(raw: RawMask, distinct: Int[np.ndarray, " n"], *, kind: AskedKind) -> Reading:
    dirty = raw.lossy and distinct.size > 2
    dirty = dirty or distinct.size > MAX_VALUES or _has_near_colors(distinct)
    if kind == "labels":
        raise InputError(f"{raw.name}: the mask is coloured; pass kind='rgb'")
    if kind == "binary":
        return _cut_color(raw, distinct, dirty=dirty)
    if kind == "auto" and dirty:
        what = "lossy mask" if distinct.size <= 4 * MAX_VALUES else "a photograph or a lossy mask"
        raise InputError(
            f"{raw.name}: {what}: {distinct.size} colours; save the mask as PNG, "
            "or pass kind='binary' for one class or kind='rgb' for one class a colour"
        )
    names = tuple(hex_color(int(value)) for value in distinct)
    if kind == "auto" and distinct[0] != 0:
        raise InputError(
            f"{raw.name}: no black background among the colours {listed(names)}; "
            "paint the background #000000, or pass kind='rgb' to make every colour a class"
        )
    return by_palette(raw, palette=tuple(int(value) for value in distinct if value != 0))


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
    note = f"{distinct.size} colours cut at {_CUT} in the brightest channel: one class, 1"
    return _one_class(raw, where=brightest, kind="binary", note=note)


def _has_near_colors(distinct: Int[np.ndarray, " n"]) -> bool:
    if distinct.size > MAX_VALUES:
        return False
    channels = np.stack([distinct >> 16, distinct >> 8 & 255, distinct & 255])
    distance = abs(channels[:, :, None] - channels[:, None, :]).max(axis=0)
    np.fill_diagonal(distance, 255)
    return bool((distance < _NEAR_COLORS).any())
