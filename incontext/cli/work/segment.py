"""`seggpt segment` at work: check everything, load the model once, stream the pictures."""

import argparse
import errno
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import incontext
from incontext.cli.console import Console
from incontext.cli.environment import prepare_jax, versions
from incontext.cli.outcome import Exit, Terminated, UsageError
from incontext.cli.plan import Job, Plan, make_plan, require_writable
from incontext.cli.runlog import RESULTS, RunLog
from incontext.cli.stream import Failure, Stream
from incontext.cli.verbs.segment import prompt_files
from incontext.files.images import load_image
from incontext.files.mask_rules import AskedKind
from incontext.files.masks import check_same_size, load_masks
from incontext.result import OUTPUT_SUFFIXES, Result
from seggpt.errors import InputError, SegGPTError

FEW = 8  # pictures for which finding a batch size would take longer than it saves
# After one of these no later picture can be written either.
_DISK_TROUBLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}


def segment_all(args: argparse.Namespace, console: Console) -> Exit:
    """Carry out `seggpt segment`; every check that needs no model comes before the model."""
    out = Path(args.output)
    formats = parse_formats(args.format or ["mask"])
    plan = make_plan(
        args.targets,
        out,
        suffixes=[OUTPUT_SUFFIXES[name] for name in formats],
        recursive=not args.no_recursive,
        existing="overwrite" if args.overwrite else "skip" if args.skip_existing else "refuse",
        protected=map(Path, prompt_files(args)),
    )
    require_writable(out)
    if args.example:
        check_examples([(image, mask) for image, mask in args.example], kind=args.mask_kind)
    if args.dry_run:
        return show(plan, console)
    for problem in plan.problems:
        console.error(problem)
        console.event("result", input=None, status="failed", error=problem)
    if plan.problems and (args.on_error == "stop" or not (plan.jobs or plan.skipped)):
        return Exit.NOTHING
    if not plan.jobs:
        console.say(f"nothing to do: {len(plan.skipped)} done before in {out}")
        return Exit.PARTIAL if plan.problems else Exit.DONE
    return Run(args, console, plan, formats=formats).carry_out()


def parse_formats(lists: Sequence[str]) -> list[str]:
    """Return the formats named in comma-separated lists, each once.

    Raises:
        UsageError: A format is unknown.
    """
    names = [name.strip() for text in lists for name in text.split(",") if name.strip()]
    for name in names:
        if name not in OUTPUT_SUFFIXES:
            raise UsageError(f"unknown format {name!r}; choose from {', '.join(OUTPUT_SUFFIXES)}")
    if not names:
        raise UsageError(f"no format; choose from {', '.join(OUTPUT_SUFFIXES)}")
    return list(dict.fromkeys(names))


def check_examples(pairs: Sequence[tuple[str, str]], *, kind: AskedKind) -> None:
    """Read the example pairs once before there is a model, as loading one takes seconds.

    Raises:
        UsageError: A pair does not make sense.
    """
    logging.disable(logging.CRITICAL)  # what is noted now is noted again with the model
    try:
        masks = load_masks([mask for _, mask in pairs], kind=kind)
        for (image, mask), loaded in zip(pairs, masks, strict=True):
            check_same_size(load_image(image), loaded.labels, image_name=image, mask_name=mask)
    except InputError as error:
        raise UsageError(f"example: {error}") from error
    finally:
        logging.disable(logging.NOTSET)


def show(plan: Plan, console: Console) -> Exit:
    """Say what would be done and do nothing."""
    for job in plan.jobs:
        if console.events:
            console.event(
                "plan", input=str(job.source), outputs=[str(path) for path in job.outputs]
            )
        else:
            console.data(f"{job.source} -> {', '.join(map(str, job.outputs))}")
    for problem in plan.problems:
        console.error(problem)
    console.say(f"dry run: {len(plan.jobs)} to do, {len(plan.skipped)} done before")
    if plan.problems:
        return Exit.PARTIAL if plan.jobs or plan.skipped else Exit.NOTHING
    return Exit.DONE


@dataclass
class Tally:
    """How many inputs ended which way."""

    written: int = 0
    failed: int = 0
    skipped: int = 0

    @property
    def code(self) -> Exit:
        """The exit code of what has been done so far."""
        if not self.failed:
            return Exit.DONE
        return Exit.PARTIAL if self.written or self.skipped else Exit.NOTHING

    def __str__(self) -> str:
        text = f"{self.written} written, {self.failed} failed"
        return f"{text}, {self.skipped} done before" if self.skipped else text


class Run:
    """One run over a plan: the model, the log, the counts."""

    def __init__(
        self, args: argparse.Namespace, console: Console, plan: Plan, *, formats: list[str]
    ) -> None:
        self._args = args
        self._console = console
        self._plan = plan
        self._formats = formats
        self._out = Path(args.output)
        self._tally = Tally(failed=len(plan.problems), skipped=len(plan.skipped))
        self._left = len(plan.jobs)
        self._clock = time.monotonic()

    def carry_out(self) -> Exit:
        """Segment every job and return the exit code."""
        prepare_jax()
        args, console = self._args, self._console
        segmenter = incontext.Segmenter.from_pretrained(
            args.model, device=args.device, size=args.size
        )
        context = self._context(segmenter)
        look = {"threshold": args.threshold, "detail": args.detail}
        stream = Stream(
            load=self._load,
            segment=partial(segmenter.segment, context=context, **look),
            segment_many=partial(
                segmenter.segment_many,
                context=context,
                batch_size=args.batch or (1 if len(self._plan.jobs) <= FEW else "auto"),
                **look,
            ),
        )
        arguments = {name: value for name, value in vars(args).items() if name != "run"}
        about: dict[str, object] = {
            "arguments": arguments,
            "model": segmenter.fingerprint,
            "versions": versions(),
        }
        with RunLog(self._out, about=about) as log:
            self._open(log)
            self._work_to_the_end(stream, log)
        seconds = time.monotonic() - self._clock
        console.event("end", **vars(self._tally), seconds=round(seconds, 3))
        seen = f" (see {self._out / RESULTS})" if self._tally.failed else ""
        console.say(f"{self._tally} in {seconds:.1f} s -> {self._out}{seen}")
        return self._tally.code

    def _work_to_the_end(self, stream: Stream, log: RunLog) -> None:
        """Work until all is done or nothing more can be, and put down which."""
        state = "failed"
        try:
            self._work(stream, log)
            state = "done"
        except (KeyboardInterrupt, Terminated) as stop:
            state = "interrupted"
            stop.add_note(f"{self._tally}, {self._left} left; go on with --skip-existing")
            raise
        except SegGPTError as error:  # the device, or the disk: no later picture could fare better
            if not self._tally.written:
                raise
            self._console.error(f"{error}; go on with --skip-existing")
            self._tally.failed += self._left
        finally:
            log.describe(state, **vars(self._tally))

    def _context(self, segmenter: Any) -> Any:
        """Read the prompt, encode the examples, or add them to it."""
        args = self._args
        prompt = incontext.Context.load(args.prompt) if args.prompt else None
        pairs = [incontext.Example(*pair, kind=args.mask_kind) for pair in args.example or ()]
        if prompt is not None:
            return segmenter.context(pairs, like=prompt) if pairs else prompt
        return segmenter.context(pairs, ensemble=args.ensemble, seg_type=args.seg_type)

    def _load(self, job: Job) -> np.ndarray:
        limit = self._args.max_pixels
        return load_image(job.source, **({} if limit is None else {"max_pixels": limit}))

    def _open(self, log: RunLog) -> None:
        plan = self._plan
        try:
            known = log.open(redo={str(job.source) for job in plan.jobs} | set(plan.problems))
        except OSError as error:
            raise InputError(f"cannot write {self._out}: {error.strerror}") from error
        self._console.event("start", inputs=len(plan.jobs), skipped=len(plan.skipped))
        for job in plan.skipped:
            if str(job.source) not in known:
                log.add(_record(job, "skipped", outputs=job.outputs))
        for problem in plan.problems:
            log.add({"input": problem, "status": "failed", "error": problem, "outputs": []})

    def _work(self, stream: Stream, log: RunLog) -> None:
        before = time.monotonic()
        with self._console.progress(len(self._plan.jobs), label="segmenting") as advance:
            for job, outcome in stream.run(iter(self._plan.jobs)):
                record = self._finish(job, outcome)
                self._left -= 1
                now = time.monotonic()
                record["seconds"] = round(now - before, 4)
                before = now
                log.add(record)
                self._console.event("result", **record)
                advance()
                if record["status"] == "failed" and self._args.on_error == "stop":
                    return

    def _finish(self, job: Job, outcome: Result | Failure) -> dict[str, Any]:
        """Write the files of one result, or say why there are none."""
        if not isinstance(outcome, Failure):
            try:
                paths = outcome.save(self._out, self._formats, name=job.name)
            except InputError as error:
                cause = error.__cause__
                if isinstance(cause, OSError) and cause.errno in _DISK_TROUBLE:
                    raise
                outcome = Failure(str(error))
            else:
                self._tally.written += 1
                return _record(job, "done", outputs=paths, scores=outcome.scores)
        self._tally.failed += 1
        then = "stopped" if self._args.on_error == "stop" else "skipped"
        self._console.error(f"{outcome.reason}; {then}")
        return _record(job, "failed", error=outcome.reason)


def _record(
    job: Job, status: str, *, outputs: Sequence[Path] = (), **more: object
) -> dict[str, Any]:
    written = [str(path) for path in outputs]
    return {"input": str(job.source), "status": status, "outputs": written, **more}
