"""Which parts of a picture to look at for a prompt, and which of what they show to believe."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Float32

from incontext.answers import Answer
from incontext.prompt_rules import Prompts
from incontext.zoom import OUTSIDE, Look, look_around, look_at

SCALES = (0.7, 0.5, 0.35, 0.25)  # of a picture's sides: how near to look where nothing says
EXPECTED = 3.0  # what the model expects of a mask counts so much beside what other looks say of it
CUT = 6.0  # and so much counts which share of its look's edges it fills: it goes on behind them
MOST_SURE = 4.0  # logits of a mask count no more than this in a mean
SAME = 0.8  # masks with a higher IoU are one


def looks_for(prompt: Prompts, size: tuple[int, int]) -> list[Look | None]:
    """Return the parts of a picture to look at for one prompt; None is all of it.

    A box says how large the thing is, and so does an earlier mask. Points alone do not: then there
    are looks from far and near, as far as all foreground points are seen.
    """
    points = prompt.points[0][prompt.labels[0] == 1]
    corners = [points]
    if prompt.boxes is not None:
        corners.append(prompt.boxes[0].reshape(2, 2))
    elif prompt.masks is not None and (prompt.masks[0] > 0).any():
        corners.append(_extent(prompt.masks[0] > 0, size))
    elif len(points):
        looks = [look_at(points, size, scale=scale) for scale in SCALES]
        return [None, *(look for look in looks if look is not None)]
    xy = np.concatenate(corners)
    return [look_around(xy.min(axis=0), xy.max(axis=0), size) if len(xy) > 1 else None]


def choose(answers: Sequence[Answer], *, count: int) -> Answer:
    """Return the masks of several looks at one prompt that are worth most, each unlike the others.

    A mask is believed where the other looks agree with it and the model expects much of it, and
    not where it runs out of its look.
    """
    found = np.concatenate([answer.low_res[0] for answer in answers]) > 0
    flat = found.reshape(len(found), -1).astype(np.float32)
    both = flat @ flat.T
    areas = flat.sum(axis=1)
    ious = both / np.maximum(areas[:, None] + areas - both, 1)
    expected = np.concatenate([answer.scores[0] for answer in answers])
    cut = np.concatenate([_cut_off(answer) for answer in answers])
    worth = (ious.mean(axis=1) + EXPECTED * expected - CUT * cut) / (1 + EXPECTED)
    order = np.argsort(-worth, kind="stable").tolist()
    kept: list[int] = []
    for index in order:
        if len(kept) < count and all(ious[index, other] < SAME for other in kept):
            kept.append(index)
    kept += [index for index in order if index not in kept][: count - len(kept)]
    closer = [
        closer
        for answer in answers
        for closer in (answer.closer[0] if answer.closer else (None,) * answer.scores.shape[1])
    ]
    return Answer(
        low_res=np.concatenate([answer.low_res[0] for answer in answers])[None, kept],
        scores=np.maximum(worth[None, kept], 0).astype(np.float32),
        frame=answers[0].frame,
        closer=(tuple(closer[index] for index in kept),),
    )


def agree(answer: Answer) -> Answer:
    """Return the mean of all masks of one clear prompt, which are as many tries at one thing."""

    def mean(masks: Float32[np.ndarray, "c m m"]) -> Float32[np.ndarray, "1 m m"]:
        return np.clip(masks, -MOST_SURE, MOST_SURE).mean(axis=0, keepdims=True)

    first = answer.pick(slice(0, 1))
    closer = first.closer
    if closer and closer[0][0]:
        near = np.stack([c.low_res for c in answer.closer[0] if c])
        closer = ((replace(closer[0][0], low_res=mean(near)[0]),),)
    # What a look does not show stays as it is.
    low_res = np.where(first.low_res <= OUTSIDE, OUTSIDE, mean(answer.low_res[0])[None])
    return replace(first, low_res=low_res.astype(np.float32), closer=closer)


def _cut_off(answer: Answer) -> Float[np.ndarray, " c"]:
    """Return how much each mask fills those edges of its look behind which the picture goes on."""
    shares = np.zeros(answer.scores.shape[1])
    if answer.closer:
        for index, closer in enumerate(answer.closer[0]):
            assert closer is not None
            x0, y0, x1, y1 = closer.look.box
            height, width = closer.look.size
            mask = closer.low_res > 0
            inner = (y0 > 0, y1 < height, x0 > 0, x1 < width)
            edges = (mask[0], mask[-1], mask[:, 0], mask[:, -1])
            edges = [edge for edge, counts in zip(edges, inner, strict=True) if counts]
            shares[index] = np.concatenate(edges).mean() if edges else 0.0
    return shares


def _extent(mask: np.ndarray, size: tuple[int, int]) -> Float[np.ndarray, "2 2"]:
    """Return the upper left and the lower right corner of a mask, in pixels of the picture."""
    rows, cols = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    cell = np.array([size[1], size[0]]) / mask.shape[-1]
    return np.array([[cols[0], rows[0]], [cols[-1] + 1, rows[-1] + 1]]) * cell
