"""A stream of images through one model in bounded memory, with a failure for each bad one."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from incontext.cli.plan import Job
from incontext.result import Result
from seggpt.errors import InputError, PromptError, one_line


@dataclass(frozen=True)
class Failure:
    """Why a picture has no result; an exception would keep its pixels alive.

    Attributes:
        reason: In one line, with the name of a file.
        is_usage: Whether the command line, and not the picture, is at fault.
    """

    reason: str
    is_usage: bool = False

    @classmethod
    def of(cls, job: Job, error: InputError | PromptError) -> "Failure":
        """Return an error as the failure of a job, with the picture's name if it names no file."""
        reason = str(error)
        named = any(one_line(path) in reason for path in (job.source, *job.outputs))
        return cls(reason if named else f"{job.source}: {reason}", isinstance(error, PromptError))


Outcome = tuple[Job, Result | Failure]


class Stream:
    """Segments jobs in order and yields each one's result, or why it has none.

    Args:
        load: Reads the picture of a job; its `InputError` becomes the job's outcome.
        segment: `Segmenter.segment` with its context.
        segment_many: `Segmenter.segment_many` with its context.
    """

    def __init__(
        self,
        *,
        load: Callable[[Job], np.ndarray],
        segment: Callable[[np.ndarray], Result],
        segment_many: Callable[[Iterable[np.ndarray]], Iterator[Result]],
    ) -> None:
        self._load = load
        self._segment = segment
        self._segment_many = segment_many
        self._waiting: deque[Job] = deque()  # read, and given to the model
        self._failed: deque[Outcome] = deque()

    def run(self, jobs: Iterator[Job]) -> Iterator[Outcome]:
        """Yield one outcome for each job, successes in order and failures when they are met."""
        while True:
            try:
                for result in self._segment_many(self._pictures(jobs)):
                    yield from self._drain()
                    yield self._waiting.popleft(), result
                yield from self._drain()
                return
            except InputError:
                # One picture of a batch spoils it: take those that wait one by one, then go on.
                yield from self._drain()
                while self._waiting:
                    yield self._alone(self._waiting.popleft())

    def _pictures(self, jobs: Iterator[Job]) -> Iterator[np.ndarray]:
        for job in jobs:
            try:
                picture = self._load(job)
            except InputError as error:
                self._failed.append((job, Failure.of(job, error)))
            else:
                self._waiting.append(job)
                yield picture

    def _drain(self) -> Iterator[Outcome]:
        while self._failed:
            yield self._failed.popleft()

    def _alone(self, job: Job) -> Outcome:
        try:
            return job, self._segment(self._load(job))
        except InputError as error:
            return job, Failure.of(job, error)
