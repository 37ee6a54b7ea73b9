"""Labelled images for tuning: loading, resizing, and the held-out split.

However large the files are, a picture takes 4 bytes a pixel of its small size once read, and one is
decoded at a time: 300 of 24 megapixels need no more memory than a few.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from incontext.examples.context import Example, check_examples
from incontext.examples.encoded import load_source
from incontext.files.mask_rules import IGNORE, MaskValues
from incontext.files.masks import check_same_size, load_masks
from incontext.files.pairs import say_turn
from seggpt.errors import PromptError, one_line

MOST_LABELS = 254
FEW = 4  # pictures below which none is held out
SHARE = 4  # one picture in so many is held out
MOST_HELD_OUT = 32

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Pictures:
    """Small pictures and what is marked in them.

    Attributes:
        images: RGB.
        class_ids: 0 background, i the i-th of `labels`, 255 ignored.
        labels: The labels of the masks, rising.
        files: What the pictures are called.
    """

    images: tuple[UInt8[np.ndarray, "h w 3"], ...]
    class_ids: tuple[UInt8[np.ndarray, "h w"], ...]
    labels: tuple[int, ...]
    files: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def take(self, index: Sequence[int]) -> "Pictures":
        """Return some of the pictures."""
        rows = list(index)
        images, class_ids = (tuple(part[i] for i in rows) for part in (self.images, self.class_ids))
        files = tuple(self.files[i] for i in rows)
        return Pictures(images, class_ids, self.labels, files)

    def joined(self, other: "Pictures") -> "Pictures":
        """Return these pictures and others with the same labels."""
        images, class_ids = self.images + other.images, self.class_ids + other.class_ids
        return Pictures(images, class_ids, self.labels, self.files + other.files)

    def shares(self) -> np.ndarray:
        """Return the share of each picture that each label covers, of (pictures, labels)."""
        numbers = range(1, len(self.labels) + 1)
        return np.array(
            [
                [(class_ids == class_id).mean() for class_id in numbers]
                for class_ids in self.class_ids
            ]
        )


def read_pictures(
    examples: Sequence[Example],
    *,
    side: int,
    labels: Sequence[int] | None = None,
    fit: Callable[[tuple[int, ...]], tuple[int, int]] | None = None,
) -> Pictures:
    """Read pictures and masks one by one and squeeze each to a square, or to the size of `fit`.

    Masks without foreground are welcome, as long as one has some. `labels` keeps only those; the
    others count as background.

    Raises:
        PromptError: if there are no examples, no foreground, too many labels, or a label asked for
            is in no mask.
        InputError: if a picture or a mask cannot be used.
    """
    check_examples(examples)
    names = tuple(_name(example) for example in examples)
    images: list[np.ndarray] = []

    def shrink(index: int, values: MaskValues) -> np.ndarray:
        image = load_source(examples[index].image, **examples[index].options)
        mask_name = _mask_name(examples[index])
        check_same_size(image, values, image_name=names[index], mask_name=mask_name)
        say_turn(examples[index].image, examples[index].mask, mask_name=mask_name)
        height, width = fit(values.shape) if fit else (side, side)
        # With `fit` pixels must be those that the model itself would see.
        small = Image.fromarray(image).resize(
            (width, height), Image.Resampling.BICUBIC, reducing_gap=None if fit else 3
        )
        images.append(np.asarray(small))
        rows, cols = (
            ((np.arange(new) + 0.5) * old / new).astype(int)
            for new, old in zip((height, width), values.shape, strict=True)
        )
        return values[np.ix_(rows, cols)]

    masks = load_masks(
        [example.mask for example in examples],
        kind=examples[0].kind,
        ignore=examples[0].ignore,
        allow_empty=True,
        max_pixels=examples[0].max_pixels,
        shrink=shrink,
    )
    found = sorted({label for mask in masks for label in mask.classes})
    kept = _choose_labels(found, labels)
    class_ids = tuple(np.zeros(mask.labels.shape, np.uint8) for mask in masks)
    for row, mask in zip(class_ids, masks, strict=True):
        for class_id, label in enumerate(kept, 1):
            row[mask.labels == label] = class_id
        if mask.ignored is not None:
            row[mask.labels == mask.ignored] = IGNORE
    return Pictures(tuple(images), class_ids, kept, names)


def hold_out(pictures: Pictures, count: int | None, *, seed: int) -> tuple[list[int], list[int]]:
    """Divide pictures into those to learn from and those to judge by.

    The draw is the one of many that shows most labels on both sides; a label's only picture is
    always learned from. With fewer than `FEW` pictures all are learned from, and none judges.

    Raises:
        PromptError: if more are asked for than leave one to learn from.
    """
    total = len(pictures)
    if count is not None and count >= total:
        raise PromptError(f"{count} of {total} pictures held out leave none to learn from")
    if count is None:
        count = min(max(1, total // SHARE), MOST_HELD_OUT) if total >= FEW else 0
    shown = pictures.shares() > 0
    only = warn_of_single(pictures)
    free = [i for i in range(total) if i not in only]
    count = min(count, max(len(free) - (not only), 0))
    rng = np.random.default_rng([seed, 1])
    draws = [rng.permutation(np.array(free, int))[:count] for _ in range(50)]
    best = max(draws, key=lambda draw: _seen_on_both_sides(shown, draw))
    held = sorted(int(i) for i in best)
    return [i for i in range(total) if i not in held], held


def warn_of_single(pictures: Pictures) -> set[int]:
    """Say which labels are in one picture only; return those pictures."""
    shown = pictures.shares() > 0
    only: set[int] = set()
    for class_id in np.flatnonzero(shown.sum(axis=0) == 1):
        row = int(np.flatnonzero(shown[:, class_id])[0])
        only.add(row)
        logger.warning(
            "label %d is in one picture only (%s): it is learned from there and its score is "
            "not known; add pictures that show it",
            pictures.labels[class_id],
            one_line(pictures.files[row]),
        )
    return only


def show_names(labels: Sequence[int], names: Mapping[int, str]) -> dict[int, str]:
    """Return what to call each label."""
    return {label: names.get(label, str(label)) for label in labels}


def _seen_on_both_sides(shown: np.ndarray, held: np.ndarray) -> int:
    inside = np.zeros(len(shown), bool)
    inside[held] = True
    return int((shown[inside].any(axis=0) & shown[~inside].any(axis=0)).sum())


def _choose_labels(found: Sequence[int], asked: Sequence[int] | None) -> tuple[int, ...]:
    if not found:
        raise PromptError("no mask has any foreground; mark the object in at least one picture")
    if missing := sorted(set(asked or ()) - set(found)):
        raise PromptError(f"label {missing[0]} is in no mask; there are {found[:20]}")
    kept = tuple(label for label in found if asked is None or label in asked)
    if len(kept) > MOST_LABELS:
        raise PromptError(
            f"{len(kept)} labels; {MOST_LABELS} are the most: pick some with --labels"
        )
    return kept


def _mask_name(example: Example) -> str:
    is_file = isinstance(example.mask, str | PathLike)
    return str(example.mask) if is_file else f"mask of {_name(example)}"


def _name(example: Example) -> str:
    return str(example.image) if isinstance(example.image, str | PathLike) else "image"
