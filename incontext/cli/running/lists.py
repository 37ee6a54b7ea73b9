"""Targets from lists: names on stdin (`-`) or in a file (`--files-from`)."""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from incontext.cli.outcome import UsageError
from seggpt.errors import one_line

_LONGEST_LIST = 1 << 30  # bytes; millions of names
_LONGEST_NAME = 4096  # bytes, of a path


class Target(NamedTuple):
    """What pictures are looked for by.

    Attributes:
        name: A file, a folder or, if it is of the command line, a pattern.
        place: Where a list names it; empty for the command line.
    """

    name: str
    place: str = ""


def read_targets(args: argparse.Namespace) -> list[Target]:
    """Return the targets of the command line with lists in the places where they are named.

    Raises:
        UsageError: There is no target, or a list cannot be read or is none.
    """
    targets: list[Target] = []
    if args.targets.count("-") + (args.files_from or []).count("-") > 1:
        raise UsageError("stdin can be read once; name - once")
    for name in args.targets:
        if name == "-":
            targets += _names_of_stdin(args)
        else:
            targets.append(Target(name))
    for path in args.files_from or ():
        targets += _names_of_stdin(args) if path == "-" else _names_of_file(path, args)
    return targets


def _names_of_stdin(args: argparse.Namespace) -> Iterator[Target]:
    if sys.stdin is None:
        raise UsageError("stdin is closed; there are no names to read")
    return _split(sys.stdin.buffer.read(_LONGEST_LIST + 1), "stdin", null=args.null)


def _names_of_file(path: str, args: argparse.Namespace) -> Iterator[Target]:
    try:
        if not Path(path).is_file() and not Path(path).is_fifo():
            why = "no such file" if not os.path.lexists(path) else "not a file"
            raise UsageError(f"--files-from {one_line(path)}: {why}; name a list of names")
        with open(path, "rb") as file:
            data = file.read(_LONGEST_LIST + 1)
    except OSError as error:
        raise UsageError(f"--files-from {one_line(path)}: {error.strerror}") from error
    return _split(data, one_line(path), null=args.null)


def _split(data: bytes, origin: str, *, null: bool) -> Iterator[Target]:
    """Yield the names of a list; empty ones are left out."""
    names = data.removeprefix(b"\xef\xbb\xbf").split(b"\0" if null else b"\n")
    if not null:
        names = [name.removesuffix(b"\r") for name in names]
    if len(data) > _LONGEST_LIST or any(
        len(name) > _LONGEST_NAME or b"\0" in name for name in names
    ):
        mend = (
            "are its names separated by line breaks? then leave -0 out"
            if null
            else "if NUL separates its names, add -0"
        )
        raise UsageError(f"{origin}: not a list of names; name a picture itself, and {mend}")
    if not any(names):
        raise UsageError(f"{origin}: no names in it; one a line is expected")
    kind = "name" if null else "line"
    for number, name in enumerate(names, 1):
        if name:
            yield Target(os.fsdecode(name), f"{origin}, {kind} {number}")
