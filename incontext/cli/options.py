"""What the verbs' parsers share: types of argument values, and options."""

import argparse
from typing import TypeAlias

# argparse exports no name for what `add_subparsers` returns.
Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def positive(text: str) -> int:
    """Parse a whole number above zero; 5M and 2k are understood."""
    factor = {"k": 1_000, "M": 1_000_000, "G": 1_000_000_000}.get(text[-1:], 1)
    try:
        value = int(text.rstrip("kMG") if factor > 1 else text) * factor
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return value


def unit_interval(text: str) -> float:
    """Parse a number in 0..1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:  # also refuses NaN
        raise argparse.ArgumentTypeError(f"{text!r} is not a number in 0..1")
    return value


def add_picture_options(parser: argparse.ArgumentParser, *, formats: str) -> None:
    """Add what verbs over pictures share: targets, output, model."""
    parser.add_argument("targets", nargs="+", metavar="IMAGE", help="file, folder or 'pattern*'")
    group = parser.add_argument_group("output")
    group.add_argument("-o", "--output", required=True, metavar="DIR", help="folder for results")
    group.add_argument("--format", action="append", metavar="LIST", help=formats)
    there = group.add_mutually_exclusive_group()
    there.add_argument("--overwrite", action="store_true", help="replace files that exist")
    there.add_argument("--skip-existing", action="store_true", help="go on where a run stopped")
    group.add_argument("--dry-run", action="store_true", help="say what would be written")
    group.add_argument("--json", action="store_true", help="one JSON event a line on stdout")
    group = parser.add_argument_group("model and inputs")
    group.add_argument("--model", metavar="FILE", help="weights with heads for prompts (SAM)")
    group.add_argument("--device", metavar="NAME", help="cpu, gpu, tpu, gpu:1 (default: the best)")
    group.add_argument("--max-pixels", type=positive, metavar="N", help="refuse larger pictures")
    group.add_argument("--no-recursive", action="store_true", help="stay out of sub-folders")
    group.add_argument(
        "--on-error",
        choices=("skip", "stop"),
        default="skip",
        help="after a bad input go on (default), or stop",
    )
