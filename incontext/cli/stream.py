"""A stream of images through one model in bounded memory, with a failure for each bad one."""

import logging
from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain

import numpy as np

from incontext.cli.plan import Job
from incontext.cli.running.pipeline import Failure, out_of_memory
from incontext.result import Result
from seggpt.errors import InputError, is_out_of_memory

logger = logging.getLogger(__name__)

Picture = tuple[Job, np.ndarray]
Outcome = tuple[Job, Result | Failure]


class Stream:
    """Segments pictures in order and yields each one's result, or why it has none.

    Args:
        segment: `Segmenter.segment` with its context.
        segment_many: `Segmenter.segment_many` with its context.
        batch_size: How many pictures the model is given at a time; halved while memory is short.
    """

    def __init__(
        self,
        *,
        segment: Callable[[np.ndarray], Result],
        segment_many: Callable[..., Iterator[Result]],
        batch_size: int,
    ) -> None:
        self._segment = segment
        self._segment_many = segment_many
        self._batch_size = batch_size
        self._waiting: deque[Picture] = deque()  # given to the model

    def run(self, pictures: Iterator[Picture]) -> Iterator[Outcome]:
        """Yield one outcome for each picture, in order."""
        while True:
            try:
                images = self._images(pictures)
                for result in self._segment_many(images, batch_size=self._batch_size):
                    yield self._waiting.popleft()[0], result
                return
            except InputError:
                # One picture of a batch spoils it: take those that wait one by one, then go on.
                while self._waiting:
                    yield self._alone(*self._waiting.popleft())
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error) or not self._waiting:
                    raise
                if self._batch_size == 1:
                    job, picture = self._waiting.popleft()
                    yield job, out_of_memory(error, job, picture)
                else:
                    self._batch_size //= 2
                    logger.warning("out of memory; going on with --batch %d", self._batch_size)
                pictures = chain(tuple(self._waiting), pictures)
                self._waiting.clear()

    def _images(self, pictures: Iterator[Picture]) -> Iterator[np.ndarray]:
        for job, picture in pictures:
            self._waiting.append((job, picture))
            yield picture

    def _alone(self, job: Job, picture: np.ndarray) -> Outcome:
        try:
            return job, self._segment(picture)
        except InputError as error:
            return job, Failure.of(job, error)
        except (MemoryError, RuntimeError) as error:
            return job, out_of_memory(error, job, picture)
