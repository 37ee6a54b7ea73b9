"""Pictures and their masks, read together: one by one they do not tell what they mean."""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import UInt8

from incontext.files.decode import find_facts, source_name
from incontext.files.mask_rules import listed
from incontext.files.masks import LoadedMask, MaskSource, check_same_size, load_masks
from incontext.options import AskedIgnore, AskedKind
from incontext.wording import option
from seggpt.errors import InputError

MOST_LABEL = 255
"""The largest label that an 8-bit mask, as results are written, can hold."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Pair:
    """A picture and all that is marked in it; `index` is its place among those that were given."""

    image: UInt8[np.ndarray, "h w 3"]
    mask: LoadedMask
    index: int


def read_pairs(
    images: Sequence[object],
    masks: Sequence[MaskSource],
    *,
    load: Callable[[int], np.ndarray],
    kind: AskedKind = "auto",
    ignore: AskedIgnore = "auto",
    known: Sequence[int] = (),
    may_be_empty: bool = False,
    max_pixels: int | None = None,
) -> list[Pair]:
    """Read pictures and masks; several masks of one picture become one.

    Args:
        images: The pictures' sources; equal ones are one picture.
        masks: A mask for each.
        load: Reads the picture at a place.
        kind: As for `load_masks`.
        ignore: As for `load_masks`.
        known: As for `load_masks`.
        may_be_empty: Whether no picture needs anything marked in it.
        max_pixels: As for `load_masks`.

    Raises:
        InputError: A file cannot be used, two contradict each other, or nothing is marked at all.
    """
    loaded = load_masks(
        masks, kind=kind, ignore=ignore, known=known, allow_empty=True, max_pixels=max_pixels
    )
    pairs: dict[object, list[Pair]] = {}
    for index, (source, mask) in enumerate(zip(images, loaded, strict=True)):
        same = pairs.setdefault(_key(source), [])
        image = same[0].image if same else load(index)
        name = source_name(source) if isinstance(source, str | os.PathLike) else "image"
        check_same_size(image, mask.labels, image_name=name, mask_name=mask.name)
        if not same:
            say_turn(source, masks[index], mask_name=mask.name)
        same.append(Pair(image, mask, index))
    merged = _merge(list(pairs.values()), kind=kind)
    _check_marked(merged, may_be_empty=may_be_empty)
    return sorted(merged, key=lambda pair: pair.index)


def check_writable_labels(labels: Sequence[int], *, name: str) -> None:
    """Make sure that labels fit the masks that will be written.

    Raises:
        InputError: One is too large.
    """
    if labels and max(labels) > MOST_LABEL:
        raise InputError(
            f"{name}: {len(labels)} labels up to {max(labels)}, and the masks written hold "
            f"{MOST_LABEL} at most; pass {option('kind', 'binary')} for one class, write the "
            f"format labels, or number them from 1 to {MOST_LABEL}"
        )


def say_turn(image: object, mask: object, *, mask_name: str) -> None:
    """Say that a picture was turned upright where sizes do not tell whether its mask was too."""
    facts = find_facts(image)
    if facts is None or not facts.turn:
        return
    own = find_facts(mask)
    if own is not None and own.turn == facts.turn:
        return
    width, height = facts.size
    if facts.orientation < 5 or width == height:
        logger.warning(
            "%s: %s by its EXIF orientation (%d), and the mask %s is taken as drawn on the upright "
            "picture; turn the mask if it was drawn on the stored pixels",
            source_name(image),
            facts.turn,
            facts.orientation,
            mask_name,
        )


def _key(source: object) -> object:
    return os.path.realpath(source) if isinstance(source, str | os.PathLike) else id(source)


def _merge(groups: Sequence[Sequence[Pair]], *, kind: AskedKind) -> list[Pair]:
    """Merge masks of one picture: those of one class each get labels in their order.

    Raises:
        InputError: Pictures have different numbers of masks, so that their order tells nothing.
    """
    numbered = [group for group in groups if _is_a_mask_per_class(group)]
    for group in groups if numbered and kind != "binary" else ():
        if len(group) != len(numbered[0]) and any(pair.mask.classes for pair in group):
            first, other = numbered[0][0].mask, group[0].mask
            raise InputError(
                f"{first.name} is one of {len(numbered[0])} masks of its picture, and of that of "
                f"{other.name} there are {len(group)}: which class is which? give every picture as "
                "many, or one mask of labels; or pass "
                f"{option('kind', 'binary')} for one class"
            )
    merged: list[Pair] = []
    for group in groups:
        sets = [set(pair.mask.classes) for pair in group]
        is_disjoint = sum(map(len, sets)) == len(set().union(*sets))
        if group in numbered:
            merged.append(_join(group, binary=kind == "binary"))
        elif len(group) > 1 and ((is_disjoint and any(sets[1:])) or _is_annotated(group)):
            merged.append(_join(group, binary=True))
        else:
            merged += group
    return merged


def _is_a_mask_per_class(group: Sequence[Pair]) -> bool:
    """Whether masks of one picture mark one thing each, and not all the same."""
    marked = [pair.mask for pair in group if pair.mask.classes]
    if len(marked) < 2 or any(mask.classes != (1,) for mask in marked) or _is_annotated(group):
        return False
    return any(not np.array_equal(mask.labels, marked[0].labels) for mask in marked[1:])


def _is_annotated(group: Sequence[Pair]) -> bool:
    """Whether labels are known for certain, so that masks of one picture add to each other."""
    return all(pair.mask.kind == "annotated" for pair in group)


def _join(group: Sequence[Pair], *, binary: bool) -> Pair:
    """Lay masks of one picture over each other; later ones are on top."""
    first = group[0].mask
    labels, classes, overlap = first.labels.copy(), set(first.classes), 0
    for number, pair in enumerate(group[1:], 2):
        mask = pair.mask
        here = (mask.labels != 0) & (mask.labels != mask.ignored)
        own = mask.labels if binary else np.full_like(labels, number)
        overlap += int((here & (labels != 0) & (labels != own)).sum())
        labels[here] = own[here]
        classes |= set(mask.classes) if binary else {number} if mask.classes else set()
    names = [pair.mask.name for pair in group]
    if binary:
        said = f"{len(group)} masks of one picture are joined: {listed(tuple(names))}"
    else:
        told = listed(tuple(f"{label}={name}" for label, name in enumerate(names, 1)))
        said = (
            f"{len(group)} masks of one picture are its classes in their order: {told}; "
            f"{option('kind', 'binary')} makes one class of them"
        )
    on_top = f" ({overlap} pixels are in several; the last counts)" if overlap else ""
    logger.warning("%s%s", said, on_top)
    joined = replace(first, labels=labels, classes=tuple(sorted(classes)), note=said, colors={})
    return Pair(group[0].image, joined, group[0].index)


def _check_marked(pairs: Sequence[Pair], *, may_be_empty: bool) -> None:
    """Say which examples show nothing; refuse them if none shows anything."""
    empty = [pair.mask for pair in pairs if not pair.mask.classes]
    if len(empty) == len(pairs) and not may_be_empty:
        height, width = empty[0].labels.shape
        raise InputError(
            f"{empty[0].name}: mask has no foreground ({width}x{height}, {empty[0].note}); mark "
            "the object, or give an example beside it that has one"
        )
    for mask in empty:
        logger.warning("%s: nothing is marked: it shows what is not wanted", mask.name)
