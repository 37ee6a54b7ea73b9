"""`seggpt segment`: the arguments of the verb. The work is in `bulk.py`."""

import argparse
import os

from incontext.cli.console import Console
from incontext.cli.options import Subparsers, positive, unit_interval
from incontext.cli.outcome import Exit, UsageError

FORMATS_HELP = "mask (default), overlay, cutout, ...; several with commas or repeated"
MASK_KINDS = ("auto", "binary", "labels", "rgb")
ENSEMBLES = ("auto", "feature", "spatial")
DETAILS = ("plain", "large", "tiles", "refine")
SEG_TYPES = ("semantic", "instance")
EPILOG = """\
examples:
  seggpt segment photos/ -e leaf.jpg leaf_mask.png -o masks/
  seggpt segment 'shots/**/*.png' -e a.png a_mask.png -e b.png b_mask.png -o out
  seggpt segment photos/ --prompt tuned.safetensors -o masks/ --skip-existing
"""


def add_parser(verbs: Subparsers) -> argparse.ArgumentParser:
    """Add the verb and return its parser."""
    parser = verbs.add_parser(
        "segment",
        help="masks for files and folders, from example pictures and their masks",
        description="Write a mask for each picture, as the examples show.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("targets", nargs="+", metavar="TARGET", help="file, folder or 'pattern*'")
    _add_prompt(parser)
    _add_output(parser)
    _add_model(parser)
    return parser


def run(args: argparse.Namespace, console: Console) -> Exit:
    """Carry out the verb."""
    require_prompt(args)
    # numpy and Pillow, and later jax: a mistake in the arguments must not wait for them.
    from incontext.cli.work.segment import segment_all

    return segment_all(args, console)


def require_prompt(args: argparse.Namespace) -> None:
    """Make sure that there are examples, a prompt or both, and that their files are there.

    Raises:
        UsageError: There is neither, or a file is missing.
    """
    if not args.example and not args.prompt:
        raise UsageError("give examples (-e IMAGE MASK), a saved prompt (--prompt), or both")
    for path in prompt_files(args):
        if os.path.isdir(path):
            raise UsageError(f"{path}: a folder; name a file")
        if not os.path.exists(path):
            raise UsageError(f"no such file: {path}")


def prompt_files(args: argparse.Namespace) -> list[str]:
    """Return the files that the prompt is read from."""
    pairs = [path for pair in args.example or () for path in pair]
    return [args.prompt, *pairs] if args.prompt else pairs


def _add_prompt(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what to find (-e, --prompt or both)")
    group.add_argument(
        "-e",
        "--example",
        nargs=2,
        action="append",
        metavar=("IMAGE", "MASK"),
        help="an example picture and its mask; repeat for more",
    )
    group.add_argument(
        "--prompt", metavar="FILE", help="a saved context or a tuned prompt; -e adds to it"
    )
    group.add_argument(
        "--mask-kind",
        choices=MASK_KINDS,
        default="auto",
        help="how to read example masks (default: by their pixels)",
    )
    group.add_argument(
        "--ensemble",
        choices=ENSEMBLES,
        default="auto",
        help="how several examples work together (default: auto)",
    )
    group.add_argument(
        "--seg-type",
        choices=SEG_TYPES,
        default="semantic",
        help="masks mean all things of a class (default), or one certain thing in other views",
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("output")
    group.add_argument("-o", "--output", required=True, metavar="DIR", help="folder for results")
    group.add_argument("--format", action="append", metavar="LIST", help=FORMATS_HELP)
    group.add_argument("--threshold", type=unit_interval, metavar="P", help="0..1")
    group.add_argument(
        "--detail",
        choices=DETAILS,
        help="finer masks for more time: more pixels, tiles too, or again at what was found "
        "(default: plain, or what the prompt says)",
    )
    group.add_argument(
        "--size",
        type=positive,
        metavar="PX",
        help="longer side at which pictures are seen (default: the model's, 448); larger for thin "
        "and small things",
    )
    there = group.add_mutually_exclusive_group()
    there.add_argument("--overwrite", action="store_true", help="replace files that exist")
    there.add_argument("--skip-existing", action="store_true", help="go on where a run stopped")
    group.add_argument("--dry-run", action="store_true", help="say what would be written")
    group.add_argument("--json", action="store_true", help="one JSON event a line on stdout")


def _add_model(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model and inputs")
    group.add_argument("--model", metavar="NAME|PATH", help="weights (see seggpt models)")
    group.add_argument("--device", metavar="NAME", help="cpu, gpu, tpu, gpu:1 (default: the best)")
    group.add_argument(
        "--batch", type=positive, metavar="N", help="pictures at a time (default: what fits)"
    )
    group.add_argument("--max-pixels", type=positive, metavar="N", help="refuse larger pictures")
    group.add_argument("--no-recursive", action="store_true", help="stay out of sub-folders")
    group.add_argument(
        "--on-error",
        choices=("skip", "stop"),
        default="skip",
        help="after a bad input go on (default), or stop",
    )
