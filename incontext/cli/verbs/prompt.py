"""`seggpt prompt`: the arguments of the verb. The work is in `work/prompt.py`."""

import argparse
from typing import get_args

from incontext.cli.console import Console
from incontext.cli.options import (
    Subparsers,
    add_annotations,
    add_example,
    add_marks,
    add_picture_options,
    require_examples,
    require_targets,
)
from incontext.cli.outcome import Exit, UsageError
from incontext.options import MOST_EXAMPLES, PersamMethod

EPILOG = """\
examples:
  seggpt prompt cat.jpg --point 320,240 -o masks
  seggpt prompt cat.jpg --point 320,240,1 --point 20,20,0 -o masks --model sam_vit_b_01ec64.pth
  seggpt prompt street.jpg --box 10,20,200,220 --box 300,20,420,200 -o masks
  seggpt prompt new.jpg -e leaf.jpg leaf_mask.png --point 40,60,0 -o masks
  seggpt prompt new.jpg --examples leaf.json --point 40,60,0 -o masks
  seggpt prompt photos/ -e dog.jpg dog_mask.png -o masks --model sam.safetensors

Points, and one box with them, all mean one thing. Several boxes without points mean one thing each,
with the labels 1, 2, ... in their order. An example picture and its mask (-e) show what to find
again in each picture; points or a box correct what is found. SAM's weights find a certain thing for
each of the mask's labels by PerSAM, without points.
"""


def add_parser(verbs: Subparsers) -> argparse.ArgumentParser:
    """Add the verb and return its parser."""
    parser = verbs.add_parser(
        "prompt",
        help="masks for files and folders, from points and boxes",
        description="Write a mask of what points, boxes or an example mark, for each picture.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    group = parser.add_argument_group("what to find (in pixels of each picture)")
    add_marks(
        group,
        point="a pixel inside (1, the default) or outside (0) of the thing; repeat for more",
        box="the upper left and the lower right corner around a thing; repeat for more things",
    )
    group = parser.add_argument_group("or what an example shows")
    add_example(
        group,
        example="a picture and the mask of a thing to find again; points or a box correct what is "
        "found (weights of seggpt's own)",
        mask_kind="how to read the example's mask (default: by its pixels)",
    )
    add_annotations(
        group, limit=f"take the first N pictures of --examples (default: {MOST_EXAMPLES} at most)"
    )
    group.add_argument(
        "--method",
        choices=get_args(PersamMethod),
        default="persam",
        help="of SAM's weights: persam (default) trains nothing; persam-f learns two numbers from "
        "the example",
    )
    group.add_argument(
        "--about",
        type=int,
        metavar="LABEL",
        help="with points: the label of the example's mask that they are about, if it has several",
    )
    add_picture_options(
        parser,
        formats="mask (default) or any of seggpt segment's; several with commas",
        model="weights with heads for prompts: the default ones, or SAM's",
    )
    return parser


def run(args: argparse.Namespace, console: Console) -> Exit:
    """Carry out the verb."""
    require_targets(args)
    has_example = bool(args.example or args.examples)
    if not args.point and not args.box and not has_example:
        raise UsageError("give --point X,Y or --box X0,Y0,X1,Y1, or an example (-e IMAGE MASK)")
    require_examples(args)
    if has_example and len(args.box) > 1:
        raise UsageError("one box corrects what an example finds; give others in runs of their own")
    if args.about is not None and not (has_example and (args.point or args.box)):
        raise UsageError("--about is for an example with points or a box; leave it out")
    if args.point and len(args.box) > 1:
        raise UsageError("points go with one box; give them in several runs, or boxes alone")
    # numpy and Pillow, and later jax: a mistake in the arguments must not wait for them.
    from incontext.cli.work.prompt import ask_all

    return ask_all(args, console)
