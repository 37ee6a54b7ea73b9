"""Score weights by a benchmark's protocol.

    python -m train.evals --benchmark coco20i --data PATH --weights seggpt-small --fold 0 --shots 1

Folds, classes and episodes are those of HSNet (COCO-20i, PASCAL-5i, FSS-1000), Matcher (LVIS-92i)
and PerSAM (PerSeg), from seed 0. A mask is compared in the size of its picture, where HSNet's own
default is 400 x 400 pixels.
"""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from data.benchmarks import layouts
from data.benchmarks.episodes import Episode
from data.benchmarks.layouts import Layout, open_layout
from data.benchmarks.protocols import FOLDS, SEED, Name, draw_episodes
from incontext.options import Detail
from train.evals.baselines import BASELINES, Predict
from train.evals.tallies import Tally
from train.evals.tool import run_tool

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line for each predictor and fold; return the exit code."""
    args = _parser().parse_args(argv)
    return run_tool("evals", lambda: _run(args))


def score(
    predict: Predict, layout: Layout, episodes: Sequence[Episode], *, threshold: float = 0.5
) -> Tally:
    """Count a predictor's pixels over all episodes."""
    tally = Tally()
    for number, episode in enumerate(episodes, start=1):
        examples, query = layout.load(episode)
        tally.add(episode.class_id, predict(examples, query.image) >= threshold, query)
        if number % 50 == 0:
            logger.info("%d of %d episodes, FB-IoU %.2f", number, len(episodes), tally.fb_iou())
    return tally


def _run(args: argparse.Namespace) -> None:
    predictors = _predictors(args)
    folds = range(FOLDS[args.benchmark]) if args.fold is None else [args.fold]
    results: list[dict[str, Any]] = []
    splits = Path(args.splits) if args.splits else None
    for fold in folds:
        layout = open_layout(args.benchmark, Path(args.data), fold=fold, splits=splits)
        pool = layout.pool
        episodes = draw_episodes(args.benchmark, pool, fold=fold, shots=args.shots, seed=args.seed)
        episodes = episodes[: args.limit]
        if not pool.is_official:
            logger.warning("%s: lists of pictures are made here; see --splits", args.benchmark)
        for name, (predict, threshold) in predictors.items():
            tally = score(predict, layout, episodes, threshold=threshold)
            row: dict[str, Any] = {"benchmark": args.benchmark, "fold": fold, "shots": args.shots}
            row |= {"predictor": name, "episodes": len(episodes), "seed": args.seed}
            row |= {"official_lists": pool.is_official}
            row |= {"miou": tally.miou(), "fb_iou": tally.fb_iou()}
            print(_line(row), flush=True)
            by_class = {pool.classes[c]: iou for c, iou in tally.class_iou().items()}
            results.append(row | {"classes": by_class})
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=1))


def _line(row: dict[str, Any]) -> str:
    return (
        f"{row['benchmark']} fold {row['fold']} {row['shots']}-shot  {row['predictor']:10}  "
        f"mIoU {row['miou']:.2f}  FB-IoU {row['fb_iou']:.2f}  ({row['episodes']} episodes, "
        f"seed {row['seed']})"
    )


def _predictors(args: argparse.Namespace) -> dict[str, tuple[Predict, float]]:
    """Return what is scored, each with its threshold."""
    if args.weights == "none":
        return {name: (predict, 0.5) for name, predict in BASELINES.items()}
    # It imports jax, which `--help` need not wait for.
    from train.evaluate import load_model

    model = load_model(args.weights, detail=args.detail, size=args.size)
    return {Path(args.weights).stem: (model.predict, args.threshold or model.threshold)}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m train.evals",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=layouts.__doc__,
    )
    add = parser.add_argument
    add("--benchmark", required=True, choices=get_args(Name))
    add("--data", required=True, metavar="PATH", help="its folder, or prepared, see below")
    add("--weights", default="seggpt-small", help="a name, a file, or `none` for the baselines")
    add("--fold", type=int, help="one fold; default: all, one after the other")
    add("--shots", type=int, default=1, help="examples of an episode (default: 1)")
    add("--seed", type=int, default=SEED, help=f"of the episodes (default: {SEED}, as published)")
    add("--splits", metavar="DIR", help="a copy of data/splits of HSNet: the published lists")
    add("--limit", type=int, metavar="N", help="only the first N episodes of a fold, to try it")
    add("--detail", choices=get_args(Detail), default="plain", help="how closely to look")
    add("--size", type=int, help="longer side at which pictures are seen; default: the model's")
    add("--threshold", type=float, help="least probability of foreground; default: the weights'")
    add("--json", metavar="FILE", help="write all numbers here")
    return parser


if __name__ == "__main__":
    sys.exit(main())
