"""`seggpt segment` at work: check everything, load the model once, stream the pictures."""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import incontext
from incontext.cli.console import Console
from incontext.cli.inputs import check_examples, example_options
from incontext.cli.names import read_names
from incontext.cli.options import prompt_files
from incontext.cli.outcome import Exit
from incontext.cli.plan import Job
from incontext.cli.run import Model, failure_of, load_job, pick_formats, run_all
from incontext.cli.stream import Failure, Stream
from incontext.outputs.formats import OUTPUT_SUFFIXES
from seggpt.errors import InputError

FEW = 8  # pictures for which finding a batch size would take longer than it saves


def segment_all(args: argparse.Namespace, console: Console) -> Exit:
    """Carry out `seggpt segment`; every check that needs no model comes before the model."""
    formats = pick_formats(args, OUTPUT_SUFFIXES)
    names = read_names(args.names)
    if args.example:
        check_examples(args, args.example, formats=formats, beside_prompt=bool(args.prompt))
    return run_all(
        args,
        console,
        suffixes=[OUTPUT_SUFFIXES[name] for name in formats],
        label="segmenting",
        begin=partial(_begin, args, formats, names),
        protected=[*prompt_files(args), *([args.names] if args.names else [])],
    )


def _begin(
    args: argparse.Namespace, formats: list[str], names: dict[int, str], count: int
) -> Model:
    segmenter = incontext.Segmenter.from_pretrained(args.model, device=args.device, size=args.size)
    told = {
        "context": _read_context(args, segmenter, names),
        "threshold": args.threshold,
        "detail": args.detail,
    }
    batch_size = args.batch or (1 if count <= FEW else "auto")
    stream = Stream(
        load=partial(load_job, args),
        segment=partial(segmenter.segment, **told),
        segment_many=partial(segmenter.segment_many, batch_size=batch_size, **told),
    )

    def work(jobs: Iterator[Job]) -> Iterator[tuple[Job, dict[str, Any] | Failure]]:
        for job, outcome in stream.run(jobs):
            if isinstance(outcome, Failure):
                yield job, outcome
                continue
            try:
                outcome.save(Path(args.output), formats, name=job.name, instances=args.instances)
            except InputError as error:
                yield job, failure_of(job, error)
            else:
                yield job, {"scores": outcome.scores}

    return Model(segmenter.fingerprint, work)


def _read_context(args: argparse.Namespace, segmenter: Any, names: dict[int, str]) -> Any:
    """Read the prompt, encode the examples, or add them to it."""
    prompt = incontext.Context.load(args.prompt) if args.prompt else None
    pairs = [incontext.Example(*pair, **example_options(args)) for pair in args.example or ()]
    if prompt is not None:
        prompt = replace(prompt, names=names or prompt.names)
        return segmenter.context(pairs, like=prompt) if pairs else prompt
    return segmenter.context(pairs, ensemble=args.ensemble, seg_type=args.seg_type, names=names)
