"""Ship weights: `python -m train.release --weights FILE --scores JSON --data PATH --command TEXT`.

Writes the weights as bfloat16 with their threshold, scores and licence in the file, and a model
card beside them. Weights that score lower than those they would replace are refused.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import seggpt.pretrained
from data.folder import Folder, open_folders
from seggpt.config import IN_CONTEXT_MODEL
from seggpt.pretrained import DEFAULT, ENCODER
from seggpt.weights import load_weights, save_weights
from train.evals.tool import run_tool

LICENCE = "Apache-2.0"
COLUMNS = ("model", "copy", "histogram", "everything")
SIZE = 448  # `incontext.examples.in_context_engine.SIZE`, which imports jax


def main(argv: Sequence[str] | None = None) -> int:
    """Write the weights and their card; return the exit code."""
    args = _parser().parse_args(argv)
    return run_tool("release", lambda: release(args))


def release(args: argparse.Namespace) -> None:
    """Carry out the command.

    Raises:
        ValueError: if the weights in place score higher, on the sets that neither was trained on.
    """
    loaded = load_weights(args.weights)
    reports = [json.loads(Path(path).read_text()) for path in args.scores]
    results = {result["shots"]: result for report in reports for result in report["results"]}
    target = Path(args.output) / f"{args.name}.safetensors"
    score = {
        f"{group}_{k}": means["model"]
        for k, r in results.items()
        for group, means in r["means"].items()
        if means
    }
    clicks = json.loads(Path(args.clicks).read_text()) if args.clicks else None
    if clicks:
        score["clicks"] = clicks_score(clicks)
    if target.exists() and not args.force:
        before = json.loads(load_weights(target).metadata["scores"])
        for name, what in (("unseen_1", "on unseen sets"), ("clicks", "with clicks and boxes")):
            if before.get(name, 0.0) > score.get(name, 0.0):
                raise ValueError(
                    f"{target} scores {before[name]:.1f} {what}, the new weights "
                    f"{score.get(name, 0.0):.1f}; pass --force to ship them all the same"
                )
    metadata = {
        "licence": LICENCE,
        "score": f"{score['val_1']:.0f} val, {score['unseen_1']:.0f} unseen (1-shot mIoU)",
        "scores": json.dumps(score),
        "threshold": str(results[1]["threshold"]),
        "train_sets": loaded.metadata["train_sets"],
        "command": args.command,
    }
    metadata |= {
        k: loaded.metadata[k] for k in ("encoder", "encoder_sha256") if k in loaded.metadata
    }
    save_weights(target, loaded.params, config=loaded.config, metadata=metadata, dtype="bfloat16")
    folders = [folder for path in args.data for folder in open_folders(path)]
    trained = set(metadata["train_sets"].split(","))
    card = write_card(
        args.name,
        config=loaded.config,
        metadata=metadata,
        results=results,
        folders=[f for f in folders if f.name in trained or f.kind == "sprites"],
        evaluation=args.evaluation,
        failures=Path(args.failures).read_text(),
        clicks=clicks,
    )
    target.with_suffix(".md").write_text(card)


def write_card(
    name: str,
    *,
    config: dict[str, Any],
    metadata: dict[str, str],
    results: dict[int, dict[str, Any]],
    folders: Sequence[Folder],
    evaluation: str,
    failures: str,
    clicks: dict[str, Any] | None = None,
) -> str:
    """Return the model card as Markdown."""
    lines = [
        f"# {name}",
        "",
        f"Licence: {metadata['licence']}. {_architecture(config, metadata)} "
        f"Threshold: {metadata['threshold']}.",
        "",
        "Trained with",
        "",
        f"    {metadata['command']}",
        "",
        "## Scores",
        "",
        "Mean IoU in percent: pixels are added up per class over all episodes, then averaged over",
        "classes. The `val` sets' training pictures were trained on, the `unseen` sets never were.",
        "",
        f"    {evaluation}",
        "",
    ]
    for shots, result in sorted(results.items()):
        lines += [*_table(shots, result), ""]
    lines += _click_section(name, clicks) if clicks else []
    lines += ["## Known failures", "", failures.strip(), "", "## Data", "", *data_table(folders)]
    lines += attributions(folders)
    return "\n".join(lines) + "\n"


def _architecture(config: dict[str, Any], metadata: dict[str, str]) -> str:
    """Return what a model is, in one or two sentences."""
    if config.get("model") != IN_CONTEXT_MODEL:
        return (
            f"Input: {config['image_size']} px, patches of {config['patch_size']}; width "
            f"{config['width']}, {config['depth']} blocks, {config['attention']} attention."
        )
    encoder, name = config["encoder"], metadata.get("encoder", ENCODER.stem)
    known = f"[{name}]({name}.md)" if name == ENCODER.stem else f"{name} (not shipped)"
    taps = ", ".join(str(tap + 1) for tap in encoder["taps"])
    return (
        f"Input: longer side {SIZE} px at the picture's aspect ratio. Frozen encoder "
        f"{known}, patches of {encoder['patch_size']}, blocks {taps} "
        f"read; on it {len(config['matchings'])} matchings of its layers, one of finer features "
        f"and one of colours, {config['depth']} blocks of width {config['width']} with prefix "
        "attention, and a decoder to the picture's own resolution."
    )


def data_table(folders: Sequence[Folder]) -> list[str]:
    """Return the lines of a table of data sets with their licences."""
    lines = ["| data set | licence as stated | source |", "|---|---|---|"]
    for folder in folders:
        stated = (folder.info.get(key, "not stated") for key in ("licence", "source_repo"))
        lines.append("| " + " | ".join([folder.name, *stated]) + " |")
    return lines


def attributions(folders: Sequence[Folder]) -> list[str]:
    """Return the lines that name each picture whose licence asks for that."""
    lines = []
    for folder in folders:
        pictures = folder.info.get("attribution", {})
        rows = [f"- {name}: {of['licence']}, <{of['flickr_url']}>" for name, of in pictures.items()]
        if rows:
            lines += ["", f"## Pictures of {folder.name}", "", *rows]
    return lines


def clicks_score(report: dict[str, Any]) -> float:
    """Return the model's mean over 1, 3 and 5 clicks and a box, on unseen sets if there are any."""
    groups = report["clicks"]["means"]
    return float(np.mean(list((groups.get("unseen") or groups["val"])["model"].values())))


def _click_section(name: str, report: dict[str, Any]) -> list[str]:
    """Return the tables of `train.clicks --json`."""
    config = report["config"]
    command = f"python -m train.clicks --weights {name} --data train validation"
    command += f" --objects {config['objects']}" + (" --pairs" if "pairs" in report else "")
    lines = [
        "## Clicks and boxes",
        "",
        "Mean IoU in percent of single objects, after 1, 3 and 5 clicks and with a box; each click",
        "goes to the middle of the largest error of the mask before. All get the same objects;",
        f"`val` and `unseen` as above. At most {config['objects']} objects a data set.",
        "",
        f"    {command}",
        "",
        *_click_table(report["clicks"], "clicks and box"),
        "",
    ]
    if "pairs" in report:
        lines += [
            "All of a class in a picture: by an example pair of another picture, by one click in",
            "its middle, and by the pair with one click on its largest mistake.",
            "",
            *_click_table(report["pairs"], "pair and click"),
            "",
        ]
    return lines


def _click_table(part: dict[str, Any], title: str) -> list[str]:
    columns = [
        (name, given) for name, of in next(iter(part["means"].values())).items() for given in of
    ]
    several = len({name for name, _ in columns}) > 1
    heads = [f"{name} {given}" if several else given for name, given in columns]
    rows = sorted(part["datasets"].items(), key=lambda item: (item[1]["unseen"], item[0]))
    cells = {f"{'*' * r['unseen']}{name}{'*' * r['unseen']}": r["iou"] for name, r in rows}
    cells |= {f"**{group}**": means for group, means in part["means"].items()}
    lines = ["| " + " | ".join([title, *heads]) + " |", "|---" * (1 + len(heads)) + "|"]
    for name, row in cells.items():
        numbers = [f"{row[predictor][given]:.1f}" for predictor, given in columns]
        lines.append("| " + " | ".join([name, *numbers]) + " |")
    return lines


def _table(shots: int, result: dict[str, Any]) -> list[str]:
    head = ["| " + " | ".join([f"{shots}-shot", *COLUMNS]) + " |", "|---" * 5 + "|"]
    rows = sorted(result["datasets"].items(), key=lambda item: (item[1]["unseen"], item[0]))
    body = [
        _row(f"{'*' * row['unseen']}{name}{'*' * row['unseen']}", row["iou"]) for name, row in rows
    ]
    means = [
        _row(f"**{group}**", result["means"][group])
        for group in ("val", "unseen")
        if result["means"][group]
    ]
    return head + body + means


def _row(name: str, numbers: dict[str, float]) -> str:
    return "| " + " | ".join([name, *(f"{numbers[column]:.1f}" for column in COLUMNS)]) + " |"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m train.release", description=__doc__)
    add = parser.add_argument
    add("--weights", required=True, help="weights.safetensors of a run")
    add("--scores", nargs="+", required=True, metavar="FILE", help="from train.evaluate --json")
    add("--data", nargs="+", required=True, metavar="PATH", help="for the licences on the card")
    add("--command", required=True, help="how the weights were trained, for the card")
    add("--evaluation", required=True, help="how they were scored, for the card")
    add("--failures", required=True, metavar="FILE", help="Markdown list of what goes wrong")
    add("--clicks", metavar="FILE", help="from train.clicks --json, for weights with heads")
    add("--name", default=DEFAULT)
    add("-o", "--output", default=str(Path(seggpt.pretrained.__file__).parent), metavar="DIR")
    add("--force", action="store_true", help="replace weights that score higher")
    return parser


if __name__ == "__main__":
    sys.exit(main())
