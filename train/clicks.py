"""Score clicks and boxes: `python -m train.clicks --weights NAME --data PATH...`.

Every predictor gets the same objects (`data.clicks`), and each click goes where its own mask is
most wrong. A number is the mean IoU of a data set's objects in percent, at full picture size;
those of several sets are averaged. Sets that the weights were not trained on are `unseen` and
give all their pictures; the others give their validation split.

`--pairs` adds a second table, over the classes of all data sets: an example pair from another
picture of the class proposes a mask (`pair`), the middle of the class is clicked on without an
example (`click`), and one click mends the pair's mask (`pair + click`).
"""

import argparse
import json
import logging
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8

from data.benchmarks import Pair, load_episode, make_episodes
from data.clicks import (
    Ask,
    Click,
    Predictor,
    Prompt,
    Reply,
    Target,
    count_clicks,
    draw_targets,
    first_click,
    iou,
    load_truth,
    next_click,
    play,
    tight_box,
)
from data.folder import Folder
from train.evals.click_baselines import load_baselines
from train.evals.click_scores import (
    COUNTED,
    GOAL,
    MODEL,
    MOST_CLICKS,
    SetScores,
    format_scores,
    to_json,
)
from train.evals.click_sheets import write_sheets
from train.evals.tool import open_all, parse_sets, run_tool

logger = logging.getLogger(__name__)

Propose = Callable[[UInt8[np.ndarray, "h w 3"], Click | None], Bool[np.ndarray, "h w"]]
"""Finds in a picture what examples showed, with a click's help or without."""

Show = Callable[[Sequence[Pair]], Propose]
"""Takes in examples."""


@dataclass(frozen=True)
class Model:
    """A model that takes clicks, and example pairs too if asked; what it was trained on."""

    predictor: Predictor
    show: Show | None
    train_sets: set[str]


def evaluate(
    predictors: Mapping[str, Predictor],
    folders: Iterable[Folder],
    *,
    objects: int,
    seed: int,
    unseen: set[str],
) -> list[SetScores]:
    """Score predictors over the same objects of every data set that has instances.

    Raises:
        ValueError: if `objects` is not positive, or there is no object.
    """
    drawn: list[tuple[Folder, list[Target]]] = []
    for folder in folders:
        split = None if folder.name in unseen else "val"
        targets = draw_targets(folder, count=objects, seed=seed, split=split)
        logger.info("%s: %d objects", folder.name, len(targets))
        if targets:
            # One picture's objects in a row, so that it is studied once.
            drawn.append((folder, sorted(targets, key=lambda target: target.picture)))
    if not drawn:
        raise ValueError("--data: no instance masks with objects to click on; add such a data set")
    advance = make_progress(sum(len(targets) for _, targets in drawn), label="objects")
    return [
        _score(predictors, folder, targets, unseen=folder.name in unseen, advance=advance)
        for folder, targets in drawn
    ]


def _score(
    predictors: Mapping[str, Predictor],
    folder: Folder,
    targets: Sequence[Target],
    *,
    unseen: bool,
    advance: Callable[[], None],
) -> SetScores:
    ious = {name: defaultdict[str, list[float]](list) for name in predictors}
    seconds = dict.fromkeys(predictors, 0.0)
    counts: dict[str, list[int]] = {name: [] for name in predictors if name == MODEL}
    for picture, of_picture in groupby(targets, key=lambda target: target.picture):
        image = folder.image(picture)
        asks: dict[str, Ask] = {}
        for target in of_picture:
            truth, ignore = load_truth(folder, target)
            for name, predictor in predictors.items():
                start = time.perf_counter()
                if name not in asks:
                    asks[name] = predictor(image)
                # Baselines are slow and seldom reach the goal: of them no clicks are counted.
                most = MOST_CLICKS if name in counts else 0
                turns = play(
                    asks[name], truth, ignore=ignore, clicks=COUNTED[-1], goal=GOAL, most=most
                )
                boxed = asks[name](Prompt(box=tight_box(truth)), None).mask
                seconds[name] += time.perf_counter() - start
                if name in counts:
                    counts[name].append(count_clicks(turns, goal=GOAL, most=MOST_CLICKS))
                for count in COUNTED:
                    ious[name][str(count)].append(turns[count - 1].iou)
                ious[name]["box"].append(iou(boxed, truth, ignore=ignore))
            advance()
    columns = {name: dict(column) for name, column in ious.items()}
    return SetScores(folder.name, unseen, targets, columns, seconds, counts)


def evaluate_pairs(
    model: Model, folders: Iterable[Folder], *, episodes: int, seed: int, unseen: set[str]
) -> list[SetScores]:
    """Score a pair, a click, and a click after a pair, over 1-shot episodes of every data set.

    Regions are left out: no other picture shows the same one.

    Raises:
        ValueError: if `episodes` is not positive, or there is no episode.
    """
    drawn = []
    for folder in folders:
        split = None if folder.name in unseen else "val"
        if folder.kind != "regions":
            of_folder = make_episodes(folder, shots=1, count=episodes, seed=seed, split=split)
            drawn += [(folder, of_folder)] if of_folder else []
    if not drawn:
        raise ValueError("--pairs: no class with two pictures in --data; add a data set")
    advance = make_progress(sum(len(set(asked)) for _, asked in drawn), label="pairs")
    scores = []
    for folder, asked in drawn:
        columns = defaultdict[str, list[float]](list)
        # Small sets repeat episodes; the same result then counts that often.
        for episode, times in Counter(asked).items():
            for given, value in _pair_ious(model, *load_episode(folder, episode)).items():
                columns[given] += times * [value]
            advance()
        in_order = list(Counter(asked).elements())
        unknown = folder.name in unseen
        scores.append(SetScores(folder.name, unknown, in_order, {MODEL: dict(columns)}))
    return scores


def _pair_ious(model: Model, examples: Sequence[Pair], query: Pair) -> dict[str, float]:
    assert model.show is not None
    propose = model.show(examples)
    pair = propose(query.image, None)
    alone = first_click(query.mask)
    mend = next_click(query.mask, np.where(query.ignore, query.mask, pair))
    assert alone is not None  # a class of an episode is in its query
    masks = {
        "pair": pair,
        "click": model.predictor(query.image)(Prompt(clicks=(alone,)), None).mask,
        "pair + click": pair if mend is None else propose(query.image, mend),
    }
    return {given: iou(mask, query.mask, ignore=query.ignore) for given, mask in masks.items()}


def make_progress(total: int, *, label: str) -> Callable[[], None]:
    """Return what to call when one of `total` is done; now and then it says so on stderr."""
    is_terminal = sys.stderr.isatty()
    start = said = time.monotonic()
    done = 0

    def advance() -> None:
        nonlocal said, done
        done += 1
        now = time.monotonic()
        if now - said > (2 if is_terminal else 20) and done < total:
            said, left = now, (now - start) / done * (total - done)
            line = f"{label} {done}/{total}, {left / 60:.1f} minutes left"
            print(line, end="\r" if is_terminal else "\n", file=sys.stderr, flush=True)

    return advance


def load_model(weights: str, *, pairs: bool) -> Model:
    """Load shipped weights by name, or a file; with `pairs` they must take example pairs too."""
    # It imports jax, which neither `--help` nor the baselines need.
    from incontext import Example, Promptable, Segmenter

    if not pairs:
        promptable = Promptable.from_pretrained(weights)
        train_sets = parse_sets(promptable.metadata.get("train_sets", ""))
        return Model(partial(_study, promptable), None, train_sets)
    segmenter = Segmenter.from_pretrained(weights)
    promptable = segmenter.promptable

    def show(examples: Sequence[Pair]) -> Propose:
        context = segmenter.context([Example(pair.image, pair.mask) for pair in examples])

        def propose(
            image: UInt8[np.ndarray, "h w 3"], click: Click | None
        ) -> Bool[np.ndarray, "h w"]:
            clicked: dict[str, Any] = {}
            if click is not None:
                clicked = {"points": [[click.x, click.y]], "labels": [click.label]}
            return segmenter.segment(image, context, **clicked).label_map == 1

        return propose

    train_sets = parse_sets(promptable.metadata.get("train_sets", ""))
    return Model(partial(_study, promptable), show, train_sets)


def _study(promptable: Any, image: UInt8[np.ndarray, "h w 3"]) -> Ask:
    """Encode a picture, and ask as SAM's authors do: three masks for one click, else one.

    A click after the first comes with the logits of the mask that it corrects.
    """
    state = promptable.encode(image)

    def ask(prompt: Prompt, memory: Any) -> Reply:
        clicks = prompt.clicks
        answer = promptable.predict(
            state,
            points=[[click.x, click.y] for click in clicks] or None,
            labels=[click.label for click in clicks] or None,
            boxes=None if prompt.box is None else list(prompt.box),
            mask=memory,
            multimask=len(clicks) == 1 and memory is None,
        ).best()
        return Reply(answer.masks()[0, 0], answer.low_res[0, 0])

    return ask


def read_train_sets(weights: str) -> set[str]:
    """Read which data sets weights were trained on, without the model itself."""
    # Not every run has weights.
    from incontext.hub import find_source
    from seggpt.weights.files import is_own_file, load_weights

    path = find_source(weights)
    is_own = path.is_file() and path.suffix == ".safetensors" and is_own_file(path)
    return parse_sets(load_weights(path).metadata.get("train_sets", "") if is_own else "")


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables; return the exit code."""
    args = _parser().parse_args(argv)
    return run_tool("clicks", lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    _check(args)
    folders = open_all(args.data)
    names = {folder.name for folder in folders}
    model = None if args.baselines_only else load_model(args.weights, pairs=args.pairs)
    trained = set(args.train_sets or ())
    if args.train_sets is None and args.weights:
        trained = model.train_sets if model else read_train_sets(args.weights)
        if not trained:
            logger.warning(
                "%s does not say what it was trained on; pass --train-sets", args.weights
            )
    predictors = ({MODEL: model.predictor} if model else {}) | load_baselines()
    drawn: dict[str, Any] = {"seed": args.seed, "unseen": names - trained}
    scores = evaluate(predictors, folders, objects=args.objects, **drawn)
    print(f"\nclicks and box\n{format_scores(scores)}", flush=True)
    report = {"config": vars(args), "clicks": to_json(scores)}
    if args.sheet:
        write_sheets(Path(args.sheet), predictors, folders=folders, scores=scores)
    if model and args.pairs:
        of_pairs = evaluate_pairs(model, folders, episodes=args.objects, **drawn)
        print(f"\npair and click\n{format_scores(of_pairs)}", flush=True)
        report["pairs"] = to_json(of_pairs)
    if args.json:
        Path(args.json).write_text(json.dumps(report, indent=1))


def _check(args: argparse.Namespace) -> None:
    """Find out what cannot work before anything long starts."""
    if args.weights is None and not args.baselines_only:
        raise ValueError("--weights: name the weights, or pass --baselines-only")
    if args.pairs and args.baselines_only:
        raise ValueError("--pairs: needs a model; leave --baselines-only out")
    if args.json and not Path(args.json).parent.is_dir():
        raise ValueError(f"--json: no folder {Path(args.json).parent}; make it first")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m train.clicks", description=__doc__)
    add = parser.add_argument
    add("--weights", metavar="NAME_OR_FILE", help="they also say what is unseen")
    add("--data", nargs="+", required=True, metavar="PATH", help="folders or zips of data sets")
    add("--objects", type=int, default=40, metavar="N", help="objects a data set")
    add("--seed", type=int, default=0)
    add("--baselines-only", action="store_true", help="leave the model out")
    add("--pairs", action="store_true", help="also score example pairs, with and without a click")
    add("--train-sets", nargs="*", metavar="NAME", help="instead of what the weights say")
    add("--json", metavar="FILE", help="write all numbers here")
    add("--sheet", metavar="DIR", help="draw some objects of every data set here")
    return parser


if __name__ == "__main__":
    sys.exit(main())
