"""`seggpt export`: the arguments of the verb. The work is in `work/export.py`."""

import argparse

from incontext.cli.console import Console
from incontext.cli.options import Subparsers, add_mask_options, positive
from incontext.cli.outcome import Exit

EPILOG = """\
examples:
  seggpt export masks/ -o coco --format coco,table --instances
  seggpt export masks/ -o labelme --format labelme --images photos/ --names names.json

Masks are palette or grey files whose values are labels, or black and white. No model is loaded.
"""


def add_parser(verbs: Subparsers) -> argparse.ArgumentParser:
    """Add the verb and return its parser."""
    parser = verbs.add_parser(
        "export",
        help="masks as COCO, labelme, YOLO, GeoJSON, a table, without a model",
        description="Convert masks to the formats of other tools.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("targets", nargs="+", metavar="MASK", help="file, folder or 'pattern*'")
    group = parser.add_argument_group("output")
    group.add_argument("-o", "--output", required=True, metavar="DIR", help="folder for results")
    group.add_argument(
        "--format",
        action="append",
        metavar="LIST",
        help="coco (default) and table: one file of all; mask, labels, binary, labelme, yolo, "
        "geojson: one for each mask; several with commas",
    )
    group.add_argument(
        "--instances",
        action="store_true",
        help="connected components are things of their own",
    )
    group.add_argument(
        "--names", metavar="FILE.json", help='names of labels: {"1": "crop", "2": "weed"}'
    )
    group.add_argument(
        "--images", metavar="DIR", help="where the pictures are, for the names that files give them"
    )
    there = group.add_mutually_exclusive_group()
    there.add_argument("--overwrite", action="store_true", help="replace files that exist")
    there.add_argument("--skip-existing", action="store_true", help="go on where a run stopped")
    group.add_argument("--dry-run", action="store_true", help="say what would be written")
    group.add_argument("--json", action="store_true", help="one JSON event a line on stdout")
    group = parser.add_argument_group("inputs")
    add_mask_options(group, kind="how to read masks (default: by their pixels)")
    group.add_argument("--max-pixels", type=positive, metavar="N", help="refuse larger masks")
    group.add_argument("--no-recursive", action="store_true", help="stay out of sub-folders")
    group.add_argument(
        "--on-error",
        choices=("skip", "stop"),
        default="skip",
        help="after a bad input go on (default), or stop",
    )
    return parser


def run(args: argparse.Namespace, console: Console) -> Exit:
    """Carry out the verb."""
    # numpy and Pillow: a mistake in the arguments must not wait for them.
    from incontext.cli.work.export import export_all

    return export_all(args, console)
