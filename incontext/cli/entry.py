"""Parse the command line, run one verb, and turn whatever it raises into one line and an exit code.

Nothing here or at the top of a verb's file may import jax, numpy or Pillow: help and usage errors
must come at once. Verbs reach the library through the lazy names of `incontext`.
"""

import argparse
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from incontext.cli.console import Console, flush_stdout, open_streams
from incontext.cli.outcome import Exit, Terminated, exit_of, foresee
from incontext.cli.running.signals import handled_signals
from incontext.cli.verbs import (
    bench,
    convert,
    demo,
    doctor,
    everything,
    export,
    models,
    prompt,
    segment,
    tune,
    video,
)
from incontext.wording import speak_as_command
from seggpt import __version__
from seggpt.errors import one_line

# Each has `add_parser`, which sets the default `run`.
VERBS = (segment, prompt, everything, video, tune, export, convert, models, doctor, bench, demo)

Run = Callable[[argparse.Namespace, Console], Exit]


def run_command(argv: Sequence[str] | None) -> int:
    """Run `seggpt` with `argv`, or as the program with its own, and return the exit code."""
    open_streams()
    try:
        args = build_parser().parse_args(argv)
    except SystemExit as stop:  # argparse has said what there was to say
        return flush_stdout(int(stop.code or 0))
    console = Console(quiet=args.quiet, verbose=args.verbose, events=getattr(args, "json", False))
    with console.logging(), speak_as_command(), handled_signals(is_program=argv is None):
        return flush_stdout(_run(args.run, args, console))


def _run(run: Run, args: argparse.Namespace, console: Console) -> Exit:
    try:
        return run(args, console)
    except KeyboardInterrupt as stop:
        console.error("; ".join(["interrupted", *getattr(stop, "__notes__", ())]))
        return Exit.INTERRUPTED
    except Terminated as stop:
        console.error("; ".join(["terminated", *getattr(stop, "__notes__", ())]))
        return Exit.TERMINATED
    except Exception as error:
        told = foresee(error)
        if told is None:
            words = traceback.format_exception_only(error)[-1].strip().splitlines()[0]
            console.error(f"internal error: {words}; please report it with {_save_traceback()}")
        else:
            console.error(str(told))
        if console.verbose > 1:
            traceback.print_exc()
        return Exit.BUG if told is None else exit_of(told)


class Parser(argparse.ArgumentParser):
    """An argument parser that says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Say `message` and leave with the code of a usage error."""
        line = f"seggpt: error: {one_line(message)} (see {self.prog} --help)\n"
        self.exit(Exit.USAGE, line)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all verbs."""
    parser = Parser(
        prog="seggpt",
        description="Masks for your pictures from a few examples, points or boxes.",
        epilog="Exit codes: 0 all done, 1 nothing usable, 2 usage, 3 some inputs failed.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"seggpt {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", required=True, parser_class=Parser)
    for verb in VERBS:
        added = verb.add_parser(verbs)
        added.allow_abbrev = False
        added.add_argument("-q", "--quiet", action="store_true", help="say only errors")
        added.add_argument(
            "-v", "--verbose", action="count", default=0, help="say more; -vv shows tracebacks"
        )
    return parser


def _save_traceback() -> str:
    import tempfile  # 30 ms that nobody should pay who meets no bug

    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="seggpt-", suffix=".txt", delete=False, encoding="utf-8", errors="replace"
        ) as file:
            traceback.print_exc(file=file)
    except OSError:
        return "what -vv says"
    return file.name
