"""Logits of things, each found by itself, as one result."""

import numpy as np
from jaxtyping import Float32, UInt8

from incontext.result import Result


def make_result(
    logits: Float32[np.ndarray, "labels h w"],
    labels: tuple[int, ...],
    picture: UInt8[np.ndarray, "h w 3"],
) -> Result:
    """Give each pixel the label with the highest logit, if that is above 0."""
    return Result(
        probabilities_lowres=share(logits), labels=labels, size=picture.shape[:2], image=picture
    )


def share(logits: Float32[np.ndarray, "labels h w"]) -> Float32[np.ndarray, "k h w"]:
    """Turn each label's logits into shares of background and labels that sum to 1.

    The background has what the strongest label leaves, so a label wins where its logit is the
    highest and above 0.
    """
    probabilities = 0.5 * (1.0 + np.tanh(0.5 * logits))
    channels = np.concatenate([1.0 - probabilities.max(axis=0, keepdims=True), probabilities])
    return (channels / channels.sum(axis=0)).astype(np.float32)
