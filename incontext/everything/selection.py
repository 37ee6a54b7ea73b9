"""Selection among the masks of an image: by points, boxes, or the result of examples.

Things are found once; any number of selections after that costs next to nothing (FastSAM's
"segment, then select", arXiv 2306.12156).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from numpy.typing import ArrayLike

from incontext.prompts.checks import check_boxes, check_points
from incontext.result import Result
from seggpt.errors import PromptError
from seggpt.prompts import FOREGROUND

MOSTLY = 0.5  # share of a thing that must be marked for it to be what examples showed


@dataclass(frozen=True, kw_only=True, eq=False)
class Selection:
    """What is meant, in pixels of the picture.

    Attributes:
        points: (k, 2), (x, y). Things with a foreground point in them and no background one.
        labels: (k,), 1 foreground or 0 background; all foreground by default.
        boxes: (4,) or (b, 4), x0, y0, x1, y1. For each the thing with the highest IoU.
        result: What `Segmenter.segment` found in the same picture. Things mostly marked.
    """

    points: ArrayLike | None = None
    labels: ArrayLike | None = None
    boxes: ArrayLike | None = None
    result: Result | None = None

    def pick(self, masks: Sequence[Bool[np.ndarray, "h w"]], size: tuple[int, int]) -> list[int]:
        """Return which masks are meant, in their order; what is selected twice is there once.

        Raises:
            PromptError: if a point or box makes no sense, or nothing was given.
        """
        if self.points is None and self.boxes is None and self.result is None:
            raise PromptError("nothing to select by; give points, boxes or a result")
        picked: set[int] = set()
        if self.points is not None:
            xy, kinds = check_points(self.points, self.labels, size=size)
            picked |= _by_points(masks, np.rint(xy[0]).astype(int), kinds[0] == FOREGROUND)
        if self.boxes is not None:
            boxes = np.rint(check_boxes(self.boxes, size=size)).astype(int)
            picked |= {index for box in boxes if (index := _by_box(masks, box)) is not None}
        if self.result is not None:
            marked = self.result.label_map > 0
            if marked.shape != size:
                raise PromptError(
                    f"the result is of a picture of {marked.shape[1]}x{marked.shape[0]}, not of "
                    f"{size[1]}x{size[0]}; segment the same picture"
                )
            picked |= {i for i, mask in enumerate(masks) if marked[mask].mean() > MOSTLY}
        return sorted(picked)


def _by_points(
    masks: Sequence[Bool[np.ndarray, "h w"]], xy: np.ndarray, inside: np.ndarray
) -> set[int]:
    picked = set()
    for index, mask in enumerate(masks):
        x, y = (np.clip(xy[:, axis], 0, mask.shape[1 - axis] - 1) for axis in (0, 1))
        hit = mask[y, x]
        if hit[inside].any() and not hit[~inside].any():
            picked.add(index)
    return picked


def _by_box(masks: Sequence[Bool[np.ndarray, "h w"]], box: np.ndarray) -> int | None:
    """Return the mask with the highest IoU with a box, or None if none meets it."""
    x0, y0, x1, y1 = np.maximum(box, 0)
    ious = [
        (both := mask[y0:y1, x0:x1].sum()) / max(1, mask.sum() + (x1 - x0) * (y1 - y0) - both)
        for mask in masks
    ]
    return int(np.argmax(ious)) if max(ious, default=0) > 0 else None
