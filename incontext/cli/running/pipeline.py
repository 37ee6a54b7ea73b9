"""One picture after the other: read ahead, computed, and written behind, each by its own thread."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from incontext.cli.outcome import Terminated
from incontext.cli.plan import Job
from seggpt.errors import InputError, PromptError, is_out_of_memory, one_line

AHEAD = 2  # pictures that wait between two threads

Item = TypeVar("Item")
Made = TypeVar("Made")


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


def out_of_memory(error: Exception, job: Job, picture: Any) -> Failure:
    """Return that a picture, which has a shape, took more memory than there is.

    Raises:
        Exception: this one, if it says anything else.
    """
    if not is_out_of_memory(error):
        raise error
    height, width = picture.shape[:2]
    mend = "shrink it, or choose another --device"
    return Failure(f"{one_line(job.source)}: out of memory for {width}x{height}; {mend}")


@dataclass(frozen=True)
class Model:
    """A loaded model at work. What is wrong with one picture is returned as a `Failure`.

    Attributes:
        fingerprint: What tells the model from others.
        load: Reads the picture of a job.
        compute: Yields the outcome of each picture, in order.
        save: Writes the files of an outcome, and returns what the log says beside them.
        finish: Writes what is of all pictures.
    """

    fingerprint: str
    load: Callable[[Job], Any]
    compute: Callable[[Iterator[tuple[Job, Any]]], Iterable[tuple[Job, Any]]]
    save: Callable[[Job, Any], "dict[str, Any] | Failure"]
    finish: Callable[[], None] = lambda: None


def carry_out(
    jobs: Iterable[Job], model: Model, *, stops: bool, is_asked: Callable[[], bool]
) -> Iterator[tuple[Job, dict[str, Any] | Failure]]:
    """Yield what becomes of each job, in order but for failures to read.

    Args:
        jobs: In order.
        model: Does the work.
        stops: Whether nothing may be done after the first failure.
        is_asked: Whether to begin no other picture.
    """
    failed: deque[tuple[Job, Failure]] = deque()

    def pictures() -> Iterator[tuple[Job, Any]]:
        for job, picture in in_thread(model.load, jobs):
            if is_asked():
                return
            if not isinstance(picture, Failure):
                yield job, picture
                continue
            failed.append((job, picture))
            if stops:
                return

    def save(computed: tuple[Job, Any]) -> dict[str, Any] | Failure:
        job, outcome = computed
        return outcome if isinstance(outcome, Failure) else model.save(job, outcome)

    behind = 0 if stops else AHEAD
    for (job, _), outcome in in_thread(save, model.compute(pictures()), ahead=behind):
        while failed:
            yield failed.popleft()
        yield job, outcome
    yield from failed


def in_thread(
    make: Callable[[Item], Made], items: Iterable[Item], *, ahead: int = AHEAD
) -> Iterator[tuple[Item, Made]]:
    """Yield each item with what a thread makes of it, in order, a few ahead of what is asked for.

    What `items` raises comes after all that was begun before it.
    """
    pool = ThreadPoolExecutor(1)
    waiting: deque[tuple[Item, Future[Made]]] = deque()
    trouble: BaseException | None = None
    try:
        try:
            for item in items:
                waiting.append((item, pool.submit(make, item)))
                if len(waiting) > ahead:
                    made = waiting[0][1].result()  # which a signal may cut short
                    yield waiting.popleft()[0], made
        except (Exception, KeyboardInterrupt, Terminated) as error:
            trouble = error
        while waiting:
            item, future = waiting.popleft()
            yield item, future.result()
        if trouble is not None:
            raise trouble
    finally:
        pool.shutdown(cancel_futures=True)
