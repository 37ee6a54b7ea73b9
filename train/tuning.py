"""Score tuned prompts: `python -m train.tuning --data PATH --set NAME --draws 1 2`.

Each draw takes some labelled pictures of a data set at random, tunes a prompt from them as `seggpt
tune` does, and scores it on other pictures beside every untuned context of the same pictures: the
best single example and all by both ensembles, the larger look included. A context is scored at the
threshold that its own pictures chose; what it reaches at the best one on the others stands beside.
"""

import argparse
import dataclasses
import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from data.folder import IGNORE, Folder, open_folders
from incontext import Segmenter
from incontext.examples.context import Context, Example
from incontext.examples.engine import SegGPTEngine
from incontext.tune.baselines import count_result
from incontext.tune.config import TuneConfig
from incontext.tune.scores import THRESHOLDS, Counts, no_counts
from incontext.tune.tuner import Tuned, tune_prompt
from train.evals.tool import run_tool

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Pair:
    """A picture and its mask, of 0 for what is no label."""

    image: UInt8[np.ndarray, "h w 3"]
    mask: UInt8[np.ndarray, "h w"]


@dataclasses.dataclass(frozen=True)
class Row:
    """How a context does on the other pictures.

    Attributes:
        name: What it is of.
        threshold: The one that was chosen without them.
        counts: What it found on them.
    """

    name: str
    threshold: float
    counts: Counts

    @property
    def score(self) -> float:
        """Mean IoU at the chosen threshold, in percent."""
        return self.counts.mean(self.threshold)

    @property
    def best(self) -> float:
        """Mean IoU at the best threshold on those same pictures."""
        return max(self.counts.mean(threshold) for threshold in THRESHOLDS)


def draw_pairs(
    folder: Folder,
    *,
    label: int | None,
    merge: bool = False,
    area: float,
    count: int,
    others: int,
    seed: int,
) -> tuple[list[Pair], list[Pair]]:
    """Draw pictures to learn from, and others; `label` keeps those that show enough of it.

    With `merge` all labels are one.

    Raises:
        ValueError: if there are not enough.
    """
    names = folder.pictures()
    if label is not None:
        names = [name for name in names if folder.areas(name).get(label, 0) > area]
    if len(names) <= count:
        raise ValueError(
            f"{folder.name}: {len(names)} pictures can be drawn, and {count} to learn from and "
            "others to score on are asked for; lower --examples or --area"
        )
    order = np.random.default_rng(seed).permutation(names).tolist()[: count + others]
    pairs = [_read(folder, name, label, merge=merge) for name in order]
    return pairs[:count], pairs[count:]


def _read(folder: Folder, name: str, label: int | None, *, merge: bool) -> Pair:
    mask = folder.labels(name)
    if label is not None:
        mask = np.where((mask == label) | (mask == IGNORE), mask, 0).astype(np.uint8)
    if merge:
        mask = np.where(mask == IGNORE, mask, mask > 0).astype(np.uint8)
    return Pair(folder.image(name), mask)


def score_others(
    segmenter: Segmenter,
    tuned: Tuned,
    pairs: Sequence[Pair],
    labels: Sequence[int],
    *,
    skip_untuned: bool = False,
) -> Iterator[Row]:
    """Yield the row of every context of a run, the tuned one's last.

    The larger look, which takes four times as long, is for the single example and for the ensemble
    that does better on these pictures.
    """
    untuned = () if skip_untuned else tuned.plains
    plains = [plain for plain in untuned if plain.context.detail == "plain"]
    rows = {}
    for plain in plains:
        counts = _count(segmenter, plain.context, pairs, labels)
        rows[plain.name] = Row(plain.name, plain.threshold, counts)
        yield rows[plain.name]
    ensembles = [plain for plain in plains if len(plain.rows) > 1]
    looked = [plain for plain in plains if len(plain.rows) == 1]
    looked += sorted(ensembles, key=lambda plain: -rows[plain.name].best)[:1]
    own = {plain.name: plain.threshold for plain in tuned.plains}
    engine = segmenter.engine
    looks = isinstance(engine, SegGPTEngine) and engine.sees_other_sizes
    for plain in looked if looks else ():
        name = f"{plain.name}, large"
        larger = dataclasses.replace(plain.context, detail="large")
        counts = _count(segmenter, larger, pairs, labels)
        yield Row(name, own.get(name, plain.threshold), counts)
    counts = _count(segmenter, tuned.tuned_context, pairs, labels)
    yield Row("tuned", tuned.threshold, counts)


def _count(
    segmenter: Segmenter, context: Context, pairs: Sequence[Pair], labels: Sequence[int]
) -> Counts:
    total = no_counts(len(labels))
    class_id_of = np.zeros(256, np.uint8)
    class_id_of[list(labels)] = np.arange(1, len(labels) + 1)
    class_id_of[IGNORE] = IGNORE
    results = segmenter.segment_many([pair.image for pair in pairs], context)
    for result, pair in zip(results, pairs, strict=True):
        total += count_result(result, class_id_of[pair.mask], labels=labels)
    return total


def main(argv: Sequence[str] | None = None) -> int:
    """Tune and score; return the exit code."""
    args = _parser().parse_args(argv)
    return run_tool("tuning", lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    _check(args)
    [folder] = open_folders(args.data, names=[args.set])
    segmenter = Segmenter.from_pretrained(args.weights)
    draws = {"label": args.label, "merge": args.merge, "area": args.area}
    draws |= {"count": args.examples, "others": args.others}
    report = []
    for seed in args.draws:
        pairs, others = draw_pairs(folder, **draws, seed=seed)
        config = TuneConfig(minutes=args.minutes, turns=args.turns, steps=args.steps)
        started, before = time.monotonic(), time.process_time()
        tuned = tune_prompt(
            segmenter,
            [Example(pair.image, pair.mask, kind="labels", ignore=IGNORE) for pair in pairs],
            config=config,
            say=logger.info,
            tell=lambda progress: _tell(progress.step, progress.steps),
        )
        wall, cpu = time.monotonic() - started, time.process_time() - before
        print(
            f"\n{folder.name}, draw {seed}: {len(pairs)} pictures, {len(others)} others; tuned in "
            f"{wall:.0f} s on {os.cpu_count()} cores ({cpu:.0f} s CPU), {tuned.verdict}",
            flush=True,
        )
        if args.output:
            target = Path(args.output) / f"{folder.name}-{seed}.safetensors"
            tuned.tuned_context.save(target)
        rows = []
        labels, skip = tuned.learned_from.labels, args.skip_untuned
        for row in score_others(segmenter, tuned, others, labels, skip_untuned=skip):
            text = f"{row.name:28} {row.score:5.1f} at {row.threshold:.2f}, {row.best:5.1f} at best"
            print(text, flush=True)
            rows.append({"name": row.name, "score": row.score, "best": row.best})
        *plain, last = rows
        if plain:
            gains = {key: last[key] - max(row[key] for row in plain) for key in ("score", "best")}
            print(f"above the best untuned: {gains['score']:+.1f}, {gains['best']:+.1f} at best")
        report.append({"set": folder.name, "draw": seed, "rows": rows, "seconds": wall, "cpu": cpu})
        if args.json:
            Path(args.json).write_text(json.dumps(report, indent=1))


def _check(args: argparse.Namespace) -> None:
    """Find out what cannot work before anything long starts."""
    if args.json and not Path(args.json).parent.is_dir():
        raise ValueError(f"--json: no folder {Path(args.json).parent}; make it first")
    if args.output and not Path(args.output).is_dir():
        raise ValueError(f"--output: no folder {args.output}; make it first")
    if args.merge and args.label is not None:
        raise ValueError("--merge takes all classes and --label one: give one of them")
    for name in ("examples", "others"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name} {getattr(args, name)} must be at least 1")


def _tell(step: int, steps: int) -> None:
    if step % 20 == 0:
        logger.info("step %d of %d", step, steps)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m train.tuning", description=__doc__)
    add = parser.add_argument
    add("--data", required=True, metavar="PATH", help="a folder or zip of data sets")
    add("--set", required=True, metavar="NAME", help="the one to draw from")
    add("--label", type=int, metavar="ID", help="this class alone, of pictures that show it")
    add("--merge", action="store_true", help="all classes as one label")
    add("--area", type=float, default=0.02, help="least share of a picture for --label to count")
    add("--draws", type=int, nargs="+", default=[0], metavar="SEED")
    add("--examples", type=int, default=16, metavar="N", help="pictures to learn from")
    add("--others", type=int, default=60, metavar="N", help="pictures to score on, at most")
    add("--weights", default="seggpt-small", metavar="NAME_OR_FILE")
    add("--minutes", type=float, help="of tuning, at most; as for `seggpt tune`")
    add("--steps", type=int, default=0, help="0 chooses")
    add("--turns", action="store_true", help="as for `seggpt tune`")
    add("--skip-untuned", action="store_true", help="score the prompt alone on the others")
    add("--json", metavar="FILE", help="write all numbers here")
    add("-o", "--output", metavar="DIR", help="save the tuned prompts here")
    return parser


if __name__ == "__main__":
    sys.exit(main())
