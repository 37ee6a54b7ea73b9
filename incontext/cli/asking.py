"""`seggpt prompt` at work: load the model once, ask it about one picture after the other."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

import incontext
from incontext.cli.console import Console
from incontext.cli.onebyone import Work, pick_formats, run_one_by_one
from incontext.cli.outcome import Exit
from incontext.cli.plan import Job
from incontext.results import OUTPUT_SUFFIXES, Result


def ask_all(args: argparse.Namespace, console: Console) -> Exit:
    """Carry out `seggpt prompt`."""
    formats = pick_formats(args, OUTPUT_SUFFIXES)

    def begin() -> tuple[str, Work]:
        model = incontext.Predictor.from_pretrained(args.model, device=args.device).model

        def work(job: Job, picture: np.ndarray) -> dict[str, Any]:
            answer = model.predict(model.encode(picture), **_prompt(args))
            best = answer.scores.argmax(axis=1)
            rows = np.arange(len(best))
            result = Result(
                probabilities_lowres=_shares(answer.logits()[rows, best]),
                labels=tuple(range(1, len(best) + 1)),
                size=picture.shape[:2],
                image=picture,
            )
            result.save(Path(args.output), formats, name=job.name)
            scores = answer.scores[rows, best]
            return {"scores": {str(n): round(float(s), 4) for n, s in enumerate(scores, 1)}}

        return model.fingerprint, work

    suffixes = [OUTPUT_SUFFIXES[name] for name in formats]
    return run_one_by_one(args, console, suffixes=suffixes, label="asking", begin=begin)


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


def _shares(
    logits: Float32[np.ndarray, "labels h w"],
) -> Float32[np.ndarray, "planes h w"]:
    """Turn each label's logits into shares of background and labels that sum to 1.

    The background has what the strongest label leaves, so a label wins where its logit is the
    highest and above 0.
    """
    chances = 0.5 * (1.0 + np.tanh(0.5 * logits))
    planes = np.concatenate([1.0 - chances.max(axis=0, keepdims=True), chances])
    return (planes / planes.sum(axis=0)).astype(np.float32)
