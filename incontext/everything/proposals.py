"""Box proposals from a sparse grid of points.

MobileSAMv2 (arXiv 2312.09579) has a trained detector for them. Here the model itself proposes: the
coarse masks of a sparse grid, of which nothing but the boxes is kept.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from incontext.everything.nms import suppress
from incontext.everything.sweep import Sieve, Sweep
from incontext.prompts.promptable import EncodedImage
from seggpt.frame import Frame
from seggpt.prompts import FOREGROUND, Slots, make_slots

# How much worse than what is kept at last a mask may be, in IoU and in stability: only its box
# counts, and a box is a clearer prompt than a point. Chosen, not tuned.
_LOOSER = 0.1
# Boxes that overlap by more ask for the same thing (MobileSAMv2's threshold for its detector).
_SAME = 0.9


def propose(
    sweep: Sweep,
    state: EncodedImage,
    points: Float[np.ndarray, "n 2"],
    sieve: Sieve,
    *,
    batch: int,
    most_iou: float,
) -> Float[np.ndarray, "k 4"]:
    """Return boxes of what points (x, y) in pixels of the picture find, best first.

    They are x0, y0, x1, y1 in pixels of the picture, and at most three a point. Nothing larger than
    a batch of coarse masks is held.

    Args:
        sweep: The model at work.
        state: The picture.
        points: Where to ask.
        sieve: What masks must pass at last; here a looser one decides.
        batch: Prompts decoded at a time.
        most_iou: Of two boxes that overlap by more, the one with the higher score is kept.
    """
    loose = replace(sieve, iou=sieve.iou - _LOOSER, stability=sieve.stability - _LOOSER)
    enlarger = sweep.enlarger(state)
    boxes, scores = [np.zeros((0, 4), np.int32)], [np.zeros(0, np.float32)]
    prompts = point_prompts(points, state.frame)
    for coarse in sweep.coarse(
        state, prompts, loose, enlarger=enlarger, batch=batch, multimask=True
    ):
        picked = coarse.pick(loose)
        boxes.append(np.asarray(_boxes(coarse.low, enlarger.inner))[picked])
        scores.append(coarse.scores[picked])
    found, expected = np.concatenate(boxes), np.concatenate(scores)
    there = found[:, 2] > found[:, 0]
    placed = _in_picture(found[there], state)
    return placed[suppress(placed, expected[there], most_iou=min(most_iou, _SAME))]


def point_prompts(points: Float[np.ndarray, "n 2"], frame: Frame) -> Slots:
    """Make a prompt of each point (x, y) in pixels of the picture."""
    labels = np.full((len(points), 1), FOREGROUND)
    return make_slots(frame.place_pixels(points)[:, None], labels, tight=True)


def box_prompts(boxes: Float[np.ndarray, "n 4"], frame: Frame) -> Slots:
    """Make a prompt of each box x0, y0, x1, y1 in pixels of the picture."""
    count = len(boxes)
    placed = frame.place(boxes.reshape(-1, 2, 2)).reshape(-1, 4)
    nothing = np.zeros((count, 0, 2), np.float32), np.zeros((count, 0), np.int32)
    return make_slots(*nothing, placed, tight=True)


def _in_picture(boxes: Int[np.ndarray, "n 4"], state: EncodedImage) -> Float[np.ndarray, "n 4"]:
    """Bring boxes from pixels of a coarse mask to pixels of the picture, and cut them to it."""
    height, width = state.size
    scale = state.patch / state.cell / state.frame.place(np.ones(2))
    placed = boxes.reshape(-1, 2, 2) * scale.astype(np.float64)
    return np.minimum(placed, (width, height)).reshape(-1, 4)


@jax.jit
def _boxes(low: Float[Array, "p c h w"], inner: Int[Array, " 2"]) -> Int[Array, "p c 4"]:
    """Return the box of each mask, as far as `inner`, in its pixels; zeros where there is none.

    Boxes are x0, y0, x1, y1, and end behind their last pixel.
    """
    height, width = low.shape[-2:]
    part = (jnp.arange(height) < inner[0])[:, None] & (jnp.arange(width) < inner[1])
    mask = (low > 0) & part
    across, down = mask.any(axis=-2), mask.any(axis=-1)
    first = [line.argmax(axis=-1) for line in (across, down)]
    behind = [line.shape[-1] - line[..., ::-1].argmax(axis=-1) for line in (across, down)]
    there = across.any(axis=-1)
    return jnp.stack([*first, *behind], axis=-1) * there[..., None]
