"""Correction of a result by points and a box; the result enters as the mask prompt."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float32
from numpy.typing import ArrayLike
from PIL import Image

from incontext.prompts.promptable import EncodedImage, Promptable
from incontext.result import Result
from seggpt.errors import PromptError

MOST_LOGIT = 10.0  # of a proposal, as in training
MOST_SIDE = 1024  # pixels of the corrected probabilities along a side


def correct(
    result: Result,
    model: Promptable,
    state: EncodedImage,
    *,
    points: ArrayLike | None,
    labels: ArrayLike | None,
    boxes: ArrayLike | None,
    about: int | None,
) -> Result:
    """Return a result in which one label is what its probabilities and a prompt ask for.

    `state` is the result's picture.

    Raises:
        PromptError: if the prompt makes no sense, is more than one, or it is not clear which label
            it is about.
    """
    label = _which(result.labels, about)
    row = 1 + result.labels.index(label)
    probabilities = result.probabilities_lowres
    at_threshold = _logit(result.threshold)
    proposal = _logit(_resized(probabilities[row], state.mask_shape)) - at_threshold
    answer = model.predict(
        state,
        points=points,
        labels=labels,
        boxes=boxes,
        mask=np.clip(proposal, -MOST_LOGIT, MOST_LOGIT),
        multimask=False,
    )
    logits = answer.logits()[0, 0] + at_threshold
    scale = min(1.0, MOST_SIDE / max(result.size))
    height, width = result.size
    shape = (max(1, round(height * scale)), max(1, round(width * scale)))
    marked = 0.5 * (1 + np.tanh(0.5 * _resized(logits.astype(np.float32), shape)))
    channels = np.stack([_resized(channel, shape) for channel in probabilities])
    others = np.delete(channels, row, axis=0)
    channels *= (1 - marked) / np.maximum(others.sum(axis=0), 1e-6)
    channels[row] = marked
    # Where nothing else was probable, the background has what is left.
    channels[0] += 1 - channels.sum(axis=0)
    return dataclasses.replace(result, probabilities_lowres=channels.astype(np.float32))


def _which(labels: tuple[int, ...], about: int | None) -> int:
    known = ", ".join(map(str, labels[:20]))
    if about is not None:
        if about not in labels:
            raise PromptError(f"label {about} is none of the context's ({known})")
        return about
    if len(labels) > 1:
        raise PromptError(f"points and boxes for one of the labels {known}: say which (about=...)")
    return next(iter(labels))


def _logit(probability: Any) -> Any:
    """Return the log odds of a number or an array."""
    clipped = np.clip(probability, 1e-4, 1 - 1e-4)
    return np.log(clipped / (1.0 - clipped))


def _resized(
    channel: Float32[np.ndarray, "h w"], shape: tuple[int, int]
) -> Float32[np.ndarray, "h2 w2"]:
    height, width = shape
    resized = Image.fromarray(channel).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized, np.float32)
