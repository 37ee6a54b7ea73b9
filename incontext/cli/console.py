"""What a command says: data and JSON events on stdout, everything for people on stderr."""

import io
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Literal

from seggpt.errors import InputError, one_line

PREFIX = "seggpt: "
_EVERY = 300  # seconds between two lines of a run that no terminal shows


def describe_rate(per_second: float) -> str:
    """Say how fast pictures are done; nothing before the first one."""
    if per_second <= 0:
        return ""
    return f"{per_second:.1f}/s" if per_second >= 1 else f"{1 / per_second:.1f} s each"


def open_streams() -> None:
    """Make stdin, stdout and stderr usable whatever they are.

    Closed ones lead nowhere. Otherwise the next file that is opened takes their number, and what
    native code says on stderr is written into it. Characters that an encoding lacks are escaped.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            _discard(number)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def flush_stdout(code: int) -> int:
    """Write what waits for stdout; return the exit code, or 1 where that cannot be written."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # its reader has seen enough, as `| head`
        _give_up("stdout")
    except OSError as error:
        _give_up("stdout")
        _tell(f"error: cannot write to stdout: {error.strerror}")
        return 1
    return code


def _tell(text: str) -> None:
    try:
        print(PREFIX + one_line(text), file=sys.stderr, flush=True)
    except OSError:  # then there is nobody to tell
        _give_up("stderr")


def _give_up(name: Literal["stdout", "stderr"]) -> None:
    """Let a stream lead nowhere from now on, as Python would fail once more on its way out."""
    with suppress(OSError):  # a stream without a descriptor, such as a test's
        _discard(getattr(sys, name).fileno())


def _discard(number: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    if null != number:
        os.dup2(null, number)
        os.close(null)


class Console:
    """Writes a command's messages, events and progress.

    Args:
        quiet: Say only errors.
        verbose: 1 also says how inputs were read, 2 adds debugging.
        events: Write one JSON object a line to stdout.
    """

    def __init__(self, *, quiet: bool = False, verbose: int = 0, events: bool = False) -> None:
        self.quiet = quiet
        self.verbose = verbose
        self.events = events

    def say(self, text: str) -> None:
        """Write a message for people, unless quiet."""
        if not self.quiet:
            _tell(text)

    def error(self, text: str) -> None:
        """Tell people what went wrong, in one line."""
        _tell(f"error: {text}")

    def data(self, line: str) -> None:
        """Write one line of what was asked for to stdout, for as long as it has a reader.

        Raises:
            InputError: It cannot be written.
        """
        with suppress(BrokenPipeError):
            self._write(one_line(line))

    def event(self, kind: str, **fields: object) -> None:
        """Tell programs what happened, if they asked.

        Raises:
            InputError: It cannot be written, or the program that asked has gone.
        """
        if not self.events:
            return
        try:
            self._write(json.dumps({"event": kind, **fields}))
        except BrokenPipeError as error:
            raise InputError("stdout: the program that read the events has gone") from error

    def _write(self, line: str) -> None:
        try:
            print(line, flush=True)
        except OSError as error:
            self.events = False
            _give_up("stdout")
            if isinstance(error, BrokenPipeError):
                raise
            raise InputError(f"cannot write to stdout: {error.strerror}") from error

    @contextmanager
    def progress(self, total: int, *, label: str) -> Iterator[Callable[[], None]]:
        """Tell how far a run is while in the context; the value advances it by one.

        A terminal has a bar, and a file a line from time to time.
        """
        if self.quiet:
            yield lambda: None
            return
        if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
            yield self.tell_now_and_then(total, label)
            return
        # 0.1 s that `--help` must not pay.
        from rich.console import Console as Terminal
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            ProgressColumn,
            Task,
            TextColumn,
            TimeRemainingColumn,
        )
        from rich.text import Text

        class Rate(ProgressColumn):
            def render(self, task: Task) -> Text:
                return Text(describe_rate(task.finished_speed or task.speed or 0.0))

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            Rate(),
            TimeRemainingColumn(),
        )
        # Only stderr is taken over while the bar stands: stdout belongs to the data.
        with Progress(*columns, console=Terminal(stderr=True), redirect_stdout=False) as bar:
            task = bar.add_task(label, total=total)
            yield lambda: bar.advance(task)

    def tell_now_and_then(self, total: int, label: str) -> Callable[[], None]:
        """Return what to call after each of `total` steps, for a line from time to time."""
        done, told_done, told = 0, 0, time.monotonic()

        def advance() -> None:
            nonlocal done, told_done, told
            done += 1
            seconds = time.monotonic() - told
            if seconds < _EVERY or done == total:
                return
            rate = (done - told_done) / seconds
            left = timedelta(seconds=round((total - done) / rate))
            self.say(f"{label}: {done} of {total}, {describe_rate(rate)}, {left} left")
            told_done, told = done, time.monotonic()

        return advance

    @contextmanager
    def status(self) -> Iterator[Callable[[str], None]]:
        """Keep one line up to date while in the context, on a terminal only."""
        if self.quiet or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
            yield lambda text: None
            return
        # 0.1 s that `--help` must not pay.
        from rich.console import Console as Terminal
        from rich.status import Status

        with Status("reading", console=Terminal(stderr=True)) as line:
            yield lambda text: line.update(one_line(text))

    @contextmanager
    def logging(self) -> Iterator[None]:
        """Show the library's log records, and those of others with `verbose`, a line each."""
        own = {0: logging.WARNING, 1: logging.INFO}.get(self.verbose, logging.DEBUG)
        own = logging.ERROR if self.quiet else own
        others = logging.WARNING if self.verbose and not self.quiet else logging.CRITICAL
        levels = dict.fromkeys(("seggpt", "incontext"), own)
        levels |= dict.fromkeys(("py.warnings", "PIL", "tifffile"), others)
        loggers = [logging.getLogger(name) for name in levels]
        before = [(logger.level, logger.propagate) for logger in loggers]
        handler = _OneLine()
        for logger, level in zip(loggers, levels.values(), strict=True):
            logger.addHandler(handler)
            logger.setLevel(level)
            logger.propagate = False
        logging.captureWarnings(True)  # Python's own way takes several lines
        try:
            yield
        finally:
            logging.captureWarnings(False)
            for logger, (old_level, propagate) in zip(loggers, before, strict=True):
                logger.removeHandler(handler)
                logger.setLevel(old_level)
                logger.propagate = propagate


class _OneLine(logging.Handler):
    """Writes to the `sys.stderr` of the moment, which a progress bar may have taken over."""

    def emit(self, record: logging.LogRecord) -> None:
        _tell(f"{record.levelname.lower()}: {record.getMessage()}")
