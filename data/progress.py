"""How far long work is, on stderr."""

import sys
import time
from collections.abc import Callable


def make_progress(total: int, *, label: str) -> Callable[[], None]:
    """Return what to call when one of `total` is done; now and then it says so on stderr."""
    is_terminal = sys.stderr.isatty()
    start = said = time.monotonic()
    done = 0

    def advance() -> None:
        nonlocal said, done
        done += 1
        now = time.monotonic()
        if now - said > (2 if is_terminal else 20) and done < total:
            said, left = now, (now - start) / done * (total - done)
            line = f"{label} {done}/{total}, {left / 60:.1f} minutes left"
            print(line, end="\r" if is_terminal else "\n", file=sys.stderr, flush=True)

    return advance
