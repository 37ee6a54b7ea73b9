"""Follow marked things through the frames of a video."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from typing import Unpack, cast

import numpy as np

from incontext.examples.context import Context, Example, read_examples
from incontext.examples.encoded import Source, load_source
from incontext.examples.segmenter import ExampleSegmenter
from incontext.files.images import PictureOptions
from incontext.files.masks import MaskSource
from incontext.result import Result
from incontext.video.followers import Labels, Seen, make_follower
from seggpt.errors import PromptError

MEMORY = 4  # past frames that are examples for the next one
QUEUE = 8  # and with the published SegGPT, as its paper found best


class Tracker:
    """Follows the things of a context through one video, a frame at a time; for one thread."""

    def __init__(
        self,
        segmenter: ExampleSegmenter,
        context: Context | Sequence[Example],
        *,
        memory: int = MEMORY,
        threshold: float | None = None,
    ) -> None:
        """Get ready for the first frame.

        Raises:
            PromptError: if the context is another model's, or an argument makes no sense.
            InputError: if an example cannot be used.
        """
        if not isinstance(memory, int) or not 0 <= memory <= 64:
            raise PromptError(f"memory {memory!r} is not a number of frames in 0..64")
        if not isinstance(context, Context):
            context = segmenter.context(context)
        own = segmenter.threshold_for(context)
        self.threshold = own if threshold is None else threshold
        self.context, self.memory = context, memory
        self._follower = make_follower(segmenter.engine, context, memory=memory)

    def find(self, frame: Seen) -> Result:
        """Segment the next frame, and remember it."""
        return self._result(frame, self._follower.find(frame))

    def mark(self, example: Example, *, is_known: bool = False) -> Result:
        """Take a frame with its mask as an example from here on; its result is the mask.

        One that `is_known` is among the context's examples.

        Raises:
            InputError: if the mask cannot be used.
            PromptError: if it has labels that the context has not.
        """
        [loaded], _, _ = read_examples([example], like=self.context)
        if not is_known:
            self._follower.keep(loaded.image, loaded.labels)
        planes = [loaded.labels == label for label in (0, *self.context.labels)]
        return self._result(loaded.image, np.stack(planes).astype(np.float32))

    def recall(self, frame: Seen, labels: Labels) -> None:
        """Take a frame with what was found in it in an earlier run for one of the last ones."""
        self._follower.recall(frame, labels)

    def _result(self, frame: Seen, probabilities: np.ndarray) -> Result:
        picture = load_source(frame)
        return Result(
            probabilities_lowres=probabilities,
            labels=self.context.labels,
            size=picture.shape[:2],
            image=picture,
            names=self.context.names,
            threshold=self.threshold,
        )


class TrackOptions(PictureOptions, total=False):
    """How a video is followed.

    Attributes:
        marks: Masks of frames by their number, from 0: they correct what follows.
        memory: How many past frames are examples for the next one.
        threshold: As for `Segmenter.segment_many`.
    """

    marks: Mapping[int, MaskSource]
    memory: int
    threshold: float | None


def track(
    segmenter: ExampleSegmenter,
    frames: Iterable[Source],
    context: Context | Sequence[Example],
    **options: Unpack[TrackOptions],
) -> Iterator[Result]:
    """Segment the frames of a video in their order; see `incontext.Segmenter.track`."""
    marks = dict(options.pop("marks", {}))
    memory, threshold = options.pop("memory", MEMORY), options.pop("threshold", None)
    tracker = Tracker(segmenter, context, memory=memory, threshold=threshold)
    number = -1
    for number, frame in enumerate(frames):
        picture = load_source(frame, **cast(PictureOptions, options))
        mask = marks.pop(number, None)
        result = tracker.find(picture) if mask is None else tracker.mark(Example(picture, mask))
        source = str(frame) if isinstance(frame, str | PathLike) else None
        yield replace(result, source=source)
    if marks:
        raise PromptError(f"marks: no frame {min(marks)}; the video has {number + 1}, from 0")
