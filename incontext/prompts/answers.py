"""Predictions of a promptable model: masks of one or more prompts about one image."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32

from seggpt.frame import Frame

_BAND_VALUES = 1 << 22  # full-size logits held at a time: 16 MiB


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Answer:
    """The masks of one or more prompts about one picture.

    Attributes:
        low_res: Logits of all that the model sees; what a later prompt takes as its mask.
        scores: The IoU with the truth that the model expects; may exceed 0..1 a little.
        frame: Where the picture lies in what the model sees.
    """

    low_res: Float32[np.ndarray, "p c m n"]
    scores: Float32[np.ndarray, "p c"]
    frame: Frame

    def logits(self) -> Float32[np.ndarray, "p c h w"]:
        """Compute the logits in the size of the picture: 4 bytes a pixel and mask."""
        full = np.empty((*self.low_res.shape[:2], *self.frame.size), np.float32)
        for index, rows, band in self._bands():
            full[index][rows] = band
        return full

    def masks(self) -> Bool[np.ndarray, "p c h w"]:
        """Compute the masks in the size of the picture, a band of rows at a time."""
        full = np.empty((*self.low_res.shape[:2], *self.frame.size), bool)
        for index, rows, band in self._bands():
            np.greater(band, 0.0, out=full[index][rows])
        return full

    def best(self) -> "Answer":
        """Keep the mask with the highest score of each prompt."""
        rows, best = np.arange(len(self.scores)), self.scores.argmax(axis=1)
        return Answer(
            low_res=self.low_res[rows, best][:, None],
            scores=self.scores[rows, best][:, None],
            frame=self.frame,
        )

    def pick(self, masks: slice | Sequence[int]) -> "Answer":
        """Keep some masks of every prompt."""
        return Answer(
            low_res=self.low_res[:, masks], scores=self.scores[:, masks], frame=self.frame
        )

    def _bands(self) -> Iterator[tuple[tuple[int, int], slice, Float32[np.ndarray, "rows w"]]]:
        """Yield where a mask lies among all, some rows of the picture, and its logits there."""
        height, width = self.frame.size
        down, across = self.frame.upsampling(self.low_res.shape[-2:])
        step = max(1, _BAND_VALUES // width)
        for prompt, place in np.ndindex(*self.scores.shape):
            wide = self.low_res[prompt, place] @ across.T
            for row in range(0, height, step):
                rows = slice(row, min(row + step, height))
                yield (prompt, place), rows, down[rows] @ wide
