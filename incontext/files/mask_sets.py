"""Masks that belong together: one colour, one value and one "ignored" mean the same in all."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from incontext.files.mask_rules import (
    MAX_VALUES,
    Color,
    FoundKind,
    RawMask,
    Reading,
    by_palette,
    has_near_colors,
    hex_color,
    interpret,
    is_soft,
    listed,
    verdict_of,
)
from incontext.files.mask_shapes import IGNORE, VOC_PALETTE, VOC_VOID, is_dithered, is_flat
from incontext.files.mask_snap import snap
from incontext.options import AskedIgnore, AskedKind
from incontext.wording import option
from seggpt.errors import InputError

# What a label of each kind is: a value that the file holds, a colour, or just "the object".
_STYLES: dict[FoundKind, str] = {
    "binary01": "value",
    "labels": "value",
    "indexed": "value",
    "rgb": "color",
    "binary255": "object",
    "binary": "object",
    "alpha": "object",
    "annotated": "value",
}
# More distinct colours than this without being near each other are soft edges, if they are edges.
_FEW_COLORS = 8
_VOC_COLORS = {int(r) << 16 | int(g) << 8 | int(b) for r, g, b in VOC_PALETTE}


def read_together(
    raws: Sequence[RawMask],
    *,
    kind: AskedKind,
    ignore: AskedIgnore = "auto",
    known: Sequence[int] = (),
) -> list[Reading]:
    """Read masks by rules that hold for all of them.

    Args:
        raws: Their pixels.
        kind: How the caller wants them read.
        ignore: What the caller wants left out.
        known: Labels that values may be taken for: those of the prompt that the masks add to.

    Raises:
        InputError: A mask has no single reading, or two contradict each other.
    """
    raws = _snap_colors(_match_palettes(raws, kind=kind), kind=kind)
    for raw in raws if kind in ("auto", "rgb") else ():
        if (
            raw.form not in ("indexed", "rgb")
            or raw.lossy
            or np.unique(raw.values).size > MAX_VALUES
        ):
            continue
        if is_dithered(raw.values):
            raise InputError(
                f"{raw.name}: the colours are dithered, and mean nothing by themselves; save the "
                f"mask without dithering, or pass {option('kind', 'binary')} for one class"
            )
    readings = [
        _read_one(raw, kind=kind, ignore=own, asked=ignore)
        for raw, own in zip(raws, _ignored(raws, ignore), strict=True)
    ]
    return _agree(raws, readings, kind=kind, ignore=ignore, known=known)


def _match_palettes(raws: Sequence[RawMask], *, kind: AskedKind) -> list[RawMask]:
    """Turn palette indices into colours where the indices do not mean the same, or not what 0 is.

    A palette whose index 0 is not black was sorted by a program, not made for labels: then colours
    tell what is what.

    Raises:
        InputError: The indices do not tell what the background is, and neither do colours.
    """
    indexed = [raw for raw in raws if raw.form == "indexed"]
    if not indexed or kind == "labels":
        return list(raws)
    used = {id(raw): _used_colors(raw) for raw in indexed}
    odd = [raw for raw in indexed if used[id(raw)].get(0, (0, 0, 0)) != (0, 0, 0)]
    for raw in odd:
        if (0, 0, 0) not in used[id(raw)].values() and kind != "binary":
            raise InputError(
                f"{raw.name}: no colour of the palette is black, and index 0 is "
                f"{_hex(used[id(raw)][0])}: is it the background? paint the background #000000, "
                f"or pass {option('kind', 'labels')} to take the indices as labels, 0 as background"
            )
    odd = [raw for raw in odd if (0, 0, 0) in used[id(raw)].values()]
    why = "other masks are coloured" if any(raw.form == "rgb" for raw in raws) else ""
    why = why or ("the palettes of the masks differ" if _disagree(list(used.values())) else "")
    if not odd and (kind == "binary" or not why):
        return list(raws)

    def converted(raw: RawMask) -> RawMask:
        if raw.form != "indexed":
            return raw
        first = used[id(raw)].get(0, (0, 0, 0))
        own = f"index 0 of the palette is {_hex(first)}, not black" if any(first) else why
        decided = own or f"the palette of {odd[0].name} does not begin with black"
        table = np.zeros(int(raw.values.max()) + 1, np.int32)
        for index, (red, green, blue) in raw.palette.items():
            if index < len(table):
                table[index] = red << 16 | green << 8 | blue
        decided += f": read by colour; {option('kind', 'labels')} takes the indices"
        return replace(raw, values=table[raw.values], form="rgb", palette={}, decided=decided)

    return [converted(raw) for raw in raws]


def _used_colors(raw: RawMask) -> dict[int, Color]:
    return {
        index: raw.palette[index]
        for index in map(int, np.unique(raw.values))
        if index in raw.palette
    }


def _hex(color: Color) -> str:
    return hex_color(color[0] << 16 | color[1] << 8 | color[2])


def _disagree(palettes: Sequence[Mapping[int, Color]]) -> bool:
    """Whether an index has two colours, or a colour two indices, over several palettes."""
    colors: dict[int, Color] = {}
    indices: dict[Color, int] = {}
    for palette in palettes:
        for index, color in palette.items():
            if colors.setdefault(index, color) != color:
                return True
    for palette in palettes:
        own = {color: index for index, color in palette.items()}
        if len(own) < len(palette):
            continue  # one colour for several labels: colours tell nothing
        if any(indices.setdefault(color, index) != index for color, index in own.items()):
            return True
    return False


def _snap_colors(raws: Sequence[RawMask], *, kind: AskedKind) -> list[RawMask]:
    """Replace the colours of lossy and soft masks by the few that were drawn."""
    dirty = [_is_dirty(raw, kind=kind) for raw in raws]
    if not any(dirty):
        return list(raws)
    known: dict[str, list[int]] = {"rgb": [], "grey": []}
    for raw, bad in zip(raws, dirty, strict=True):
        if not bad and raw.form in known:
            known[raw.form] += map(int, np.unique(raw.values)[:MAX_VALUES])
    cleaned = []
    for raw, bad in zip(raws, dirty, strict=True):
        snapped = snap(raw, known=known[raw.form]) if bad else None
        if snapped is None or (raw.form == "grey" and snapped.colors[0] != 0):
            cleaned.append(raw)
            continue
        known[raw.form] += snapped.colors
        show = hex_color if raw.form == "rgb" else str
        what = "colours" if raw.form == "rgb" else "grey values"
        decided = (
            f"{snapped.before} {what} (lossy or soft edges) are taken for the "
            f"{len(snapped.colors)} of flat parts: {', '.join(map(show, snapped.colors))}"
        )
        cleaned.append(replace(raw, values=snapped.values, lossy=False, decided=decided))
    return cleaned


def _is_dirty(raw: RawMask, *, kind: AskedKind) -> bool:
    if raw.form not in ("grey", "rgb") or (kind == "labels" and not raw.lossy):
        return False
    distinct = np.unique(raw.values).astype(np.int64)
    if distinct.size <= 2 or distinct[0] < 0:
        return False
    if raw.lossy:
        return True
    if raw.form == "rgb":
        many = distinct.size > _FEW_COLORS
        return (many or has_near_colors(distinct)) and not is_flat(raw.values)
    if distinct[-1] > 255:
        return False
    return (distinct.size > MAX_VALUES and not is_flat(raw.values)) or is_soft(raw.values, distinct)


def _ignored(raws: Sequence[RawMask], ignore: AskedIgnore) -> list[AskedIgnore]:
    """Return what is ignored in each mask: what one mask tells of 255 holds for all."""
    if ignore != "auto":
        return [ignore] * len(raws)
    verdicts = [verdict_of(raw, np.unique(raw.values).astype(np.int64)) for raw in raws]
    is_border = len(raws) > 1 and "ignored" in verdicts
    return [
        IGNORE if is_border and verdict in ("ignored", "unclear") else _void_color(raw)
        for raw, verdict in zip(raws, verdicts, strict=True)
    ]


def _void_color(raw: RawMask) -> AskedIgnore:
    """Return the colour of VOC's void where a coloured mask has it among VOC's colours."""
    void = VOC_VOID[0] << 16 | VOC_VOID[1] << 8 | VOC_VOID[2]
    if raw.form != "rgb":
        return "auto"
    colors = set(map(int, np.unique(raw.values)[: MAX_VALUES + 1]))
    is_voc = void in colors and 0 in colors and len(colors) > 2 and colors <= _VOC_COLORS
    return hex_color(void) if is_voc else "auto"


def _read_one(raw: RawMask, *, kind: AskedKind, ignore: AskedIgnore, asked: AskedIgnore) -> Reading:
    """Read a mask; `asked` is what the caller wants ignored, `ignore` what the set tells too."""
    if raw.form == "labels":
        return _by_annotation(raw, kind=kind)
    reading = interpret(raw, kind=kind, ignore=ignore)
    if asked != "auto" or ignore == "auto" or reading.ignored is None:
        return reading
    said = f"{ignore} is ignored, as a border; {option('ignore', 'none')} makes it a label"
    return replace(reading, decided="; ".join(filter(None, (reading.decided, said))))


def _by_annotation(raw: RawMask, *, kind: AskedKind) -> Reading:
    """Take numbers for the labels that they are; -1 is ignored."""
    labels = raw.values.astype(np.int32)
    if kind == "binary":
        labels = np.minimum(labels, 1)
    classes = tuple(np.unique(labels[labels > 0]).tolist())
    ignored = -1 if (labels < 0).any() else None
    note = f"annotated with the labels {listed(classes) if classes else '(none)'}"
    return Reading(labels, classes, "annotated", note, {}, ignored=ignored)


def _agree(
    raws: Sequence[RawMask],
    readings: Sequence[Reading],
    *,
    kind: AskedKind,
    ignore: AskedIgnore,
    known: Sequence[int],
) -> list[Reading]:
    """Read masks by one rule where each alone would follow its own; refuse contradictions."""
    colors = {color for reading in readings if reading.kind == "rgb" for color in _packed(reading)}
    certain = ("labels", "annotated")
    is_labels = kind == "auto" and any(reading.kind in certain for reading in readings)
    agreed: list[Reading] = []
    for raw, reading in zip(raws, readings, strict=True):
        is_value = reading.kind in ("binary", "binary01") and raw.form == "grey"
        if reading.kind == "rgb":
            agreed.append(_recolored(raw, reading, tuple(sorted(colors))))
        elif is_value and (is_labels or (kind == "auto" and int(raw.values.max()) in known)):
            agreed.append(interpret(raw, kind="labels", ignore=ignore))
        else:
            agreed.append(reading)
    if kind == "auto":  # any other kind is one rule for all
        _check_agreement(raws, agreed)
    return agreed


def _packed(reading: Reading) -> list[int]:
    return [red << 16 | green << 8 | blue for red, green, blue in reading.colors.values()]


def _recolored(raw: RawMask, reading: Reading, palette: tuple[int, ...]) -> Reading:
    again = by_palette(raw, palette=palette)
    if reading.ignored is not None:
        again.labels[reading.labels == reading.ignored] = reading.ignored
    note = again.note + raw.aside
    return replace(again, note=note, ignored=reading.ignored, decided=reading.decided)


def _check_agreement(raws: Sequence[RawMask], readings: Sequence[Reading]) -> None:
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
            f"other; save all masks in one style, or pass {option('kind')}"
        )
