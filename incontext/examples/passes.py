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
    """Bring the colours of passes together as probabilities."""
    found = [
        color_probabilities(painted, colors[: len(part) + 1])
        for painted, part in zip(rgb, passes, strict=True)
    ]
    return join_passes(found)


def join_passes(
    found: Sequence[Float32[np.ndarray, "_ h w"]],
) -> Float32[np.ndarray, "classes h w"]:
    """Bring the probabilities of passes together.

    What counts is each label's odds against the background of its own pass, which must not be 0.
    """
    odds = [probabilities[1:] / probabilities[:1] for probabilities in found]
    stacked = np.concatenate([np.ones_like(odds[0][:1]), *odds])
    return (stacked / stacked.sum(axis=0)).astype(np.float32)


def share_passes(
    probabilities: Float32[np.ndarray, "classes h w"], passes: Sequence[Sequence[int]]
) -> Float32[np.ndarray, "passes k h w"]:
    """Return the probability of each colour of a pass; all other labels are its background."""
    shares = []
    first = 1
    for part in passes:
        own = probabilities[first : first + len(part)]
        unused = np.zeros((LABELS_PER_PASS - len(part), *own.shape[1:]), np.float32)
        shares.append(np.concatenate([1 - own.sum(axis=0, keepdims=True), own, unused]))
        first += len(part)
    return np.stack(shares).astype(np.float32)
