"""Interactive baselines: GrabCut, random walker, filled boxes.

GrabCut (Rother et al. 2004, by OpenCV) and the random walker (Grady 2006, by scikit-image) need the
extra `eval`. All of them start anew with every click.
"""

import logging
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from scipy.ndimage import label

from data.clicks import Ask, Box, Click, Predictor, Prompt, Reply, tight_box

logger = logging.getLogger(__name__)

Answer = Callable[[UInt8[np.ndarray, "h w 3"], Prompt], Bool[np.ndarray, "h w"]]
"""Marks what a prompt means in a picture."""

_INSIDE, _OUTSIDE = 1, 2  # seeds of the walker

# Chosen by mean IoU at 1, 3 and 5 clicks, or with a box, over 52 to 78 objects of the training
# splits, at half size. Lengths are shares of the picture's shorter side unless said otherwise.
_DISK = 0.1  # the best of 0.05 to 0.3
_SURE = 0.05  # radius of a click's seed; 0.01 loses GrabCut 10 points, 0.03 one
_FAR = 0.3  # from here on all is background to GrabCut; without this it loses a point
_ROUNDS = 2  # 5 gain nothing
_CUT_MIDDLE = 0.6  # of a box's sides; without a middle (OpenCV's rectangle mode) 4 points less
_LEAST = 0.2  # share of a box that a cut must keep; without this the rectangle mode loses 28 points
_SURROUNDINGS = 0.25  # of the longer side of where the object may be; GrabCut sees no further
_WALK_MIDDLE = 0.7  # of a box's sides, the best of 0.3 to 0.9
_WALK_PX = 160  # longer side of the picture walked on
_BETA = 300  # 130 and 1000 differ by less than a point


def load_baselines() -> dict[str, Predictor]:
    """Return what can run here; a missing package is one line of warning."""
    wanted: dict[str, tuple[str | None, Answer]] = {
        "grabcut": ("cv2", grab_cut),
        "walker": ("skimage", walk_randomly),
        "disk": (None, draw_disks),
    }
    found: dict[str, Predictor] = {}
    for name, (module, answer) in wanted.items():
        if module is None or find_spec(module):
            found[name] = _forgetful(answer)
        else:
            logger.warning('no %s: pip install "seggpt-jax[eval]"', name)
    return found


def draw_disks(image: UInt8[np.ndarray, "h w 3"], prompt: Prompt) -> Bool[np.ndarray, "h w"]:
    """Mark disks around the foreground clicks, less what is nearer to another click; or the box."""
    size = image.shape[:2]
    if prompt.box is not None:
        return _inside(prompt.box, size)
    distances = np.stack([_distance(click, size) for click in prompt.clicks])
    labels = np.array([click.label for click in prompt.clicks], bool)
    return labels[distances.argmin(axis=0)] & (distances.min(axis=0) <= _DISK * min(size))


def grab_cut(image: UInt8[np.ndarray, "h w 3"], prompt: Prompt) -> Bool[np.ndarray, "h w"]:
    """Model the colours inside and outside, and cut where they part.

    A disk around each foreground click is probably foreground, what is far from all of them is
    background, and only what hangs together with one is kept. Of a box the middle is foreground
    and what is outside is not; where next to nothing of it is left, all of it is the answer.
    """
    # Optional dependency.
    import cv2

    size = image.shape[:2]
    guess = draw_disks(image, prompt)
    if prompt.box is not None:
        marks = np.where(guess, cv2.GC_PR_FGD, cv2.GC_BGD).astype(np.uint8)
        marks[_inside(_middle(prompt.box, _CUT_MIDDLE), size)] = cv2.GC_FGD
    else:
        marks = np.where(guess, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
        near = [
            _distance(click, size) <= _FAR * min(size) for click in prompt.clicks if click.label
        ]
        marks[~np.any(near, axis=0)] = cv2.GC_BGD
        for click in prompt.clicks:
            spot = _distance(click, size) <= max(1.0, _SURE * min(size))
            marks[spot] = cv2.GC_FGD if click.label else cv2.GC_BGD
    foreground = (cv2.GC_FGD, cv2.GC_PR_FGD)
    if 0 < np.isin(marks, foreground).sum() < marks.size:  # else there is nothing to cut
        cv2.setRNGSeed(0)  # colours are clustered from a random start
        window = _around(marks != cv2.GC_BGD)
        bgr, part = np.ascontiguousarray(image[window][..., ::-1]), marks[window].copy()
        inner, outer = np.zeros((2, 1, 65))
        unused = (0, 0, 1, 1)
        cv2.grabCut(bgr, part, unused, outer, inner, _ROUNDS, cv2.GC_INIT_WITH_MASK)
        marks[window] = part
    mask = np.isin(marks, foreground)
    if prompt.box is None:
        parts = np.empty(size, np.int32)
        label(mask, output=parts)
        clicked = [parts[y, x] for x, y, wanted in prompt.clicks if wanted]
        return np.isin(parts, clicked) & mask
    return guess if mask.sum() < _LEAST * guess.sum() else mask


def _around(mask: Bool[np.ndarray, "h w"]) -> tuple[slice, slice]:
    """Return the rows and columns of a mask and of what surrounds it, which is all that matters."""
    box = tight_box(mask)
    margin = int(_SURROUNDINGS * max(box.x1 - box.x0, box.y1 - box.y0)) + 1
    return (
        slice(max(0, box.y0 - margin), box.y1 + margin),
        slice(max(0, box.x0 - margin), box.x1 + margin),
    )


def walk_randomly(image: UInt8[np.ndarray, "h w 3"], prompt: Prompt) -> Bool[np.ndarray, "h w"]:
    """Give each pixel to the seed that a random walk, shy of edges, most likely meets first.

    The border of the picture is background, and so is all outside a box, whose middle is
    foreground. The walk is on a small copy of the picture; its probabilities are enlarged.
    """
    # Optional dependency.
    from skimage.segmentation import random_walker

    size = image.shape[:2]
    scale = max(1.0, max(size) / _WALK_PX)
    height, width = (max(1, round(extent / scale)) for extent in size)
    rows = ((np.arange(height) + 0.5) * size[0] / height).astype(int)
    cols = ((np.arange(width) + 0.5) * size[1] / width).astype(int)
    seeds = _seeds(prompt, size, least_px=scale)[rows[:, None], cols]
    if prompt.box is None:
        edge = np.ones((height, width), bool)
        edge[1:-1, 1:-1] = False
        seeds[edge & (seeds == 0)] = _OUTSIDE
    if not {0, _INSIDE, _OUTSIDE} <= set(np.unique(seeds).tolist()):  # nowhere to walk
        return draw_disks(image, prompt)
    small = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))
    probabilities = random_walker(
        small / 255,
        seeds,
        beta=_BETA,
        mode="bf",
        return_full_prob=True,
        prob_tol=1.0,  # probabilities slightly outside 0..1 do no harm
        channel_axis=-1,
    )
    enlarged = Image.fromarray(probabilities[0].astype(np.float32)).resize(
        (size[1], size[0]), Image.Resampling.BILINEAR
    )
    mask = np.asarray(enlarged) > 0.5
    return mask if prompt.box is None else mask & _inside(prompt.box, size)


def _seeds(prompt: Prompt, size: tuple[int, int], *, least_px: float) -> Int[np.ndarray, "h w"]:
    """Return what a prompt says of each pixel, 0 for nothing."""
    seeds = np.zeros(size, int)
    if prompt.box is not None:
        seeds[~_inside(prompt.box, size)] = _OUTSIDE
        seeds[_inside(_middle(prompt.box, _WALK_MIDDLE), size)] = _INSIDE
    for click in prompt.clicks:
        spot = _distance(click, size) <= max(least_px, _SURE * min(size))
        seeds[spot] = _INSIDE if click.label else _OUTSIDE
    return seeds


def _inside(box: Box, size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    mask = np.zeros(size, bool)
    mask[box.y0 : box.y1, box.x0 : box.x1] = True
    return mask


def _middle(box: Box, share: float) -> Box:
    """Return the box in the middle of a box, with so much of its sides, a pixel at least."""
    cuts = [
        int((1 - share) / 2 * (end - start)) for start, end in zip(box[:2], box[2:], strict=True)
    ]
    return Box(box.x0 + cuts[0], box.y0 + cuts[1], box.x1 - cuts[0], box.y1 - cuts[1])


def _distance(click: Click, size: tuple[int, int]) -> Float[np.ndarray, "h w"]:
    rows, cols = np.ogrid[: size[0], : size[1]]
    return np.hypot(rows - click.y, cols - click.x)


def _forgetful(answer: Answer) -> Predictor:
    """Make a predictor that neither studies nor remembers anything."""

    def predictor(image: UInt8[np.ndarray, "h w 3"]) -> Ask:
        def ask(prompt: Prompt, memory: Any) -> Reply:
            del memory
            return Reply(answer(image, prompt))

        return ask

    return predictor
