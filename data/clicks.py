"""Targets for interactive segmentation, and simulated prompts: clicks at errors, tight boxes.

The clicks follow the literature on interactive segmentation (Xu et al. 2016, "Deep Interactive
Object Selection"; Sofiiuk et al. 2021, RITM): each goes to the middle of the largest error. The
middle is where the distance to the region's edge is greatest; the picture's border is an edge too.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8
from scipy.ndimage import distance_transform_edt, label

from data.folder import IGNORE, Folder

MIN_AREA, MAX_AREA = 0.005, 0.8
"""Shares of its picture between which an object is asked for."""
OBJECTS_PER_PICTURE = 3

_NEIGHBOURS = np.ones((3, 3), int)  # pixels that touch at a corner belong together


class Click(NamedTuple):
    """A pixel (x, y), and whether it is foreground (1) or background (0)."""

    x: int
    y: int
    label: int


class Box(NamedTuple):
    """The pixels x0 <= x < x1 and y0 <= y < y1."""

    x0: int
    y0: int
    x1: int
    y1: int


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """All clicks on an object so far, or a box around it."""

    clicks: tuple[Click, ...] = ()
    box: Box | None = None


@dataclass(frozen=True, eq=False)
class Reply:
    """A mask for a prompt, and what its predictor wants back with the object's next click."""

    mask: Bool[np.ndarray, "h w"]
    memory: Any = None


Ask = Callable[[Prompt, Any], Reply]
"""Answers a prompt about one picture; the second argument is the last reply's memory, or None."""

Predictor = Callable[[UInt8[np.ndarray, "h w 3"]], Ask]
"""Studies a picture once, to be asked about any of its objects."""


@dataclass(frozen=True, eq=False)
class Turn:
    """The clicks so far, the mask that they gave, and its IoU in 0..1."""

    prompt: Prompt
    mask: Bool[np.ndarray, "h w"]
    iou: float


@dataclass(frozen=True)
class Target:
    """An object of a picture: the id that it has in the picture's instance mask, and its class."""

    picture: str
    instance: int
    class_name: str


def first_click(truth: Bool[np.ndarray, "h w"]) -> Click | None:
    """Return the click in the middle of an object, in its thickest part; None without an object."""
    return _middle(truth, label=1) if truth.any() else None


def next_click(truth: Bool[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"]) -> Click | None:
    """Return the click that mends a mask's largest connected error; None if there is none.

    Of errors of one size, what is missing goes before what is too much.
    """
    missing, surplus = _largest_part(truth & ~mask), _largest_part(mask & ~truth)
    if not missing.any() and not surplus.any():
        return None
    if missing.sum() >= surplus.sum():
        return _middle(missing, label=1)
    return _middle(surplus, label=0)


def tight_box(mask: Bool[np.ndarray, "h w"]) -> Box:
    """Return the smallest box that holds a mask.

    Raises:
        ValueError: if the mask is empty.
    """
    rows, cols = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        raise ValueError("an empty mask has no box; pass one with a pixel or more")
    return Box(int(cols[0]), int(rows[0]), int(cols[-1]) + 1, int(rows[-1]) + 1)


def play(
    ask: Ask,
    truth: Bool[np.ndarray, "h w"],
    *,
    ignore: Bool[np.ndarray, "h w"],
    clicks: int,
    goal: float = 0.0,
    most: int = 0,
) -> list[Turn]:
    """Click on an object, each time where the last mask is most wrong; return every turn.

    Pixels to ignore are never wrong. A perfect mask keeps its turn to the end. After `clicks` it
    goes on until a mask has reached the IoU `goal`, to `most` clicks.
    """
    turns: list[Turn] = []
    prompt, memory, click = Prompt(), None, first_click(truth)
    while click is not None and (
        len(turns) < clicks or (len(turns) < most and all(turn.iou < goal for turn in turns))
    ):
        prompt = Prompt(clicks=(*prompt.clicks, click))
        reply = ask(prompt, memory)
        memory = reply.memory
        turns.append(Turn(prompt, reply.mask, iou(reply.mask, truth, ignore=ignore)))
        click = next_click(truth, np.where(ignore, truth, reply.mask))
    return turns + turns[-1:] * (clicks - len(turns))


def count_clicks(turns: list[Turn], *, goal: float, most: int) -> int:
    """Return the number of clicks after which the IoU is `goal` or more, or `most`."""
    reached = (number for number, turn in enumerate(turns, 1) if turn.iou >= goal)
    return min(next(reached, most), most)


def iou(
    mask: Bool[np.ndarray, "h w"],
    truth: Bool[np.ndarray, "h w"],
    *,
    ignore: Bool[np.ndarray, "h w"],
) -> float:
    """Return intersection over union of what is not to be ignored, in 0..1."""
    hit, union = (mask & truth & ~ignore).sum(), ((mask | truth) & ~ignore).sum()
    return float(hit / max(union, 1))


def load_truth(
    folder: Folder, target: Target
) -> tuple[Bool[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]:
    """Read where an object is, and which pixels do not count."""
    truth = folder.instance_ids(target.picture) == target.instance
    return truth, (folder.labels(target.picture) == IGNORE) & ~truth


def draw_targets(folder: Folder, *, count: int, seed: int, split: str | None) -> list[Target]:
    """Draw up to `count` objects from a split's pictures, or from all of them.

    They cover `MIN_AREA` to `MAX_AREA` of their picture, which gives `OBJECTS_PER_PICTURE` at
    most. There are none without instance masks. The draw depends on the seed, the data set and
    the split alone: fewer objects are the first ones.

    Raises:
        ValueError: if the data set has no such split, or `count` is not positive.
    """
    if count < 1:
        raise ValueError(f"count {count} must be at least 1")
    if not folder.has_instances:
        return []
    rng = np.random.default_rng([seed, zlib.crc32(folder.name.encode())])
    targets = []
    for picture in folder.pictures(split):
        ids, classes = folder.instance_ids(picture), folder.instances(picture)
        shares = np.bincount(ids.ravel(), minlength=256) / ids.size
        fit = [i for i in sorted(classes) if MIN_AREA <= shares[i] <= MAX_AREA]
        for instance in rng.permutation(fit)[:OBJECTS_PER_PICTURE].tolist():
            class_id = classes[int(instance)]
            name = folder.classes.get(class_id, str(class_id))
            targets.append(Target(picture, int(instance), name))
    return [targets[place] for place in rng.permutation(len(targets))[:count]]


def _middle(region: Bool[np.ndarray, "h w"], *, label: int) -> Click:
    depth = np.asarray(distance_transform_edt(np.pad(region, 1)))[1:-1, 1:-1]
    y, x = np.unravel_index(depth.argmax(), region.shape)
    return Click(int(x), int(y), label)


def _largest_part(region: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    parts = np.empty(region.shape, np.int32)
    label(region, _NEIGHBOURS, output=parts)
    if not parts.any():
        return region
    return parts == 1 + np.bincount(parts.ravel())[1:].argmax()
