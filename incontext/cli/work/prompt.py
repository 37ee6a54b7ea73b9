"""`seggpt prompt` at work: load the model once, ask it about one picture after the other."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import incontext
from incontext.cli.attempts import load_job, one_by_one, saved
from incontext.cli.console import Console
from incontext.cli.inputs import check_examples, make_examples, read_annotations
from incontext.cli.outcome import Exit
from incontext.cli.plan import Job
from incontext.cli.run import Task, pick_formats, run_all
from incontext.cli.running.pipeline import Model
from incontext.options import MOST_EXAMPLES, PersamMethod
from incontext.outputs.formats import OUTPUT_SUFFIXES
from incontext.prompts.engine import SAMEngine
from incontext.prompts.promptable import Promptable
from incontext.result import Result
from seggpt.errors import PromptError

# Returns what is found in a picture, and how good each label probably is.
Ask = Callable[[np.ndarray], tuple[Result, Mapping[int, float]]]


def ask_all(args: argparse.Namespace, console: Console) -> Exit:
    """Carry out `seggpt prompt`."""
    formats = pick_formats(args, OUTPUT_SUFFIXES)
    found = read_annotations(args, {}, most=MOST_EXAMPLES)
    own = [args.example] if args.example else []
    if own or found.pairs:
        check_examples(args, [*own, *found.pairs], formats=formats)

    def begin(_: int) -> Model:
        model = incontext.Promptable.from_pretrained(
            args.model, encoder=args.encoder, device=args.device
        )
        is_sam = isinstance(model.engine, SAMEngine)
        if not own and not found.pairs:
            ask = _by_prompt(model, args)
        elif is_sam and (args.point or args.box):
            raise PromptError(
                f"{args.model}: SAM takes an example alone; leave points and boxes out, or take "
                "weights of seggpt's own"
            )
        elif is_sam:
            ask = _by_example(model, make_examples(args, own, found), args.method)
        else:
            segmenter = incontext.Segmenter.from_pretrained(
                args.model, encoder=args.encoder, device=args.device
            )
            ask = _by_context(segmenter, make_examples(args, own, found), args)

        def save(job: Job, answer: tuple[Result, Mapping[int, float]]) -> dict[str, Any]:
            result, scores = answer
            result.save(Path(args.output), formats, name=job.name)
            return {"scores": {str(label): round(score, 4) for label, score in scores.items()}}

        return Model(model.fingerprint, partial(load_job, args), one_by_one(ask), saved(save))

    suffixes = [OUTPUT_SUFFIXES[name] for name in formats]
    protected = [*(args.example or ()), *found.files]
    task = Task(suffixes=suffixes, label="asking", begin=begin, protected=protected)
    return run_all(args, console, task)


def _by_prompt(model: Promptable, args: argparse.Namespace) -> Ask:
    """Ask for what points and boxes mark."""

    def ask(picture: np.ndarray) -> tuple[Result, Mapping[int, float]]:
        answer = model.predict(model.encode(picture), **_prompt(args)).best()
        labels = tuple(range(1, len(answer.scores) + 1))
        result = Result.from_logits(answer.logits()[:, 0], labels, picture)
        return result, dict(zip(labels, map(float, answer.scores[:, 0]), strict=True))

    return ask


def _by_example(
    model: Promptable, examples: Sequence[incontext.Example], method: PersamMethod
) -> Ask:
    """Ask for what an example shows; it is looked at here.

    Raises:
        PromptError: There are several.
    """
    if len(examples) > 1:
        raise PromptError(
            f"SAM learns from one example, and there are {len(examples)}; choose one "
            "(--examples-limit 1), or take weights of seggpt's own"
        )
    finder = incontext.PerSAM(model)
    target = finder.learn(examples[0], method=method)

    def ask(picture: np.ndarray) -> tuple[Result, Mapping[int, float]]:
        result = finder.segment(picture, target)
        return result, result.scores

    return ask


def _by_context(
    segmenter: incontext.Segmenter,
    examples: Sequence[incontext.Example],
    args: argparse.Namespace,
) -> Ask:
    """Let the in-context model find what examples show; points and a box correct that."""
    context = segmenter.context(examples)
    prompt = {"boxes": args.box[0]} if args.box else {}
    if args.point:
        prompt |= {
            "points": [point[:2] for point in args.point],
            "labels": [point[2] for point in args.point],
        }

    def ask(picture: np.ndarray) -> tuple[Result, Mapping[int, float]]:
        result = segmenter.segment(picture, context, **prompt, about=args.about)
        return result, result.scores

    return ask


def _prompt(args: argparse.Namespace) -> dict[str, Any]:
    """Return the prompt as the model takes it.

    Only a single point may mean several things: then the best of three masks is taken. A clearer
    prompt has a mask of its own (the rule of SAM's paper, and of its ONNX export).
    """
    prompt: dict[str, Any] = {"multimask": len(args.point) == 1 and not args.box}
    if args.point:
        prompt["points"] = [point[:2] for point in args.point]
        prompt["labels"] = [point[2] for point in args.point]
    if args.box:
        prompt["boxes"] = args.box
    return prompt
