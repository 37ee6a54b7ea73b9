"""Points and a box as the slots of a prompt, padded so that one compiled program serves many."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int, Int32

from seggpt.prompts.encoder import ABSENT, FIRST_CORNER, PADDING, SECOND_CORNER

SLOTS = 4  # three points, or two and a box's corners: with more, a picture looks for longer
_STEP = 16


@dataclass(frozen=True)
class Slots:
    """Prompts as `PromptEncoder.points` takes them."""

    coords: Float32[np.ndarray, "p s 2"]
    labels: Int32[np.ndarray, "p s"]


def make_slots(
    points: Float32[np.ndarray, "p k 2"],
    labels: Int[np.ndarray, "p k"],
    boxes: Float32[np.ndarray, "p 4"] | None = None,
    *,
    tight: bool = False,
) -> Slots:
    """Lay prompts out in slots: points, then the corners of boxes (x0, y0, x1, y1).

    Points without a box are followed by one PADDING point, as SAM was trained (`_embed_points` of
    its prompt_encoder.py); a box alone, or nothing, is not. Unless `tight`, what is left of
    `SLOTS`, or of the next larger size, is ABSENT, which changes no number.
    """
    p, k = labels.shape
    coords, kinds = [points], [labels]
    if boxes is not None:
        coords.append(boxes.reshape(p, 2, 2))
        kinds.append(np.tile((FIRST_CORNER, SECOND_CORNER), (p, 1)))
    elif k:
        coords.append(np.zeros((p, 1, 2)))
        kinds.append(np.full((p, 1), PADDING))
    used = sum(part.shape[1] for part in kinds)
    spare = 0 if tight else max(0, -(-(used - SLOTS) // _STEP)) * _STEP + SLOTS - used
    coords.append(np.zeros((p, spare, 2)))
    kinds.append(np.full((p, spare), ABSENT))
    return Slots(
        np.concatenate(coords, axis=1).astype(np.float32),
        np.concatenate(kinds, axis=1).astype(np.int32),
    )
