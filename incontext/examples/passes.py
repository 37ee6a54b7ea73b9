"""More labels than a model paints at once: groups of labels (passes), combined."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from seggpt.palette import color_probabilities

LABELS_PER_PASS = 4  # as many as a training sample had


def combine_passes(
    rgb: Float32[np.ndarray, "passes h w 3"],
    passes: Sequence[Sequence[int]],
    colors: Float32[np.ndarray, "k 3"],
) -> Float32[np.ndarray, "classes h w"]:
    """Bring passes together by each label's odds against the background of its own pass."""
    odds = []
    for painted, part in zip(rgb, passes, strict=True):
        probabilities = color_probabilities(painted, colors[: len(part) + 1])
        odds.append(probabilities[1:] / probabilities[:1])
    stacked = np.concatenate([np.ones_like(odds[0][:1]), *odds])
    return (stacked / stacked.sum(axis=0)).astype(np.float32)
