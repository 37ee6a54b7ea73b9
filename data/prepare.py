"""`python -m data.prepare NAME --source PATH`: write a data set as records for training."""

import argparse
import logging
import re
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from data.builders.annotated import LEAST_SPLIT, Options
from data.builders.table import DATA_SETS
from data.records import PREPARED
from incontext.cli.options import add_mask_options
from incontext.wording import speak_as_command
from seggpt.errors import InputError, one_line

DONE, USAGE, PARTIAL = 0, 2, 3


def main(argv: Sequence[str] | None = None) -> int:
    """Prepare a data set; return the exit code."""
    args = _parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    try:
        with speak_as_command():
            return _prepare(args)
    except KeyboardInterrupt:
        print("prepare: stopped; nothing was written", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        home = DATA_SETS[args.name].home
        where = f"; get the data set at {home}" if home else ""
        print(f"prepare: error: {one_line(str(error))}{where}", file=sys.stderr)
        return USAGE


def _prepare(args: argparse.Namespace) -> int:
    # Slow to import, so only once the arguments are known to be good.
    from data.builders.builder import prepare

    source, data_set = Path(args.source), DATA_SETS[args.name]
    if not source.exists():
        raise InputError(f"{one_line(source)}: no such folder or file")
    folder = source if source.is_dir() else source.parent
    out = Path(args.out) if args.out else folder / PREPARED
    read = data_set.read
    if is_own := not data_set.home:
        images = Path(args.examples_images) if args.examples_images else None
        if not 0 <= args.val < 1:
            raise InputError(f"--val {args.val}: a share of the pictures, from 0 to below 1")
        options = Options(images=images, mask_kind=args.mask_kind, ignore=args.ignore, val=args.val)
        read = partial(data_set.read, options=options)
    written = prepare(
        slug(folder) if is_own else args.name,
        read,
        source=source,
        out=out,
        about={"licence": data_set.licence, "source_repo": data_set.home or str(source)},
        overwrite=args.overwrite,
    )
    counts = ", ".join(f"{count} {split}" for split, count in written.counts.items())
    state = "written" if written.is_new else "is there already; --overwrite writes it again"
    print(f"{one_line(written.path)}: {counts} pictures; {state}")
    if written.failed:
        print(f"prepare: {len(written.failed)} pictures are left out", file=sys.stderr)
        return PARTIAL
    return DONE


def slug(folder: Path) -> str:
    """Return a folder's name as the name of a data set: lower case, digits and `_`."""
    name = re.sub(r"[^a-z0-9]+", "_", folder.resolve().name.lower()).strip("_")
    return name if name[:1].isalpha() else f"set_{name}".strip("_")


def _parser() -> argparse.ArgumentParser:
    rows = [f"  {name:15} {row.title}" for name, row in DATA_SETS.items()]
    parser = argparse.ArgumentParser(
        prog="python -m data.prepare",
        description="Write a data set as records, from its official download or from your own "
        "pictures and masks.",
        epilog="\n".join(["data sets:", *rows]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("name", choices=list(DATA_SETS), metavar="NAME", help="see below")
    add("--source", required=True, metavar="PATH", help="its folder, unpacked, or its file")
    add("--out", metavar="DIR", help=f"where to write; by default {PREPARED} in that folder")
    add("--overwrite", action="store_true", help="write again what is there")
    own = parser.add_argument_group("your own pictures")
    add_mask_options(own, kind="what pixels of masks mean (default: told by themselves)")
    own.add_argument("--examples-images", metavar="DIR", help="pictures of annotation files")
    own.add_argument(
        "--val",
        type=float,
        default=0.2,
        metavar="SHARE",
        help=f"pictures held out as the split val, of {LEAST_SPLIT} or more without splits "
        "(default: 0.2)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
