"""What a prompt says of its mask for certain, whatever the model makes of the picture.

Who only points at things means what is connected to the points, and who draws a box draws it around
all of the thing and about as large.
"""

import numpy as np
from jaxtyping import Bool, Float, Float32, Int32
from scipy.ndimage import label

from incontext.prompt_rules import Prompts
from incontext.zoom import Look
from seggpt.prompts import FOREGROUND

FILLED = 0.8  # share of a box from which the box of its mask fills it; drawn boxes are not exact
MOST = 1.5  # added to logits to fill a box
STEPS = 7
SPECK = 0.2  # of the largest piece in a box: smaller ones are of something else


def settle(
    logits: Float32[np.ndarray, "m m"], prompt: Prompts, look: Look
) -> Float32[np.ndarray, "m m"]:
    """Bring a mask that a look at one prompt gave into line with the prompt."""
    x0, y0, *_ = look.box
    height, width = look.shape
    cell = np.array([width, height]) / len(logits)
    if prompt.boxes is None:
        points = prompt.points[0][prompt.labels[0] == FOREGROUND]
        return keep_pointed(logits, (points + 0.5 - (x0, y0)) / cell)
    corners = (prompt.boxes[0].reshape(2, 2) - (x0, y0)) / cell
    box = corners.reshape(4)
    return keep_boxed(fill_box(logits, box), box)


def keep_pointed(
    logits: Float32[np.ndarray, "m m"], cells: Float[np.ndarray, "k 2"]
) -> Float32[np.ndarray, "m m"]:
    """Keep the connected parts of a mask that points (x, y, in its cells) lie on.

    Where no point lies on the mask, all of it stays. What goes is as surely no part of it as it was
    one.
    """
    parts = _parts(logits > 0)
    x, y = np.clip(np.floor(cells).astype(int), 0, len(logits) - 1).T
    pointed = np.setdiff1d(parts[y, x], 0)
    if not len(pointed):
        return logits
    return np.where(np.isin(parts, pointed), logits, -np.abs(logits))


def keep_boxed(
    logits: Float32[np.ndarray, "m m"], box: Float[np.ndarray, " 4"]
) -> Float32[np.ndarray, "m m"]:
    """Keep what a mask has in a box (as of `fill_box`), without specks; what goes is as above."""
    x0, y0, x1, y1 = _cells(box, len(logits))
    inside = np.zeros(logits.shape, bool)
    inside[y0:y1, x0:x1] = True
    if not inside.any():  # too small a box to tell
        return logits
    parts = _parts(inside & (logits > 0))
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    large = np.flatnonzero(sizes >= max(1.0, SPECK * sizes.max()))
    return np.where(np.isin(parts, large), logits, -np.abs(logits))


def fill_box(
    logits: Float32[np.ndarray, "m m"], box: Float[np.ndarray, " 4"]
) -> Float32[np.ndarray, "m m"]:
    """Raise a mask's logits in a box until what is marked there has a box about as large.

    `box` is x0, y0, x1, y1 in the mask's cells. A mask that fills its box stays as it is.
    """
    x0, y0, x1, y1 = _cells(box, len(logits))
    inside = logits[y0:y1, x0:x1]
    if not inside.size:
        return logits
    steps = np.linspace(0, MOST, STEPS)
    raised = next((step for step in steps if _filled(inside > -step) >= FILLED), MOST)
    filled = logits.copy()
    filled[y0:y1, x0:x1] += np.float32(raised)
    return filled


def _cells(box: Float[np.ndarray, " 4"], side: int) -> tuple[int, int, int, int]:
    """Return the whole cells that a box covers best."""
    x0, y0, x1, y1 = np.rint(np.clip(box, 0, side)).astype(int).tolist()
    return x0, y0, x1, y1


def _parts(mask: Bool[np.ndarray, "m m"]) -> Int32[np.ndarray, "m m"]:
    """Number the connected parts of a mask from 1."""
    parts = np.empty(mask.shape, np.int32)
    label(mask, output=parts)
    return parts


def _filled(inside: Bool[np.ndarray, "h w"]) -> float:
    """Return which share of a box the box of what is marked in it has."""
    rows, cols = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return 0.0
    return float((rows[-1] + 1 - rows[0]) * (cols[-1] + 1 - cols[0]) / inside.size)
