"""Ship a trunk for adapters: `python -m train.release_trunk RUN --data PATH --command TEXT`.

Writes the trunk of a run as bfloat16 with its score and licence in the file, and a card beside it.
A trunk that scores lower than the one it would replace is refused.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from data.folder import Folder
from seggpt.adapter import TRUNK_FORMAT, WIDTHS, load_trunk
from seggpt.pretrained import TRUNK
from seggpt.weights import load_weights, save_weights
from train.loop import LOG, WEIGHTS
from train.release import LICENCE, data_table
from train.tool import open_all, parse_sets, run_tool
from train.trunk import PER_SOURCE


def main(argv: Sequence[str] | None = None) -> int:
    """Write the trunk and its card; return the exit code."""
    args = _parser().parse_args(argv)
    return run_tool("release_trunk", lambda: release(args))


def release(args: argparse.Namespace) -> None:
    """Carry out the command.

    Raises:
        ValueError: if the run was not scored, or the trunk in place scores higher.
    """
    run, target = Path(args.run), Path(args.output) / TRUNK.name
    rows = [json.loads(line) for line in (run / LOG).read_text().splitlines()]
    scores = [100 * row["iou"] for row in rows if "iou" in row]
    if not scores:
        raise ValueError(f"{run / LOG}: has no score; train to the end, or to `eval_every`")
    if target.exists() and not args.force:
        before = float(load_weights(target).metadata["score"])
        if before > scores[-1]:
            raise ValueError(
                f"{target} scores {before:.1f}, the new trunk {scores[-1]:.1f}; pass --force to "
                "ship it all the same"
            )
    loaded = load_weights(run / WEIGHTS)
    sets = parse_sets(loaded.metadata["train_sets"])
    metadata = {
        "licence": LICENCE,
        "score": f"{scores[-1]:.2f}",
        "train_sets": loaded.metadata["train_sets"],
        "command": args.command,
    }
    trunk = load_trunk(run / WEIGHTS)
    save_weights(target, trunk, config=TRUNK_FORMAT, metadata=metadata, dtype="bfloat16")
    folders = [f for f in open_all(args.data) if f.name in sets or f.kind == "sprites"]
    target.with_suffix(".md").write_text(write_card(metadata, folders=folders))


def write_card(metadata: dict[str, str], *, folders: Sequence[Folder]) -> str:
    """Return the trunk's card as Markdown."""
    lines = [
        f"# {TRUNK.stem}",
        "",
        f"Licence: {metadata['licence']}. A U-Net of widths {', '.join(map(str, WIDTHS))} from a",
        "picture to features of every 2 x 2 pixels. No model: it is what the adapters start from",
        "that `seggpt tune` learns (docs/tuning.md).",
        "",
        "Trained with",
        "",
        f"    {metadata['command']}",
        "",
        "## Score",
        "",
        f"Mean IoU of classes in percent, averaged over data sets: {float(metadata['score']):.1f}, "
        "each picture's classes",
        f"told among those of its data set, on at most {PER_SOURCE} whole validation pictures a "
        "set.",
        "",
        "## Data",
        "",
        *data_table(folders),
    ]
    return "\n".join(lines) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m train.release_trunk", description=__doc__)
    add = parser.add_argument
    add("run", metavar="RUN", help="the folder of a run, with its weights and its log")
    add("--data", nargs="+", required=True, metavar="PATH", help="for the licences on the card")
    add("--command", required=True, help="how the trunk was trained, for the card")
    add("-o", "--output", default=str(TRUNK.parent), metavar="DIR")
    add("--force", action="store_true", help="replace a trunk that scores higher")
    return parser


if __name__ == "__main__":
    sys.exit(main())
