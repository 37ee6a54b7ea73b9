"""`seggpt video`: the arguments of the verb. The work is in `work/video.py`."""

import argparse
import os

from incontext.cli.console import Console
from incontext.cli.options import (
    Subparsers,
    add_mask_options,
    add_model,
    add_names,
    add_reading,
    positive,
    prompt_files,
    unit_interval,
)
from incontext.cli.outcome import Exit, UsageError

EPILOG = """\
examples:
  seggpt video clip.mp4 --mark 0 first.png -o masks
  seggpt video frames/ -e frames/00000.jpg 00000.png -o masks --format mask,mp4
  seggpt video clip.mp4 --mark 0 first.png --mark 120 mended.png -o masks --start 120 --overwrite
"""


def add_parser(verbs: Subparsers) -> argparse.ArgumentParser:
    """Add the verb and return its parser."""
    parser = verbs.add_parser(
        "video",
        help="a mask for each frame of a video, from a marked frame",
        description="Follow what is marked in one or a few frames through a video.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "video",
        metavar="VIDEO",
        help="a video file, a folder of frames, a TIFF of several pages, or an animation",
    )
    _add_prompt(parser)
    _add_output(parser)
    inputs = parser.add_argument_group("model and inputs")
    add_model(inputs)
    inputs.add_argument(
        "--size",
        type=positive,
        metavar="PX",
        help="longer side at which frames are seen (default: the model's, 448)",
    )
    inputs.add_argument(
        "--memory",
        type=natural,
        metavar="K",
        help="past frames that are examples for the next (default: 4, SegGPT's own weights 8)",
    )
    inputs.add_argument("--start", type=natural, default=0, metavar="N", help="first frame, from 0")
    inputs.add_argument("--end", type=natural, metavar="N", help="last frame")
    inputs.add_argument("--stride", type=positive, default=1, metavar="N", help="every N-th frame")
    add_reading(inputs)
    return parser


def natural(text: str) -> int:
    """Parse a whole number from 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)


def run(args: argparse.Namespace, console: Console) -> Exit:
    """Carry out the verb."""
    args.mark = _read_marks(args.mark)
    if not (args.example or args.prompt or args.mark):
        raise UsageError(
            "say what to follow: --mark 0 MASK for a mask of frame 0, -e IMAGE MASK, or --prompt"
        )
    for path in [*prompt_files(args), *args.mark.values()]:
        if os.path.isdir(path):
            raise UsageError(f"{path}: a folder; name a file")
        if not os.path.exists(path):
            raise UsageError(f"no such file: {path}")
    last = args.end
    if last is not None and last < args.start:
        raise UsageError(f"--end {last} is before --start {args.start}")
    for number in args.mark:
        if number < args.start or (last is not None and number > last):
            raise UsageError(f"--mark {number}: not between --start and --end")
        if (number - args.start) % args.stride:
            raise UsageError(
                f"--mark {number}: --stride {args.stride} from {args.start} leaves that frame out"
            )
    # numpy and Pillow, and later jax: a mistake in the arguments must not wait for them.
    from incontext.cli.work.video import follow_all

    return follow_all(args, console)


def _read_marks(given: list[list[str]] | None) -> dict[int, str]:
    marks: dict[int, str] = {}
    for number, mask in given or ():
        if not number.isdecimal():
            raise UsageError(f"--mark {number} {mask}: the frame is a whole number from 0")
        if int(number) in marks:
            raise UsageError(f"--mark {number}: given twice")
        marks[int(number)] = mask
    return marks


def _add_prompt(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what to follow (one or more of these)")
    group.add_argument(
        "--mark",
        nargs=2,
        action="append",
        metavar=("N", "MASK"),
        help="a mask of frame N, from 0; repeat to correct what follows",
    )
    group.add_argument(
        "-e",
        "--example",
        nargs=2,
        action="append",
        metavar=("IMAGE", "MASK"),
        help="a picture and its mask, of this video or not; repeat for more",
    )
    group.add_argument("--prompt", metavar="FILE", help="a saved context or a tuned prompt")
    add_mask_options(group, kind="how to read masks (default: by their pixels)")
    add_names(group)


def _add_output(parser: argparse.ArgumentParser) -> None:
    output = parser.add_argument_group("output")
    output.add_argument("-o", "--output", required=True, metavar="DIR", help="folder for results")
    output.add_argument(
        "--format",
        action="append",
        metavar="LIST",
        help="of each frame: mask (default), overlay and the others of seggpt segment; mp4: a "
        "video of the overlays",
    )
    there = output.add_mutually_exclusive_group()
    there.add_argument("--overwrite", action="store_true", help="replace files that exist")
    there.add_argument("--resume", action="store_true", help="go on after the last frame written")
    output.add_argument("--json", action="store_true", help="one JSON event a line on stdout")
    output.add_argument("--threshold", type=unit_interval, metavar="P", help="0..1")
