"""Work on one picture: what is wrong with it is its own failure, and does not stop the others."""

import argparse
import errno
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from incontext.cli.inputs import picture_options
from incontext.cli.plan import Job
from incontext.cli.running.pipeline import Failure, out_of_memory
from incontext.files.images import load_image
from seggpt.errors import InputError, PromptError, one_line

# After one of these no later picture can be written either.
_DISK_TROUBLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}


def one_by_one(
    do: Callable[[Any], Any],
) -> Callable[[Iterator[tuple[Job, Any]]], Iterator[tuple[Job, Any]]]:
    """Return what does one picture after the other, as `Model.compute`.

    What is wrong with a picture, or with a prompt about it, does not stop the others.
    """

    def attempt(job: Job, picture: Any) -> Any:
        try:
            return do(picture)
        except InputError as error:
            return failure_of(job, error)
        except PromptError as error:
            return Failure.of(job, error)
        except (MemoryError, RuntimeError) as error:
            return out_of_memory(error, job, picture)

    return lambda pictures: ((job, attempt(job, picture)) for job, picture in pictures)


def load_job(args: argparse.Namespace, job: Job) -> np.ndarray | Failure:
    """Read the picture of a job, or say why it cannot be read."""
    try:
        return load_image(job.source, **picture_options(args))
    except InputError as error:
        return Failure(str(error))


def saved(save: Callable[[Job, Any], dict[str, Any]]) -> Callable[[Job, Any], Any]:
    """Return `Model.save`, which returns a failure where `save` raises one."""

    def attempt(job: Job, outcome: Any) -> dict[str, Any] | Failure:
        try:
            return save(job, outcome)
        except InputError as error:
            return failure_of(job, error)
        except MemoryError:
            return Failure(f"{one_line(job.source)}: out of memory for its files; shrink it")

    return attempt


def failure_of(job: Job, error: InputError) -> Failure:
    """Return why one picture has no files.

    Raises:
        InputError: this one, if no later picture could be written either.
    """
    cause = error.__cause__
    if isinstance(cause, OSError) and cause.errno in _DISK_TROUBLE:
        raise error
    return Failure.of(job, error)
