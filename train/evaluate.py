"""Score a model next to the baselines: `python -m train.evaluate --weights NAME --data PATH...`.

All predictors see the same fixed episodes (`data.benchmarks`); `train.evals.scores` says what is
counted. A data set that the weights were not trained on is `unseen` and gives all its pictures; the
others give their validation split.
"""

import argparse
import json
import logging
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import UInt8

from data.benchmarks import Episode, Pair, load_episode, make_episodes, make_reader
from data.folder import Folder
from incontext.options import Detail
from seggpt.config import InContextConfig, MatchingConfig
from train.evals.baselines import BASELINES, Predict, Prediction
from train.evals.scores import DatasetScores, Scores, count_pixels, format_scores, to_json
from train.evals.sheets import write_sheets
from train.evals.tool import open_all, parse_sets, run_tool

logger = logging.getLogger(__name__)

Split = Literal["auto", "train", "val", "all"]
SWEEP = tuple(round(0.05 * step, 2) for step in range(1, 20))


def evaluate(
    predictors: Mapping[str, Predict],
    folders: Iterable[Folder],
    *,
    shots: int,
    episodes: int,
    seed: int,
    unseen: set[str],
    split: Split = "auto",
    threshold: float = 0.5,
    sweep: Sequence[float] = (),
) -> Scores:
    """Score predictors over the same episodes of every data set.

    Data sets without episodes (sprites, or no class with two pictures) are left out. Predictions
    that are probabilities are foreground from `threshold` on; they are also counted at those of
    `sweep`. `split` "auto" takes all pictures of the sets in `unseen` and the others' "val".

    Raises:
        ValueError: if a threshold is not in 0..1, or `shots` or `episodes` is not positive.
    """
    thresholds = tuple(sorted({threshold, *sweep}))
    if not 0 < thresholds[0] <= thresholds[-1] <= 1:
        raise ValueError(f"thresholds {thresholds} must be above 0 and at most 1")
    scored = []
    for folder in folders:
        is_unseen = folder.name in unseen
        part = ("all" if is_unseen else "val") if split == "auto" else split
        part = None if part == "all" else part
        drawn = make_episodes(folder, shots=shots, count=episodes, seed=seed, split=part)
        logger.info("%s: %d episodes, %d shots", folder.name, len(drawn), shots)
        if drawn:
            counts, seconds = _score(predictors, folder, drawn, thresholds=thresholds)
            scored.append(DatasetScores(folder.name, is_unseen, tuple(drawn), counts, seconds))
    return Scores(tuple(scored), thresholds, threshold)


def _score(
    predictors: Mapping[str, Predict],
    folder: Folder,
    drawn: Sequence[Episode],
    *,
    thresholds: Sequence[float],
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, float]]:
    counts = {name: defaultdict(lambda: np.zeros((len(thresholds), 2), int)) for name in predictors}
    seconds = dict.fromkeys(predictors, 0.0)
    read = make_reader(folder)
    # Small sets repeat episodes; the same prediction then counts that often.
    for episode, times in Counter(drawn).items():
        examples, query = load_episode(folder, episode, read=read)
        for name, predict in predictors.items():
            start = time.perf_counter()
            prediction = predict(examples, query.image)
            seconds[name] += time.perf_counter() - start
            pixels = count_pixels(prediction, query, thresholds=thresholds)
            counts[name][episode.class_name] += times * pixels
    return {name: dict(of_class) for name, of_class in counts.items()}, seconds


CACHED_EMBEDDINGS = 300  # of 7 MB each


@dataclass(frozen=True)
class Model:
    """A model as a predictor of probabilities, and what its weights say of themselves."""

    predict: Predict
    train_sets: set[str]
    threshold: float


def load_model(weights: str, *, detail: Detail = "plain", size: int | None = None) -> Model:
    """Load shipped weights by name, or a file, to look at pictures with so much `detail`."""
    # It imports jax, which neither `--help` nor the baselines need.
    from incontext import Example, Segmenter

    segmenter = Segmenter.from_pretrained(weights, size=size)
    can_encode = isinstance(segmenter.config, InContextConfig | MatchingConfig)
    if "train_sets" not in segmenter.metadata:
        logger.warning("%s does not say what it was trained on; pass --train-sets", weights)

    known: dict[int, Any] = {}  # pictures of small sets come up in many episodes

    def encode(image: UInt8[np.ndarray, "h w 3"]) -> Any:
        if not can_encode:
            return image
        if id(image) not in known:
            if len(known) >= CACHED_EMBEDDINGS:
                known.clear()
            known[id(image)] = image, segmenter.encode(image)  # the image is kept, and so its id
        return known[id(image)][1]

    def predict(examples: Sequence[Pair], image: UInt8[np.ndarray, "h w 3"]) -> Prediction:
        context = segmenter.context([Example(encode(pair.image), pair.mask) for pair in examples])
        return segmenter.segment(encode(image), context, detail=detail).probabilities()[1]

    train_sets = parse_sets(segmenter.metadata.get("train_sets", ""))
    return Model(predict, train_sets, segmenter.threshold)


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table for each number of shots; return the exit code."""
    args = _parser().parse_args(argv)
    return run_tool("evaluate", lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    folders = open_all(args.data)
    names = {folder.name for folder in folders}
    model = (
        None
        if args.weights == "none"
        else load_model(args.weights, detail=args.detail, size=args.size)
    )
    predictors = ({"model": model.predict} if model else {}) | BASELINES
    trained = model.train_sets if model and args.train_sets is None else set(args.train_sets or ())
    threshold = args.threshold or (model.threshold if model else 0.5)
    unseen = names - trained
    results = []
    for shots in args.shots:
        scores = evaluate(
            predictors,
            folders,
            shots=shots,
            episodes=args.episodes,
            seed=args.seed,
            unseen=unseen,
            split=args.split,
            threshold=threshold,
            sweep=SWEEP if args.sweep and model else (),
        )
        print(f"\n{shots}-shot, threshold {threshold}\n{format_scores(scores)}", flush=True)
        results.append({"shots": shots} | to_json(scores))
        if args.sheets:
            directory = Path(args.sheets) / f"{shots}-shot"
            first = next(iter(predictors.values()))
            write_sheets(directory, first, folders=folders, scores=scores)
    if args.json:
        report = {"config": vars(args), "results": results}
        Path(args.json).write_text(json.dumps(report, indent=1))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m train.evaluate", description=__doc__)
    add = parser.add_argument
    add("--weights", required=True, help="a name, a file, or `none` for the baselines alone")
    add("--data", nargs="+", required=True, metavar="PATH", help="folders or zips of data sets")
    add("--split", choices=get_args(Split), default="auto", help="auto: val, or all if unseen")
    add("--shots", nargs="+", type=int, default=[1, 4], help="numbers of examples")
    add("--episodes", type=int, default=40, help="episodes a data set")
    add("--seed", type=int, default=0)
    add("--detail", choices=get_args(Detail), default="plain", help="how closely to look")
    add("--size", type=int, help="longer side at which pictures are seen; default: the model's")
    add("--threshold", type=float, help="least probability of foreground; default: the weights'")
    add("--sweep", action="store_true", help="also score the model at thresholds 0.05 to 0.95")
    add("--train-sets", nargs="*", metavar="NAME", help="instead of what the weights say")
    add("--json", metavar="FILE", help="write all numbers here")
    add("--sheets", metavar="DIR", help="draw some episodes of every data set here")
    return parser


if __name__ == "__main__":
    sys.exit(main())
