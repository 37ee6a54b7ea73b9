"""The loop of all verbs over images: plan, files, log, counts, progress and exit code."""

import argparse
import errno
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from incontext.cli.console import Console
from incontext.cli.environment import prepare_jax, versions
from incontext.cli.inputs import picture_options
from incontext.cli.outcome import Exit, Terminated, UsageError, foresee
from incontext.cli.plan import Job, Plan, make_plan, require_writable
from incontext.cli.runlog import RESULTS, RunLog
from incontext.cli.stream import Failure
from incontext.files.images import load_image
from seggpt.errors import InputError, PromptError

# After one of these no later picture can be written either.
_DISK_TROUBLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}

# Writes the files of each job, and yields what the log says of it beside them, or why there are
# none.
Work = Callable[[Iterator[Job]], Iterable[tuple[Job, "dict[str, Any] | Failure"]]]


@dataclass(frozen=True)
class Model:
    """A loaded model at work: what tells it from others, and what it does."""

    fingerprint: str
    work: Work


@dataclass
class Tally:
    """How many inputs ended which way."""

    written: int = 0
    failed: int = 0
    skipped: int = 0

    def __str__(self) -> str:
        text = f"{self.written} written, {self.failed} failed"
        return f"{text}, {self.skipped} done before" if self.skipped else text


def run_all(
    args: argparse.Namespace,
    console: Console,
    *,
    suffixes: list[str],
    label: str,
    begin: Callable[[int], Model],
    protected: Iterable[str] = (),
) -> Exit:
    """Do the work for every picture that the arguments name.

    Args:
        args: Of a verb over pictures (`incontext.cli.options`).
        console: Where things are said.
        suffixes: What is written for a picture, as endings of its name.
        label: Of the progress bar.
        begin: Loads the model for so many pictures.
        protected: Files that nothing may be written over.
    """
    out = Path(args.output)
    plan = make_plan(
        args.targets,
        out,
        suffixes=suffixes,
        recursive=not args.no_recursive,
        existing="overwrite" if args.overwrite else "skip" if args.skip_existing else "refuse",
        protected=map(Path, protected),
    )
    require_writable(out)
    if args.dry_run:
        return _show(plan, console)
    for problem in plan.problems:
        console.error(problem)
        console.event("result", input=None, status="failed", error=problem)
    if plan.problems and (args.on_error == "stop" or not (plan.jobs or plan.skipped)):
        return Exit.NOTHING
    if not plan.jobs:
        console.say(f"nothing to do: {len(plan.skipped)} done before in {out}")
        return Exit.PARTIAL if plan.problems else Exit.DONE
    prepare_jax()
    started = time.monotonic()
    model = begin(len(plan.jobs))
    arguments = {name: value for name, value in vars(args).items() if name != "run"}
    about: dict[str, object] = {
        "arguments": arguments,
        "model": model.fingerprint,
        "versions": versions(),
    }
    with RunLog(out, about=about) as log:
        run = _Run(plan, console, log, stops=args.on_error == "stop")
        run.carry_out(model.work, label=label)
    tally, seconds = run.tally, time.monotonic() - started
    console.event("end", **vars(tally), seconds=round(seconds, 3))
    seen = f" (see {out / RESULTS})" if tally.failed else ""
    console.say(f"{tally} in {seconds:.1f} s -> {out}{seen}")
    return run.code


class _Run:
    """One run over a plan: the log and the counts."""

    def __init__(self, plan: Plan, console: Console, log: RunLog, *, stops: bool) -> None:
        self.plan, self.console, self.log, self.stops = plan, console, log, stops
        self.tally = Tally(failed=len(plan.problems), skipped=len(plan.skipped))
        self.left = len(plan.jobs)
        self.misused = 0  # failures that say that the command line makes no sense

    @property
    def code(self) -> Exit:
        """The exit code of what has been done so far."""
        tally = self.tally
        if not tally.failed:
            return Exit.DONE
        if tally.written or tally.skipped:
            return Exit.PARTIAL
        return Exit.USAGE if self.misused == tally.failed else Exit.NOTHING

    def carry_out(self, work: Work, *, label: str) -> None:
        """Work until all is done or nothing more can be, and put down which."""
        self._open()
        state = "failed"
        try:
            self.console.event("start", inputs=self.left, skipped=len(self.plan.skipped))
            with self.console.progress(self.left, label=label) as advance:
                self._follow(work(iter(self.plan.jobs)), advance)
            state = "done"
        except (KeyboardInterrupt, Terminated) as stop:
            state = "interrupted"
            stop.add_note(f"{self.tally}, {self.left} left; go on with --skip-existing")
            raise
        # The device, or the disk: no later picture could fare better.
        except Exception as error:
            told = foresee(error)
            if told is None or not self.tally.written:
                raise
            self.console.error(f"{told}; go on with --skip-existing" if self.left else str(told))
            self.tally.failed += self.left
            state = state if self.left else "done"
        finally:
            try:
                self.log.describe(state, **vars(self.tally))
            except InputError:
                if state == "done":  # else the reason has been told
                    raise

    def _open(self) -> None:
        plan = self.plan
        known = self.log.open(redo={str(job.source) for job in plan.jobs} | set(plan.problems))
        for job in plan.skipped:
            if str(job.source) not in known:
                self.log.add(_record(job, "skipped", outputs=job.outputs))
        for problem in plan.problems:
            self.log.add({"input": problem, "status": "failed", "error": problem, "outputs": []})

    def _follow(
        self,
        outcomes: Iterable[tuple[Job, dict[str, Any] | Failure]],
        advance: Callable[[], None],
    ) -> None:
        before = time.monotonic()
        for job, outcome in outcomes:
            failed = isinstance(outcome, Failure)
            if isinstance(outcome, Failure):
                then = "stopped" if self.stops else "skipped"
                self.console.error(f"{outcome.reason}; {then}")
                record = _record(job, "failed", error=outcome.reason)
            else:
                record = _record(job, "done", outputs=job.outputs, **outcome)
            self.tally.failed += failed
            self.misused += isinstance(outcome, Failure) and outcome.is_usage
            self.tally.written += not failed
            self.left -= 1
            now = time.monotonic()
            record["seconds"] = round(now - before, 4)
            before = now
            self.log.add(record)
            self.console.event("result", **record)
            advance()
            if failed and self.stops:
                return


def _record(
    job: Job, status: str, *, outputs: Sequence[Path] = (), **more: object
) -> dict[str, Any]:
    written = [str(path) for path in outputs]
    return {"input": str(job.source), "status": status, "outputs": written, **more}


def one_by_one(args: argparse.Namespace, do: Callable[[Job, np.ndarray], dict[str, Any]]) -> Work:
    """Return the work that does one picture after the other.

    What is wrong with a picture, or with a prompt about it, does not stop the others.
    """

    def attempt(job: Job) -> dict[str, Any] | Failure:
        try:
            return do(job, load_job(args, job))
        except InputError as error:
            return failure_of(job, error)
        except PromptError as error:
            return Failure.of(job, error)

    return lambda jobs: ((job, attempt(job)) for job in jobs)


def load_job(args: argparse.Namespace, job: Job) -> np.ndarray:
    """Read the picture of a job.

    Raises:
        InputError: if it cannot be read.
    """
    return load_image(job.source, **picture_options(args))


def failure_of(job: Job, error: InputError) -> Failure:
    """Return why one picture has no files.

    Raises:
        InputError: this one, if no later picture could be written either.
    """
    cause = error.__cause__
    if isinstance(cause, OSError) and cause.errno in _DISK_TROUBLE:
        raise error
    return Failure.of(job, error)


def pick_formats(args: argparse.Namespace, known: Mapping[str, str]) -> list[str]:
    """Return the formats that were asked for, each once, or the first that there is.

    Raises:
        UsageError: A format is unknown, or there is none.
    """
    lists = args.format or [next(iter(known))]
    names = [name.strip() for text in lists for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise UsageError(f"unknown format {name!r}; choose from {', '.join(known)}")
    if not names:
        raise UsageError(f"no format; choose from {', '.join(known)}")
    return list(dict.fromkeys(names))


def _show(plan: Plan, console: Console) -> Exit:
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
