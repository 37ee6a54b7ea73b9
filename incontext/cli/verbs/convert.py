"""`seggpt convert`: a published checkpoint as a weights file of ours; nothing in it is executed."""

import argparse
from pathlib import Path

from incontext.cli.console import Console
from incontext.cli.options import Subparsers
from incontext.cli.outcome import Exit, UsageError

SUFFIX = ".safetensors"


def add_parser(verbs: Subparsers) -> argparse.ArgumentParser:
    """Add the verb and return its parser."""
    parser = verbs.add_parser(
        "convert",
        help="turn published weights into a safetensors file of ours",
        description="Read a checkpoint of SegGPT, Painter, SAM or some of its relatives (.pth, "
        ".safetensors or a Hugging Face folder) and write it with its architecture, its origin and "
        "a checksum.",
    )
    parser.set_defaults(run=run)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a file or a folder")
    parser.add_argument("-o", "--output", required=True, metavar=f"FILE{SUFFIX}")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE")
    parser.add_argument("--json", action="store_true", help="one JSON event on stdout")
    return parser


def run(args: argparse.Namespace, console: Console) -> Exit:
    """Carry out the verb."""
    source, target = Path(args.checkpoint), Path(args.output)
    if target.suffix != SUFFIX:
        raise UsageError(f"{target}: the output's name must end in {SUFFIX}")
    if target.exists() and not args.overwrite:
        raise UsageError(f"{target} exists; add --overwrite or choose another name with -o")
    # numpy and safetensors: not before the arguments have been checked.
    from seggpt.weights import file_sha256, load_published, save_weights

    console.say(f"reading {source}")
    loaded = load_published(source, family="any")
    metadata = dict(loaded.metadata)
    if source.is_file():
        metadata["source_sha256"] = file_sha256(source)
    console.say(f"writing {target}")
    save_weights(target, loaded.params, config=loaded.config, metadata=metadata, dtype=args.dtype)
    digest = file_sha256(target)
    console.event("convert", input=str(source), output=str(target), sha256=digest, **metadata)
    if not console.events:
        console.data(f"{target}  sha256 {digest}")
    return Exit.DONE
