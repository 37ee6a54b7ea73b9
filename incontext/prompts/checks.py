"""Checks of prompts: points, boxes and earlier masks, before a model sees them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32
from numpy.typing import ArrayLike

from seggpt.config import SAMConfig
from seggpt.errors import PromptError
from seggpt.prompts import PADDING
from seggpt.sam.efficient_sam import POINTS

HAIR = 0.02  # of a picture's side: points and boxes may lie so far outside, as sums are rounded


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """One or more prompts of one kind, in pixels of the picture; without points k is 0."""

    points: Float32[np.ndarray, "p k 2"]
    labels: Int32[np.ndarray, "p k"]
    boxes: Float32[np.ndarray, "p 4"] | None
    masks: Float32[np.ndarray, "p m n"] | None


def check_prompts(
    points: ArrayLike | None,
    labels: ArrayLike | None,
    boxes: ArrayLike | None,
    mask: ArrayLike | None,
    *,
    size: tuple[int, int],
    mask_shape: tuple[int, int],
) -> Prompts:
    """Check every part of some prompts, and that they belong together.

    Args:
        points: See `check_points`, like `labels`.
        labels: As above.
        boxes: See `check_boxes`.
        mask: See `check_mask`.
        size: (height, width) of the picture.
        mask_shape: (height, width) of a mask, as the model wants it.

    Raises:
        PromptError: A part makes no sense, there is none, or their numbers differ.
    """
    if points is None and labels is not None:
        raise PromptError("labels without points; give points, or no labels")
    parts: dict[str, np.ndarray] = {}
    kinds = None
    if points is not None:
        parts["points"], kinds = check_points(points, labels, size=size)
    if boxes is not None:
        parts["boxes"] = check_boxes(boxes, size=size)
    if mask is not None:
        parts["masks"] = check_mask(mask, shape=mask_shape)
    if not parts:
        raise PromptError("no prompt; give points, boxes or a mask")
    counts = {name: len(part) for name, part in parts.items()}
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{count} for {name}" for name, count in counts.items())
        raise PromptError(f"different numbers of prompts: {said}; give as many of each")
    count = next(iter(counts.values()))
    return Prompts(
        points=parts.get("points", np.zeros((count, 0, 2), np.float32)),
        labels=np.zeros((count, 0), np.int32) if kinds is None else kinds,
        boxes=parts.get("boxes"),
        masks=parts.get("masks"),
    )


def check_learned(prompts: Prompts, config: SAMConfig) -> None:
    """Make sure that a model has learned such prompts: EfficientSAM has not learned all of SAM's.

    Raises:
        PromptError: It has not.
    """
    if config.decoder != "efficient":
        return
    if prompts.masks is not None:
        raise PromptError("EfficientSAM reads no masks from before; give points or a box alone")
    if (prompts.labels == 0).any():
        raise PromptError("EfficientSAM knows no background points; give points with label 1")
    count = prompts.labels.shape[1] + (0 if prompts.boxes is None else 2)
    if count > POINTS:
        raise PromptError(
            f"{count} points, with the corners of boxes, where EfficientSAM takes {POINTS}; give "
            "fewer"
        )


def check_points(
    points: ArrayLike, labels: ArrayLike | None, *, size: tuple[int, int]
) -> tuple[Float32[np.ndarray, "p k 2"], Int32[np.ndarray, "p k"]]:
    """Return points as (prompts, points, xy), and their labels.

    Args:
        points: (x, y) in pixels of the picture: (k, 2) for one prompt, (p, k, 2) for several.
        labels: 1 foreground, 0 background or -1 for a point that fills a row up (as SAM pads
            prompts of different lengths), one a point; all foreground by default.
        size: (height, width) of the picture.

    Raises:
        PromptError: A point is well outside the picture or no number, or a label is none of these.
    """
    xy = _numbers(points, "points")
    if xy.ndim not in (2, 3) or xy.shape[-1] != 2 or not xy.size:
        raise PromptError(f"points of shape {xy.shape}; give (k, 2) or (prompts, k, 2)")
    kinds = np.ones(xy.shape[:-1]) if labels is None else _numbers(labels, "labels")
    if kinds.shape != xy.shape[:-1]:
        raise PromptError(
            f"labels of shape {kinds.shape} for points of shape {xy.shape}; give one a point"
        )
    for kind in kinds.reshape(-1):
        if kind not in (0, 1, PADDING):
            raise PromptError(
                f"point label {kind:g} is neither 1 (foreground) nor 0 (background), nor -1 (no "
                "point)"
            )
    height, width = size
    for x, y in xy[kinds != PADDING].tolist():
        if not _is_near(x, width) or not _is_near(y, height):  # also refuses NaN
            raise PromptError(
                f"point {x:g},{y:g} is outside the picture of {width}x{height}; "
                f"x is in 0..{width - 1}, y in 0..{height - 1}"
            )
    count = xy.shape[-2]
    return xy.reshape(-1, count, 2), kinds.reshape(-1, count).astype(np.int32)


def check_boxes(boxes: ArrayLike, *, size: tuple[int, int]) -> Float32[np.ndarray, "p 4"]:
    """Return boxes as rows of x0, y0, x1, y1, cut at the picture's edges.

    Args:
        boxes: In pixels of the picture: (4,) for one prompt, (p, 4) for several.
        size: (height, width) of the picture.

    Raises:
        PromptError: A box is reversed, empty, well outside the picture, or not of numbers.
    """
    rows = _numbers(boxes, "boxes")
    if rows.ndim not in (1, 2) or rows.shape[-1] != 4 or not rows.size:
        raise PromptError(f"boxes of shape {rows.shape}; give (4,) or (prompts, 4)")
    height, width = size
    for row in rows.reshape(-1, 4).tolist():
        x0, y0, x1, y1 = row
        said = ",".join(f"{value:g}" for value in row)
        if x0 >= x1 or y0 >= y1:
            raise PromptError(
                f"box {said} is reversed or empty; give the upper left and then the lower right "
                "corner: x0,y0,x1,y1"
            )
        near = (_is_near(x, width) for x in (x0, x1)), (_is_near(y, height) for y in (y0, y1))
        if not all(map(all, near)):  # also refuses NaN
            raise PromptError(
                f"box {said} is outside the picture of {width}x{height}; "
                f"x is in 0..{width}, y in 0..{height}"
            )
    return rows.reshape(-1, 4).clip(0, np.array([width, height] * 2, np.float32))


def check_mask(mask: ArrayLike, *, shape: tuple[int, int]) -> Float32[np.ndarray, "p height width"]:
    """Return earlier masks, which are logits as a prediction gives them.

    Args:
        mask: (height, width) for one prompt, (p, height, width) for several.
        shape: (height, width), what the model wants.

    Raises:
        PromptError: A mask has another size, or is a picture of 0 and 1.
    """
    logits = _numbers(mask, "mask")
    if logits.ndim not in (2, 3) or logits.shape[-2:] != shape or not logits.size:
        raise PromptError(
            f"a mask prompt of shape {logits.shape}; give the low-resolution logits of an earlier "
            f"prediction, {shape}"
        )
    if not np.isfinite(logits).all():
        raise PromptError("a mask prompt with NaN or infinite logits; give finite ones")
    if logits.min() >= 0 and set(np.unique(logits)) <= {0.0, 1.0, 255.0}:
        raise PromptError(
            "a mask prompt that holds nothing but 0 and 1 (or 255); give logits, which are "
            "negative outside, such as an earlier prediction's"
        )
    return logits.reshape(-1, *shape)


def _is_near(value: float, extent: int) -> bool:
    """Tell whether a place along a side is in the picture, or a hair outside."""
    return bool(-HAIR * extent <= value <= (1 + HAIR) * extent)


def _numbers(values: ArrayLike, what: str) -> Float32[np.ndarray, "..."]:
    try:
        return np.asarray(values, np.float32)
    except (TypeError, ValueError) as error:
        raise PromptError(f"{what} must be numbers in rows of one length ({error})") from error
