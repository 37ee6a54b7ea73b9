"""`seggpt demo`: the shipped weights on real pictures, offline. The work is in `work/demo.py`."""

import argparse
import importlib.util
from pathlib import Path

from incontext.cli.console import Console
from incontext.cli.options import Subparsers
from incontext.cli.outcome import Exit, UsageError
from seggpt.errors import SegGPTError


def add_parser(verbs: Subparsers) -> argparse.ArgumentParser:
    """Add the verb and return its parser."""
    parser = verbs.add_parser(
        "demo",
        help="a first look: masks on a few real pictures, offline",
        description="Segment sample pictures of scikit-image and write a page to look at.",
    )
    parser.set_defaults(run=run)
    parser.add_argument("-o", "--output", default="seggpt-demo", metavar="DIR", help="%(default)s")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier demo")
    parser.add_argument("--model", metavar="NAME|PATH", help="weights (see seggpt models)")
    parser.add_argument("--device", metavar="NAME", help="cpu, gpu, tpu, gpu:1 (default: the best)")
    parser.add_argument("--json", action="store_true", help="one JSON event a line on stdout")
    return parser


def run(args: argparse.Namespace, console: Console) -> Exit:
    """Carry out the verb."""
    if importlib.util.find_spec("skimage") is None:
        raise SegGPTError(
            'the demo takes its pictures from scikit-image: pip install "seggpt-jax[demo]"'
        )
    index = Path(args.output) / "index.html"
    if index.exists() and not args.overwrite:
        raise UsageError(f"{index} exists; add --overwrite or choose another folder with -o")
    # scikit-image is optional, and jax must wait for the arguments.
    from incontext.cli.plan import require_writable
    from incontext.cli.work.demo import make_gallery

    require_writable(index.parent)
    make_gallery(index, console, model=args.model, device=args.device)
    console.say(f"look at {index}")
    return Exit.DONE
