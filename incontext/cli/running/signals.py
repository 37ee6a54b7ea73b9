"""SIGINT and SIGTERM: honoured whenever they come, and between pictures once there are some."""

import contextlib
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
_AGAIN = 0.02  # seconds until a signal that was swallowed comes again


class Signals:
    """The handler of both signals: raises, or waits for the picture in hand.

    Attributes:
        asked: The signal that came; 0 if none did.
    """

    def __init__(self) -> None:
        self.asked = 0
        self._say: Callable[[str], None] | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal; the second one always raises."""
        first, self.asked = not self.asked, number
        if not first or self._say is None:
            raise _RAISED[number]
        with contextlib.suppress(RuntimeError):  # it came in the middle of another message
            self._say("stopping after the picture in hand; a second signal stops at once")

    def raise_asked(self) -> None:
        """Raise what a signal stands for, if one came."""
        if self.asked:
            raise _RAISED[self.asked]

    def wait(self, say: Callable[[str], None] | None) -> None:
        """Let the first signal from now on be told and noted alone; with None let it raise."""
        self._say = say


def current_signals() -> Signals:
    """Return the handler that is installed, or one that no signal reaches."""
    handler = signal.getsignal(signal.SIGTERM)
    return handler if isinstance(handler, Signals) else Signals()


@contextlib.contextmanager
def signals_raise() -> Iterator[None]:
    """Let SIGTERM unwind the stack as Ctrl-C does, so that files and logs are closed.

    An exception that came where Python lets none through, such as the callback that jax has in the
    garbage collector, is lost: the signal is sent again until it comes elsewhere.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = Signals()
    hook = sys.unraisablehook

    def send_again(unraisable: "sys.UnraisableHookArgs") -> None:
        for number, kind in _RAISED.items():
            if issubclass(unraisable.exc_type, kind):
                threading.Timer(_AGAIN, _send, [number]).start()
                return
        hook(unraisable)

    before = {number: signal.signal(number, signals) for number in _RAISED}
    sys.unraisablehook = send_again
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def _send(number: int) -> None:
    """Send a signal to the main thread, which may sleep."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:  # Windows
        signal.raise_signal(number)
