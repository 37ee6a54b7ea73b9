"""`seggpt export`: the arguments of the verb. The work is in `work/export.py`."""

import argparse

from incontext.cli.console import Console
from incontext.cli.options import (
    Subparsers,
    add_mask_options,
    add_named,
    add_names,
    add_output,
    add_targets,
    positive,
    require_targets,
)
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
    add_named(parser, metavar="MASK")
    group = add_output(
        parser,
        formats="coco (default) and table: one file of all; mask, labels, binary, labelme, yolo, "
        "geojson: one for each mask; several with commas",
    )
    group.add_argument(
        "--instances",
        action="store_true",
        help="connected components are things of their own",
    )
    add_names(group)
    group.add_argument(
        "--images", metavar="DIR", help="where the pictures are, for the names that files give them"
    )
    group = parser.add_argument_group("inputs")
    add_mask_options(group, kind="how to read masks (default: by their pixels)")
    group.add_argument("--max-pixels", type=positive, metavar="N", help="refuse larger masks")
    add_targets(group)
    return parser


def run(args: argparse.Namespace, console: Console) -> Exit:
    """Carry out the verb."""
    require_targets(args)
    # numpy and Pillow: a mistake in the arguments must not wait for them.
    from incontext.cli.work.export import export_all

    return export_all(args, console)
