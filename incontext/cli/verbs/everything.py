"""`seggpt everything`: the arguments of the verb. The work is in `work/everything.py`."""

import argparse
from typing import get_args

from incontext.cli.console import Console
from incontext.cli.options import (
    Subparsers,
    add_example,
    add_marks,
    add_picture_options,
    positive,
    require_targets,
    unit_interval,
)
from incontext.cli.outcome import Exit
from incontext.options import PromptMode

EPILOG = """\
examples:
  seggpt everything street.jpg -o out --model sam_vit_b_01ec64.pth
  seggpt everything photos/ -o out --model sam.pth --format json,overlay --points-per-side 16
  seggpt everything photos/ -o out --prompts boxes
  seggpt everything photos/ -o out -e cells.png cells_mask.png

NAME.json lists the masks: COCO run lengths, area, box (x, y, width, height), scores.
"""


THRESHOLD = "default: what suits the weights"


def add_parser(verbs: Subparsers) -> argparse.ArgumentParser:
    """Add the verb and return its parser."""
    parser = verbs.add_parser(
        "everything",
        help="masks of all things in pictures, without a prompt",
        description="Find all things in each picture, from a grid of points or proposed boxes.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    group = parser.add_argument_group("which masks")
    group.add_argument(
        "--prompts",
        choices=get_args(PromptMode),
        default="grid",
        help="ask at every point (default), or look from a fourth of the points, then ask for what "
        "is in each box that shows: faster, but may miss small things",
    )
    group.add_argument("--points-per-side", type=positive, default=32, metavar="N")
    group.add_argument("--points-per-batch", type=positive, default=64, metavar="N")
    group.add_argument("--pred-iou-thresh", type=unit_interval, metavar="P", help=THRESHOLD)
    group.add_argument("--stability-score-thresh", type=unit_interval, metavar="P", help=THRESHOLD)
    group.add_argument("--box-nms-thresh", type=unit_interval, default=0.7, metavar="P")
    group.add_argument(
        "--crop-n-layers",
        type=int,
        choices=range(4),
        default=0,
        help="also look at 2x2, 4x4, ... crops of the picture",
    )
    group.add_argument(
        "--min-mask-region-area",
        type=int,
        default=0,
        metavar="PIXELS",
        help="fill holes and drop islands that are smaller",
    )
    group = parser.add_argument_group("or only those that are meant (in pixels of each picture)")
    add_marks(
        group,
        point="keep things with such a pixel in them (1, the default), or without one (0)",
        box="keep the thing that fills this box best",
    )
    add_example(
        group,
        example="keep things like those that a picture and its mask show, each by itself",
        mask_kind="how to read the example's mask (default: by its pixels)",
    )
    add_picture_options(
        parser,
        formats="json (default), overlay; several with commas",
        model="weights with heads for prompts: the default ones, or SAM's",
    )
    return parser


def run(args: argparse.Namespace, console: Console) -> Exit:
    """Carry out the verb."""
    require_targets(args)
    # numpy and Pillow, and later jax: a mistake in the arguments must not wait for them.
    from incontext.cli.work.everything import sweep_all

    return sweep_all(args, console)
