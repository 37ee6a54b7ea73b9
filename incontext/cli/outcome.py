"""How a command ends: the exit codes, and the exceptions that stand for them."""

from enum import IntEnum

from seggpt.errors import PromptError, SegGPTError


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
