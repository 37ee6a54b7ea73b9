"""SIGINT and SIGTERM: honoured whenever they come, and between pictures once there are some."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from incontext.cli.outcome import Terminated

_RAISED: dict[int, type[BaseException]] = {
    signal.SIGINT: KeyboardInterrupt,
    signal.SIGTERM: Terminated,
}
WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
_AGAIN = 0.02  # seconds until a signal that was swallowed comes again


class Signals:
    """The handler of both signals. It raises, unless it was told to leave or to wait.

    Args:
        is_program: Whether it may end the process.

    Attributes:
        asked: The signal that came; 0 if none did.
    """

    def __init__(self, *, is_program: bool = False) -> None:
        self.asked = 0
        self._is_program = is_program
        self._undo: Callable[[], None] | None = None
        self._say: Callable[[str], None] | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        first, self.asked = not self.asked, number
        if first and self._say is not None:
            with contextlib.suppress(RuntimeError):  # it came in the middle of another message
                self._say("stopping after the picture in hand; a second signal stops at once")
            return
        if self._is_program and (self._undo is not None or _is_importing(frame)):
            self._leave(number)
        raise _RAISED[number]

    def raise_asked(self) -> None:
        """Raise what a signal stands for, if one came."""
        if self.asked:
            raise _RAISED[self.asked]

    def leave(self, undo: Callable[[], None]) -> None:
        """From now on end the process at once; `undo` lets go of what it holds."""
        self._undo, self._say = undo, None

    def wait(self, say: Callable[[str], None]) -> None:
        """From now on note the first signal, and tell that it was."""
        self._undo, self._say = None, say

    def unwind(self) -> None:
        """From now on raise."""
        self._undo = self._say = None

    def _leave(self, number: int) -> None:
        with contextlib.suppress(Exception):
            if self._undo is not None:
                self._undo()
            sys.stdout.flush()
        line = f"seggpt: error: {WORDS[signal.Signals(number)]}\n"
        os.write(2, line.encode())
        os._exit(128 + number)


def current_signals() -> Signals:
    """Return the handler that is installed, or one that no signal reaches."""
    handler = signal.getsignal(signal.SIGTERM)
    return handler if isinstance(handler, Signals) else Signals()


@contextlib.contextmanager
def handled_signals(*, is_program: bool) -> Iterator[None]:
    """Let SIGTERM unwind the stack as Ctrl-C does, so that files and logs are closed.

    An exception in the middle of an import leaves jax half there, and may crash it: a program ends
    at once. One that came where Python lets none through, such as the callback that jax has in the
    garbage collector, is lost: the signal is sent again until it comes elsewhere.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = Signals(is_program=is_program)
    hook, timers = sys.unraisablehook, list[threading.Timer]()

    def send_again(unraisable: "sys.UnraisableHookArgs") -> None:
        for number, kind in _RAISED.items():
            if issubclass(unraisable.exc_type, kind):
                timers.append(threading.Timer(_AGAIN, _send, [number]))
                timers[-1].start()
                return
        hook(unraisable)

    before = {number: signal.signal(number, signals) for number in _RAISED}
    sys.unraisablehook = send_again
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for timer in timers:
            timer.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def _send(number: int) -> None:
    """Send a signal to the main thread, which may sleep."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:  # Windows
        signal.raise_signal(number)
