"""`seggpt segment` at work: check everything, load the model once, stream the pictures."""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import incontext
from incontext.annotations.find import Examples
from incontext.cli.attempts import one_by_one, saved
from incontext.cli.console import Console
from incontext.cli.inputs import check_examples, make_examples, read_annotations
from incontext.cli.names import read_names
from incontext.cli.options import prompt_files
from incontext.cli.outcome import Exit
from incontext.cli.plan import Job
from incontext.cli.run import Task, pick_formats, run_all
from incontext.cli.running.pipeline import Model
from incontext.cli.stream import Stream
from incontext.cli.work.large import Large, load_any, segment_large
from incontext.options import MOST_EXAMPLES
from incontext.outputs.formats import OUTPUT_SUFFIXES

FEW = 8  # pictures for which finding a batch size would take longer than it saves


def segment_all(args: argparse.Namespace, console: Console) -> Exit:
    """Carry out `seggpt segment`; every check that needs no model comes before the model."""
    formats = pick_formats(args, OUTPUT_SUFFIXES)
    names = read_names(args.names)
    found = read_annotations(args, names, most=MOST_EXAMPLES)
    pairs = [*(args.example or ()), *found.pairs]
    if pairs:
        check_examples(args, pairs, formats=formats, beside_prompt=bool(args.prompt))
    task = Task(
        suffixes=[OUTPUT_SUFFIXES[name] for name in formats],
        label="segmenting",
        begin=partial(_begin, args, console, formats, found, names),
        protected=[*prompt_files(args), *found.files, *([args.names] if args.names else [])],
    )
    return run_all(args, console, task)


def _begin(
    args: argparse.Namespace,
    console: Console,
    formats: list[str],
    found: Examples,
    names: dict[int, str],
    count: int,
) -> Model:
    segmenter = incontext.Segmenter.from_pretrained(
        args.model, encoder=args.encoder, device=args.device, size=args.size
    )
    context = _read_context(args, segmenter, found, names)
    told = {"context": context, "threshold": args.threshold, "detail": args.detail}
    # Of all pictures, not of those that are left: a batch shapes how sums are rounded.
    fits = args.batch or (1 if count <= FEW else segmenter.batch_size(context, args.detail))
    stream = Stream(
        segment=partial(segmenter.segment, **told),
        segment_many=partial(segmenter.segment_many, **told),
        batch_size=fits,
    )

    in_parts = one_by_one(partial(segment_large, args, console, segmenter, context))

    def compute(pictures: Iterator[tuple[Job, Any]]) -> Iterator[tuple[Job, Any]]:
        for is_large, group in groupby(pictures, key=lambda pair: isinstance(pair[1], Large)):
            do = in_parts if is_large else stream.run
            yield from do(group)

    def save(job: Job, result: Any) -> dict[str, Any]:
        if isinstance(result, dict):  # it was written in parts
            return result
        result.save(Path(args.output), formats, name=job.name, instances=args.instances)
        return {"scores": result.scores}

    return Model(segmenter.fingerprint, partial(load_any, args, formats), compute, saved(save))


def _read_context(
    args: argparse.Namespace, segmenter: Any, found: Examples, names: dict[int, str]
) -> Any:
    """Read the prompt, encode the examples, or add them to it."""
    prompt = incontext.Context.load(args.prompt) if args.prompt else None
    examples = make_examples(args, args.example or (), found)
    if prompt is not None:
        prompt = replace(prompt, names=names or prompt.names)
        return segmenter.context(examples, like=prompt) if examples else prompt
    return segmenter.context(examples, ensemble=args.ensemble, seg_type=args.seg_type, names=names)
