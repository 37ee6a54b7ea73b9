"""`seggpt models`: the weights that came with the package, and whether weights are intact."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from incontext.cli.console import Console
from incontext.cli.options import Subparsers
from incontext.cli.outcome import Exit, UsageError
from seggpt.errors import CheckpointError
from seggpt.pretrained import DEFAULT, ENCODER, MATCHING, shipped_weights

HEADINGS = ("name", "parameters", "attention", "size", "licence", "score")
ENCODER_HEADINGS = ("encoder", "parameters", "patches", "file", "GFLOP at 448 px", "licence")
NOTE = (
    "Only dinov2-small is shipped; get the others from Meta or the Hugging Face Hub "
    "(docs/encoders.md). DINOv3's licence is Meta's own: read it first."
)


def add_parser(verbs: Subparsers) -> argparse.ArgumentParser:
    """Add the verb and return its parser."""
    parser = verbs.add_parser(
        "models",
        help="list or verify the weights that are installed",
        description="List the weights that came with the package and the image encoders that "
        "weights can stand on, or verify weights.",
    )
    parser.set_defaults(run=run)
    parser.add_argument("action", nargs="?", choices=("list", "verify"), default="list")
    parser.add_argument(
        "name",
        nargs="?",
        metavar="NAME|FILE",
        help="only this one (default: all); verify also takes files, ours or published",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a model on stdout")
    return parser


def run(args: argparse.Namespace, console: Console) -> Exit:
    """Carry out the verb."""
    files = shipped_weights()
    if args.action == "verify" and args.name not in files and Path(args.name or "").is_file():
        return _verify({args.name: Path(args.name)}, console)
    if not files:
        raise CheckpointError("no weights in this copy of the package; install it from its wheel")
    files[ENCODER.stem if args.action == "verify" else MATCHING] = ENCODER
    if args.name is not None:
        if args.name not in files:
            raise UsageError(f"no weights named {args.name!r}; there are {', '.join(files)}")
        files = {args.name: files[args.name]}
    if args.action == "verify":
        return _verify(files, console)
    _list(files, console)
    if args.name is None:
        _list_encoders(console)
    return Exit.DONE


def _list(files: Mapping[str, Path], console: Console) -> None:
    # numpy and safetensors: not before the arguments have been parsed.
    from incontext.cli.work.models import read_model

    rows: list[Sequence[str]] = [HEADINGS]
    for name, path in files.items():
        model = read_model(name, path)
        console.event("model", **vars(model), is_default=name == DEFAULT)
        rows.append(
            (
                f"{name} (default)" if name == DEFAULT else name,
                f"{model.parameters / 1e6:.1f}M",
                model.attention,
                f"{model.size_px} px",
                model.licence,
                model.score,
            )
        )
    _print_table(rows, console)


def _list_encoders(console: Console) -> None:
    from incontext.cli.work.encoders import list_encoders  # as above

    rows: list[Sequence[str]] = [ENCODER_HEADINGS]
    for encoder in list_encoders():
        console.event("encoder", **vars(encoder))
        rows.append(
            (
                f"{encoder.name} (shipped)" if encoder.shipped else encoder.name,
                f"{encoder.parameters / 1e6:.1f}M",
                f"{encoder.patch_px} px",
                f"{encoder.file_mb} MB",
                f"{encoder.gflop:.0f}",
                encoder.licence,
            )
        )
    if not console.events:
        console.data("")
    _print_table(rows, console)
    if not console.events:
        console.data("")
        console.data(NOTE)


def _print_table(rows: Sequence[Sequence[str]], console: Console) -> None:
    if console.events:
        return
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        console.data("  ".join(cells).rstrip())


def _verify(files: Mapping[str, Path], console: Console) -> Exit:
    from incontext.cli.work.models import verify_model  # as above

    code = Exit.DONE
    for name, path in files.items():
        try:
            digest = verify_model(path)
        except CheckpointError as error:
            code = Exit.NOTHING
            console.error(str(error))
            console.event("verify", name=name, ok=False, error=str(error))
        else:
            console.event("verify", name=name, ok=True, sha256=digest)
            if not console.events:
                console.data(f"{name}  ok  sha256 {digest}")
    return code
