"""The command line: `entry.py` parses and sets exit codes; every verb has its own file."""

import signal
import threading
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run `seggpt` with `argv` (without the program's name) and return the exit code.

    Without `argv` this is the program itself, which signals may end at any moment.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if argv is None and in_main_thread:  # Ctrl-C shall not show which import it interrupted
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from incontext.cli.entry import run_command  # after the line above

    return run_command(argv)
