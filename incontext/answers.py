"""What a promptable model answers: masks of one or more prompts about one picture."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32

from incontext.zoom import OUTSIDE, Look
from seggpt.frame import Frame

_BAND_VALUES = 1 << 22  # full-size logits held at a time: 16 MiB


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Closer:
    """A mask as a look at a part of the picture gave it, in a square of the part.

    The square may be finer than the model's (`incontext.snap`).
    """

    look: Look
    frame: Frame
    low_res: Float32[np.ndarray, "m m"]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Answer:
    """The masks of one or more prompts about one picture.

    Attributes:
        low_res: Logits in the model's square; what a later prompt takes as its mask.
        scores: The IoU with the truth that the model expects; may exceed 0..1 a little.
        frame: Where the picture lies in the square.
        closer: For each prompt and mask the closer look that it is from, if there was one.
    """

    low_res: Float32[np.ndarray, "p c m m"]
    scores: Float32[np.ndarray, "p c"]
    frame: Frame
    closer: tuple[tuple[Closer | None, ...], ...] = ()

    def logits(self) -> Float32[np.ndarray, "p c h w"]:
        """Compute the logits in the size of the picture: 4 bytes a pixel and mask."""
        full = np.full((*self.low_res.shape[:2], *self.frame.size), OUTSIDE, np.float32)
        for index, part, band in self._bands():
            full[index][part] = band
        return full

    def masks(self) -> Bool[np.ndarray, "p c h w"]:
        """Compute the masks in the size of the picture, a band of rows at a time."""
        full = np.zeros((*self.low_res.shape[:2], *self.frame.size), bool)
        for index, part, band in self._bands():
            np.greater(band, 0.0, out=full[index][part])
        return full

    def best(self) -> "Answer":
        """Keep the mask with the highest score of each prompt."""
        return join_answers(
            [self._of(row, [int(place)]) for row, place in enumerate(self.scores.argmax(axis=1))]
        )

    def pick(self, masks: slice | Sequence[int]) -> "Answer":
        """Keep some masks of every prompt."""
        places = list(range(self.scores.shape[1]))
        chosen = places[masks] if isinstance(masks, slice) else list(masks)
        return join_answers([self._of(row, chosen) for row in range(len(self.scores))])

    def _of(self, row: int, places: Sequence[int]) -> "Answer":
        """Return some masks of one prompt."""
        closer = (tuple(self.closer[row][place] for place in places),) if self.closer else ()
        return Answer(
            low_res=self.low_res[row][None, list(places)],
            scores=self.scores[row][None, list(places)],
            frame=self.frame,
            closer=closer,
        )

    def _bands(
        self,
    ) -> Iterator[tuple[tuple[int, int], tuple[slice, slice], Float32[np.ndarray, "rows w"]]]:
        """Yield where a mask lies among all, a part of the picture, and its logits there."""
        for prompt, place in np.ndindex(*self.scores.shape):
            closer = self.closer[prompt][place] if self.closer else None
            frame, low_res, left, top = self.frame, self.low_res[prompt, place], 0, 0
            if closer is not None:
                frame, low_res = closer.frame, closer.low_res
                left, top, *_ = closer.look.box
            down, across = frame.upsampling(low_res.shape[-1])
            height, width = frame.size
            step = max(1, _BAND_VALUES // width)
            for row in range(0, height, step):
                stop = min(row + step, height)
                part = slice(top + row, top + stop), slice(left, left + width)
                yield (prompt, place), part, (down[row:stop] @ low_res) @ across.T


def join_answers(parts: Sequence[Answer]) -> Answer:
    """Return several prompts' answers, of as many masks each, as one."""
    closer: list[tuple[Closer | None, ...]] = []
    for part in parts:
        nothing = ((None,) * part.scores.shape[1],) * len(part.scores)
        closer += part.closer or nothing
    return Answer(
        low_res=np.concatenate([part.low_res for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
        frame=parts[0].frame,
        closer=tuple(closer) if any(part.closer for part in parts) else (),
    )
