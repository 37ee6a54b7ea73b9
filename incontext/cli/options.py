"""What the verbs' parsers share: types of argument values, and options."""

import argparse
import os
import re
from typing import NamedTuple, TypeAlias, get_args

from incontext.cli.outcome import UsageError
from incontext.cli.running.shard import parse_shard
from incontext.options import Alpha, AskedKind

# argparse exports no names for these.
Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
Group: TypeAlias = "argparse._ArgumentGroup"


MODEL_HELP = "weights (see seggpt models)"


class Groups(NamedTuple):
    """Groups of options of a verb over pictures."""

    output: Group
    inputs: Group


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


def add_picture_options(
    parser: argparse.ArgumentParser, *, formats: str, model: str = MODEL_HELP
) -> Groups:
    """Add what verbs over pictures share; return the groups, for what one of them has alone."""
    add_named(parser, metavar="IMAGE")
    output = add_output(parser, formats=formats)
    inputs = parser.add_argument_group("model and inputs")
    add_model(inputs, model=model)
    add_reading(inputs)
    add_targets(inputs)
    return Groups(output, inputs)


def add_model(group: Group, *, model: str = MODEL_HELP) -> None:
    """Add which weights are meant, and where they run."""
    group.add_argument("--model", metavar="NAME|PATH", help=model)
    group.add_argument(
        "--encoder",
        metavar="PATH",
        help="the encoder that weights were trained on, if it is not shipped or beside them",
    )
    group.add_argument("--device", metavar="NAME", help="cpu, gpu, tpu, gpu:1 (default: the best)")


def add_named(parser: argparse.ArgumentParser, *, metavar: str) -> None:
    """Add the targets themselves."""
    parser.add_argument(
        "targets",
        nargs="*",
        metavar=metavar,
        help="file, folder or 'pattern*'; - reads names from stdin",
    )


def require_targets(args: argparse.Namespace) -> None:
    """Make sure that there is a target or a list of them.

    Raises:
        UsageError: There is none.
    """
    if not args.targets and not args.files_from:
        raise UsageError("no target; name a picture, a folder, a pattern, - or --files-from FILE")
    if args.null and "-" not in args.targets and not args.files_from:
        raise UsageError("-0 is for lists; name - or --files-from FILE")


def add_output(parser: argparse.ArgumentParser, *, formats: str) -> Group:
    """Add where results go, and what of those that are there already."""
    output = parser.add_argument_group("output")
    output.add_argument("-o", "--output", required=True, metavar="DIR", help="folder for results")
    output.add_argument("--format", action="append", metavar="LIST", help=formats)
    there = output.add_mutually_exclusive_group()
    there.add_argument("--overwrite", action="store_true", help="replace files that exist")
    there.add_argument(
        "--resume",
        action="store_true",
        help="go on where a run with the same arguments stopped; try again what failed",
    )
    there.add_argument(
        "--skip-existing", action="store_true", help="leave out what has files, however made"
    )
    output.add_argument("--dry-run", action="store_true", help="say what would be written")
    output.add_argument("--json", action="store_true", help="one JSON event a line on stdout")
    return output


def add_targets(group: Group) -> None:
    """Add how targets are looked for, which are meant, and what comes after a bad one."""
    group.add_argument(
        "--files-from",
        action="append",
        metavar="FILE",
        help="a list of names, one a line; relative ones keep their folders below DIR",
    )
    group.add_argument(
        "-0", "--null", action="store_true", help="names of lists end with NUL, as of find -print0"
    )
    # With an option -0 argparse takes -1, as in `--ignore -1`, for one too, unless this is empty.
    group._has_negative_number_optionals.clear()
    group.add_argument(
        "--exclude",
        action="append",
        metavar="PATTERN",
        help="leave out what is called so below a named folder, as '*_mask.png' or 'sub/**'",
    )
    group.add_argument(
        "--shard",
        type=parse_shard,
        metavar="I/N",
        help="do the I-th of N parts, which may run at the same time; auto: as Slurm says",
    )
    group.add_argument("--no-recursive", action="store_true", help="stay out of sub-folders")
    group.add_argument(
        "--on-error",
        choices=("skip", "stop"),
        default="skip",
        help="after a bad input go on (default), or stop",
    )


def add_names(group: Group) -> None:
    """Add --names."""
    group.add_argument(
        "--names", metavar="FILE.json", help='names of labels: {"1": "crop", "2": "weed"}'
    )


def add_marks(group: Group, *, point: str, box: str) -> None:
    """Add --point and --box, with what they mean."""
    group.add_argument(
        "--point", action="append", default=[], type=parse_point, metavar="X,Y[,0|1]", help=point
    )
    group.add_argument(
        "--box", action="append", default=[], type=parse_box, metavar="X0,Y0,X1,Y1", help=box
    )


def add_example(group: Group, *, example: str, mask_kind: str) -> None:
    """Add -e for one example, and how to read its mask."""
    group.add_argument("-e", "--example", nargs=2, metavar=("IMAGE", "MASK"), help=example)
    add_mask_options(group, kind=mask_kind)


def add_annotations(group: Group, *, limit: str) -> None:
    """Add --examples and what goes with it."""
    group.add_argument(
        "--examples",
        action="append",
        default=[],
        metavar="PATH",
        help="examples in a file of COCO, labelme, GeoJSON, YOLO or .npy, or in a folder of them "
        "or of pictures and masks; repeat for more",
    )
    group.add_argument(
        "--examples-images",
        metavar="DIR",
        help="where the pictures of --examples are, if not beside the files",
    )
    group.add_argument("--examples-limit", type=positive, metavar="N", help=limit)
    group.add_argument(
        "--examples-empty",
        action="store_true",
        help="take pictures without annotations too: they show what is not wanted",
    )


def add_mask_options(group: Group, *, kind: str) -> None:
    """Add --mask-kind, and --ignore for pixels of masks that do not count."""
    group.add_argument("--mask-kind", choices=get_args(AskedKind), default="auto", help=kind)
    group.add_argument(
        "--ignore",
        type=parse_ignored,
        default="auto",
        metavar="VALUE",
        help="value (or #rrggbb) of mask pixels that do not count; none: every value is a label "
        "(default: 255 where it is a thin border)",
    )


def add_reading(group: Group) -> None:
    """Add what says how pictures are read."""
    group.add_argument(
        "--max-pixels",
        type=positive,
        metavar="N",
        help="refuse pictures and masks that are larger (default: 89M)",
    )
    group.add_argument(
        "--alpha",
        choices=get_args(Alpha),
        default="white",
        help="what lies behind transparent pixels (default: white); ignore: their own colours",
    )
    group.add_argument(
        "--bands",
        type=parse_bands,
        metavar="R,G,B",
        help="bands of pictures that are red, green and blue, counted from 1",
    )


def parse_ignored(text: str) -> int | str:
    """Parse a label value, a colour, none or auto."""
    if text in ("none", "auto") or re.fullmatch("#[0-9a-fA-F]{6}", text):
        return text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no value, no colour #rrggbb, and not none"
        ) from None


def parse_bands(text: str) -> tuple[int, int, int]:
    """Parse three numbers of bands."""
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not R,G,B such as 4,3,2, counted from 1")
    red, green, blue = map(int, parts)
    return red, green, blue


def parse_point(text: str) -> tuple[float, float, int]:
    """Parse X,Y or X,Y,LABEL."""
    numbers = _numbers(text)
    if len(numbers) not in (2, 3) or (len(numbers) == 3 and numbers[2] not in (0, 1)):
        raise argparse.ArgumentTypeError(f"{text!r} is not X,Y or X,Y,1 or X,Y,0")
    return numbers[0], numbers[1], int(numbers[2]) if len(numbers) == 3 else 1


def parse_box(text: str) -> tuple[float, ...]:
    """Parse X0,Y0,X1,Y1."""
    numbers = _numbers(text)
    if len(numbers) != 4 or numbers[0] >= numbers[2] or numbers[1] >= numbers[3]:
        raise argparse.ArgumentTypeError(f"{text!r} is not X0,Y0,X1,Y1 with X0 < X1 and Y0 < Y1")
    return tuple(numbers)


def _numbers(text: str) -> list[float]:
    """Return numbers with commas between them; nothing if one is none, or not finite."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        return []
    return numbers if all(abs(number) < 1e9 for number in numbers) else []  # NaN is not below


def prompt_files(args: argparse.Namespace) -> list[str]:
    """Return the files that the prompt is read from, besides those of --examples."""
    pairs = [path for pair in args.example or () for path in pair]
    return [args.prompt, *pairs] if args.prompt else pairs


def require_examples(args: argparse.Namespace) -> None:
    """Make sure that what --examples names is there, and that its options have a use.

    Raises:
        UsageError: It is missing, or there is no --examples.
    """
    for path in args.examples:
        if not os.path.exists(path):
            raise UsageError(f"no such file: {path}")
    if not args.examples:
        for name in ("images", "limit", "empty"):
            if getattr(args, f"examples_{name}"):
                raise UsageError(f"--examples-{name} goes with --examples; leave it out")
