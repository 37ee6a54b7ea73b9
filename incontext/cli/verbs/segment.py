"""`seggpt segment`: the arguments of the verb. The work is in `work/segment.py`."""

import argparse
import os
from typing import get_args

from incontext.cli.console import Console
from incontext.cli.options import (
    Subparsers,
    add_annotations,
    add_mask_options,
    add_names,
    add_picture_options,
    positive,
    prompt_files,
    require_examples,
    require_targets,
    unit_interval,
)
from incontext.cli.outcome import Exit, UsageError
from incontext.options import MOST_EXAMPLES, AskedEnsemble, Detail, SegType

FORMATS_HELP = (
    "mask (default), overlay, cutout, labels, binary, probabilities, labelme, yolo, geojson; "
    "several with commas or repeated"
)
EPILOG = """\
examples:
  seggpt segment photos/ -e leaf.jpg leaf_mask.png -o masks/
  seggpt segment 'shots/**/*.png' -e a.png a_mask.png -e b.png b_mask.png -o out
  seggpt segment photos/ --examples annotations/instances.json -o masks/
  seggpt segment photos/ --prompt tuned.safetensors -o masks/ --resume
  find photos -name '*.jpg' -print0 | seggpt segment - -0 -e leaf.jpg leaf_mask.png -o masks/
  seggpt segment photos/ -e leaf.jpg leaf_mask.png -o masks/ --shard auto  # in a Slurm array
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
    _add_prompt(parser)
    groups = add_picture_options(parser, formats=FORMATS_HELP)
    groups.output.add_argument("--threshold", type=unit_interval, metavar="P", help="0..1")
    groups.output.add_argument(
        "--detail",
        choices=get_args(Detail),
        help="finer masks for more time: twice as many pixels along a side, or tiles too "
        "(default: plain, or what the prompt says); tiles also does TIFFs above --max-pixels",
    )
    groups.output.add_argument(
        "--size",
        type=positive,
        metavar="PX",
        help="longer side at which pictures are seen (default: the model's, 448); larger for thin "
        "and small things",
    )
    groups.output.add_argument(
        "--instances",
        action="store_true",
        help="number connected components: each is a thing of its own in labels, labelme, geojson",
    )
    groups.inputs.add_argument(
        "--batch", type=positive, metavar="N", help="pictures at a time (default: what fits)"
    )
    return parser


def run(args: argparse.Namespace, console: Console) -> Exit:
    """Carry out the verb."""
    require_targets(args)
    require_prompt(args)
    # numpy and Pillow, and later jax: a mistake in the arguments must not wait for them.
    from incontext.cli.work.segment import segment_all

    return segment_all(args, console)


def require_prompt(args: argparse.Namespace) -> None:
    """Make sure that there are examples, a prompt or both, and that their files are there.

    Raises:
        UsageError: There is neither, or a file is missing.
    """
    if not args.example and not args.examples and not args.prompt:
        raise UsageError(
            "give examples (-e IMAGE MASK, or --examples PATH), a saved prompt (--prompt), or both"
        )
    require_examples(args)
    for path in prompt_files(args):
        if os.path.isdir(path):
            raise UsageError(f"{path}: a folder; name a file")
        if not os.path.exists(path):
            raise UsageError(f"no such file: {path}")


def _add_prompt(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what to find (-e, --examples, --prompt, or several)")
    group.add_argument(
        "-e",
        "--example",
        nargs=2,
        action="append",
        metavar=("IMAGE", "MASK"),
        help="an example picture and its mask; repeat for more",
    )
    add_annotations(
        group, limit=f"take the first N pictures of --examples (default: {MOST_EXAMPLES} at most)"
    )
    group.add_argument(
        "--prompt", metavar="FILE", help="a saved context or a tuned prompt; examples add to it"
    )
    add_mask_options(group, kind="how to read example masks (default: by their pixels)")
    add_names(group)
    group.add_argument(
        "--ensemble",
        choices=get_args(AskedEnsemble),
        default="auto",
        help="how several examples work together (default: auto)",
    )
    group.add_argument(
        "--seg-type",
        choices=get_args(SegType),
        default="semantic",
        help="masks mean all things of a class (default), or one certain thing in other views",
    )
