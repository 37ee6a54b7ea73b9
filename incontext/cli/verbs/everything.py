"""`seggpt everything`: the arguments of the verb. The work is in `sweeping.py`."""

import argparse

from incontext.cli.console import Console
from incontext.cli.options import Subparsers, add_picture_options, positive, unit_interval
from incontext.cli.outcome import Exit
from incontext.cli.verbs.prompt import box, point

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
        choices=("grid", "boxes"),
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
    group.add_argument(
        "--point",
        action="append",
        default=[],
        type=point,
        metavar="X,Y[,0|1]",
        help="keep things with such a pixel in them (1, the default), or without one (0)",
    )
    group.add_argument(
        "--box",
        action="append",
        default=[],
        type=box,
        metavar="X0,Y0,X1,Y1",
        help="keep the thing that fills this box best",
    )
    group.add_argument(
        "-e",
        "--example",
        nargs=2,
        metavar=("IMAGE", "MASK"),
        help="keep things like those that a picture and its mask show, each by itself",
    )
    add_picture_options(parser, formats="json (default), overlay; several with commas")
    return parser


def run(args: argparse.Namespace, console: Console) -> Exit:
    """Carry out the verb."""
    # numpy and Pillow, and later jax: a mistake in the arguments must not wait for them.
    from incontext.cli.work.everything import sweep_all

    return sweep_all(args, console)
