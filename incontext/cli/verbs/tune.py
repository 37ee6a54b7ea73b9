"""`seggpt tune`: the arguments of the verb. The work is in `work/tune.py`."""

import argparse
import os
from pathlib import Path
from typing import get_args

from incontext.cli.console import Console
from incontext.cli.options import (
    Subparsers,
    add_annotations,
    add_mask_options,
    add_model,
    add_names,
    add_reading,
    positive,
    require_examples,
)
from incontext.cli.outcome import Exit, UsageError
from incontext.options import Learn, SegType, Start

SUFFIX = ".safetensors"
EPILOG = """\
examples:
  seggpt tune photos/ masks/ -o leaf.safetensors
  seggpt tune photos/ masks/ -o leaf.safetensors --report leaf.html --names names.json
  seggpt tune --examples annotations/instances.json -o leaf.safetensors
  seggpt segment new/ --prompt leaf.safetensors -o out/

A mask has its picture's name (leaf.jpg with leaf.png or leaf_mask.png; docs/formats.md has all
ways). Instead of the two folders, or beside them, --examples takes annotation files. The model does
not change: what is learned is a small head that corrects what it finds, or, for a SegGPT, what it
is shown.
Pictures are left out in turn, or some are held out, to score it: where plain examples score higher
on those, they are saved instead, and the last line says so. Ctrl-C keeps the best so far; --resume
goes on, unless it is a head.
"""


def add_parser(verbs: Subparsers) -> argparse.ArgumentParser:
    """Add the verb and return its parser."""
    parser = verbs.add_parser(
        "tune",
        help="learn a prompt from labelled pictures; the model stays as it is",
        description="Learn a prompt from labelled pictures. Save it, or these if they do better.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "images", nargs="?", metavar="IMAGES_DIR", help="folder, file or 'pattern*'"
    )
    parser.add_argument(
        "masks", nargs="?", metavar="MASKS_DIR", help="folder of masks of the same names"
    )
    _add_output(parser)
    _add_task(parser)
    _add_learning(parser)
    return parser


def run(args: argparse.Namespace, console: Console) -> Exit:
    """Carry out the verb."""
    check_arguments(args)
    # numpy and Pillow, and later jax: a mistake in the arguments must not wait for them.
    from incontext.cli.work.tune import tune_all

    return tune_all(args, console)


def check_arguments(args: argparse.Namespace) -> None:
    """Check what needs no picture.

    Raises:
        UsageError: An argument makes no sense, or a file is in the way.
    """
    out = Path(args.output)
    if out.suffix != SUFFIX:
        raise UsageError(f"{out}: the output's name must end in {SUFFIX}")
    for path in filter(None, (out, args.report and Path(args.report))):
        if path.exists() and not args.overwrite:
            raise UsageError(f"{path} exists; add --overwrite or choose another name")
        if not path.parent.is_dir():
            raise UsageError(f"{path}: no such folder: {path.parent}")
    if args.masks is None and (args.images or not args.examples):
        raise UsageError("give IMAGES_DIR and MASKS_DIR, --examples PATH, or both")
    if args.masks is not None and not os.path.isdir(args.masks):
        raise UsageError(f"{args.masks}: not a folder of masks")
    require_examples(args)
    if args.config and not os.path.isfile(args.config):
        raise UsageError(f"--config {args.config}: no such recipe")


def _add_output(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("output")
    group.add_argument("-o", "--output", required=True, metavar=f"FILE{SUFFIX}")
    group.add_argument(
        "--report", metavar="FILE.html", help="print all scores as a table and write a page"
    )
    group.add_argument("--overwrite", action="store_true", help="replace files that exist")
    group.add_argument("--resume", action="store_true", help="go on with a run that was stopped")
    group.add_argument("--json", action="store_true", help="one JSON event a line on stdout")


def _add_task(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what to find")
    add_annotations(group, limit="take the first N pictures of --examples (default: all)")
    group.add_argument(
        "--labels", type=_labels, metavar="1,2,..", help="keep these labels of the masks (all)"
    )
    add_names(group)
    add_mask_options(group, kind="how to read masks (default: by their pixels)")
    group.add_argument("--seg-type", choices=get_args(SegType), default="semantic")
    add_reading(group)


def _add_learning(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("learning (the defaults are made to be left alone)")
    group.add_argument("--config", metavar="FILE.py", help="a recipe, such as those in configs/")
    group.add_argument("--learn", choices=get_args(Learn), help="what is learned (default: auto)")
    group.add_argument(
        "--start", choices=get_args(Start), help="from all examples, the best, or noise"
    )
    group.add_argument(
        "--prompts",
        type=positive,
        metavar="N",
        help="pairs in the prompt, or as many tokens as so many have",
    )
    group.add_argument("--steps", type=positive, metavar="N", help="updates")
    group.add_argument("--minutes", type=_minutes, metavar="M", help="the most (default: 3, or 10)")
    group.add_argument("--hold-out", type=positive, metavar="N", help="pictures to judge by")
    group.add_argument("--batch", type=positive, metavar="N", help="views a step")
    group.add_argument("--micro-batch", type=positive, metavar="N", help="views at a time")
    group.add_argument("--lr", type=_rate, metavar="R", help="Adam's learning rate")
    group.add_argument(
        "--turns",
        action="store_true",
        default=None,
        help="learn from turned views too: for what has no top, such as tissue, walls and fields",
    )
    group.add_argument("--remat", action="store_true", default=None, help="trade time for memory")
    group.add_argument("--seed", type=int, metavar="N")
    add_model(group)


def _labels(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of labels like 1,2") from None


def _minutes(text: str) -> float:
    return _above_zero(text, "minutes")


def _rate(text: str) -> float:
    return _above_zero(text, "learning rate")


def _above_zero(text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no {what} above 0")
    return value
