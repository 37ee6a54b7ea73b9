"""How a command ends: the exit codes, and the exceptions that stand for them."""

import os
from enum import IntEnum

from seggpt.errors import DeviceError, InputError, PromptError, SegGPTError, is_out_of_memory


class Exit(IntEnum):
    """The exit codes of every verb."""

    DONE = 0
    NOTHING = 1  # nothing usable: no input, bad weights, no such device
    USAGE = 2  # the command line, or a prompt, makes no sense
    PARTIAL = 3  # some inputs failed; the rest is written
    BUG = 70  # EX_SOFTWARE of sysexits.h
    INTERRUPTED = 130  # 128 + SIGINT
    TERMINATED = 143  # 128 + SIGTERM


class UsageError(SegGPTError):
    """The command as given cannot be carried out; nothing was computed or written."""


class Terminated(BaseException):
    """SIGTERM arrived. Like `KeyboardInterrupt`, no `except Exception` stops it."""


def exit_of(error: SegGPTError) -> Exit:
    """Return the exit code of a foreseen failure that ended the whole command."""
    return Exit.USAGE if isinstance(error, UsageError | PromptError) else Exit.NOTHING


def foresee(error: Exception) -> SegGPTError | None:
    """Return what to tell of an error that is no bug: one of ours, the system's, or no memory."""
    if isinstance(error, SegGPTError):
        return error
    if is_out_of_memory(error):
        return DeviceError("out of memory; try --batch 1, smaller pictures, or --device cpu")
    if isinstance(error, OSError) and error.errno is not None:  # else it is some library's
        return InputError(f"{error.filename or _place()}: {error.strerror}")
    return None


def _place() -> str:
    try:
        return os.getcwd()
    except OSError:
        return "the working directory is gone"
