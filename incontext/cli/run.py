"""The loop of all verbs over images: plan, files, log, counts, progress and exit code."""

import argparse
import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from incontext.cli.console import Console
from incontext.cli.environment import prepare_jax, versions
from incontext.cli.outcome import Exit, Terminated, UsageError, foresee
from incontext.cli.plan import Job, Plan, Search, is_written, make_plan, require_writable
from incontext.cli.runlog import RunLog, results_path, run_path
from incontext.cli.running.lists import read_targets
from incontext.cli.running.lock import FolderLock
from incontext.cli.running.pipeline import Failure, Model, carry_out
from incontext.cli.running.signals import current_signals
from incontext.cli.running.state import Before, run_key, settings_of
from incontext.files.atomic import remove_parts
from seggpt.errors import InputError, one_line

_SHOWN = 5  # file names in one message


@dataclass
class Tally:
    """How many inputs ended which way."""

    written: int = 0
    failed: int = 0
    skipped: int = 0

    def __str__(self) -> str:
        text = f"{self.written} written, {self.failed} failed"
        return f"{text}, {self.skipped} done before" if self.skipped else text


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a verb does for each picture.

    Attributes:
        suffixes: What is written for a picture, as endings of its name.
        label: Of the progress bar.
        begin: Loads the model for so many pictures.
        protected: Files that shape results, and that nothing may be written over.
        of_all: Files that are made from all pictures, so that none can be left out.
    """

    suffixes: Sequence[str]
    label: str
    begin: Callable[[int], Model]
    protected: Iterable[str | Path] = ()
    of_all: Sequence[str] = field(default=())


def run_all(args: argparse.Namespace, console: Console, task: Task) -> Exit:
    """Do the work for every picture that the arguments name."""
    out = Path(args.output)
    require_writable(out)
    settings = settings_of(args, map(Path, task.protected))
    if args.dry_run:
        return _show(_plan(args, task, _before(args, settings)), console)
    with FolderLock(out, args.shard) as lock:
        current_signals().leave(lock.close)  # nothing is lost yet, and jax bears no exception
        before = _before(args, settings)
        plan = _plan(args, task, before)
        _tell(plan, args, console, before)
        if plan.problems and (args.on_error == "stop" or not (plan.jobs or plan.skipped)):
            return Exit.NOTHING
        if not plan.jobs:
            if before.about:
                _settle(plan, args, console, before)
            console.say(f"nothing to do: {len(plan.skipped)} done before in {out}")
            return Exit.PARTIAL if plan.problems else Exit.DONE
        return _do(plan, args, console, task, before, settings)


def _before(args: argparse.Namespace, settings: Mapping[str, Any]) -> Before:
    """Return what is gone on with; that is nothing without --resume.

    Raises:
        UsageError: It was made otherwise.
    """
    out = Path(args.output)
    before = Before.load(out, args.shard) if args.resume else Before(out, {}, {})
    before.check_settings(settings)
    return before


def _plan(args: argparse.Namespace, task: Task, before: Before) -> Plan:
    out = Path(args.output)
    is_done = is_written if args.skip_existing else None
    if args.resume and not task.of_all:
        is_done = before.is_done
    plan = make_plan(
        read_targets(args),
        out,
        suffixes=task.suffixes,
        search=Search(
            recursive=not args.no_recursive, exclude=args.exclude or (), shard=args.shard
        ),
        is_done=is_done,
        may_replace=args.overwrite or args.skip_existing or bool(before.about),
        protected=map(Path, task.protected),
        reserved=(results_path(out, args.shard), run_path(out, args.shard)),
    )
    if not plan.total and not plan.problems:
        raise InputError(
            f"no images left: --exclude leaves out all, or they lie in {one_line(out)}"
        )
    return plan


def _tell(plan: Plan, args: argparse.Namespace, console: Console, before: Before) -> None:
    """Say what is special about the plan."""
    for problem in plan.problems:
        console.error(problem)
        console.event("result", input=None, status="failed", error=problem)
    count = len(plan.jobs) + len(plan.skipped)
    if args.shard:
        console.say(f"shard {args.shard}: {count} of {plan.total} pictures")
    if changed := [str(job.source) for job in plan.jobs if before.has_changed(job)]:
        more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        console.say(
            f"changed since they were done, done again: {', '.join(changed[:_SHOWN])}{more}"
        )


def _settle(plan: Plan, args: argparse.Namespace, console: Console, before: Before) -> None:
    """Put the logs in order after a run that was killed when all but that was done."""
    counts = {"state", "started", "seconds", *vars(Tally())}
    about = {name: value for name, value in before.about.items() if name not in counts}
    with RunLog(Path(args.output), shard=args.shard, about=about) as log:
        run = _Run(plan, console, log, key=str(about.get("key")), stops=False)
        run.open()
        log.sort(plan.order)
        log.describe("done", **vars(run.tally))


def _do(
    plan: Plan,
    args: argparse.Namespace,
    console: Console,
    task: Task,
    before: Before,
    settings: Mapping[str, Any],
) -> Exit:
    out = Path(args.output)
    prepare_jax()
    started = time.monotonic()
    model = task.begin(plan.total)
    before.check_model(model.fingerprint)
    key = run_key(settings, model.fingerprint)
    about: dict[str, object] = {
        "key": key,
        "arguments": {name: value for name, value in vars(args).items() if name != "run"},
        "model": model.fingerprint,
        "versions": versions(),
        "settings": settings,
    }
    with RunLog(out, shard=args.shard, about=about) as log:
        run = _Run(plan, console, log, key=key, stops=args.on_error == "stop")
        run.carry_out(model, label=task.label)
    tally, seconds = run.tally, time.monotonic() - started
    console.event("end", **vars(tally), seconds=round(seconds, 3))
    seen = f" (see {results_path(out, args.shard)}; --resume tries them again)"
    console.say(f"{tally} in {seconds:.1f} s -> {out}{seen if tally.failed else ''}")
    return run.code


class _Run:
    """One run over a plan: the log and the counts."""

    def __init__(self, plan: Plan, console: Console, log: RunLog, *, key: str, stops: bool) -> None:
        self.plan, self.console, self.log, self.key, self.stops = plan, console, log, key, stops
        self.tally = Tally(failed=len(plan.problems), skipped=len(plan.skipped))
        self.left = len(plan.jobs)
        self.misused = 0  # failures that say that the command line makes no sense

    @property
    def code(self) -> Exit:
        """The exit code of what has been done so far."""
        if not self.tally.failed:
            return Exit.DONE
        if self.tally.written or self.tally.skipped:
            return Exit.PARTIAL
        return Exit.USAGE if self.misused == self.tally.failed else Exit.NOTHING

    def carry_out(self, model: Model, *, label: str) -> None:
        """Work until all is done or nothing more can be, and put down which."""
        self.open()
        state = "failed"
        try:
            self.console.event("start", inputs=self.left, skipped=len(self.plan.skipped))
            with self.console.progress(self.left, label=label) as advance:
                self._follow(model, advance)
            state = "done"
        except (KeyboardInterrupt, Terminated) as stop:
            state = "interrupted"
            stop.add_note(f"{self.tally}, {self.left} left; go on with --resume")
            raise
        except Exception as error:  # of the device or the disk: no later picture could fare better
            told = foresee(error)
            if told is None or not self.tally.written:
                raise
            self.console.error(f"{told}; go on with --resume" if self.left else str(told))
            self.tally.failed += self.left
            state = state if self.left else "done"
        finally:
            with contextlib.suppress(InputError):  # a full disk, which has been told
                self.log.describe(state, **vars(self.tally))

    def open(self) -> None:
        """Begin the log, and put down what needs no work."""
        plan = self.plan
        remove_parts(path for job in (*plan.jobs, *plan.skipped) for path in job.outputs)
        known = self.log.open(redo={str(job.source) for job in plan.jobs} | set(plan.problems))
        for job in plan.skipped:
            if str(job.source) not in known:
                self.log.add(_record(job, "skipped", outputs=job.outputs))
        for problem in plan.problems:
            self.log.add({"input": problem, "status": "failed", "error": problem, "outputs": []})

    def _follow(self, model: Model, advance: Callable[[], None]) -> None:
        """Work, and put down what becomes of each picture.

        The first picture takes a program that is compiled for it: up to its end a signal raises,
        later it lets the picture in hand be written.
        """
        signals = current_signals()
        signals.unwind()
        signals.raise_asked()
        before = time.monotonic()
        try:
            for job, outcome in carry_out(
                self.plan.jobs, model, stops=self.stops, is_asked=lambda: bool(signals.asked)
            ):
                now = time.monotonic()
                self._put_down(job, outcome, seconds=now - before)
                before = now
                advance()
                if isinstance(outcome, Failure) and self.stops:
                    return
                signals.wait(self.console.say)
        finally:
            signals.unwind()
        signals.raise_asked()
        model.finish()
        self.log.sort(self.plan.order)

    def _put_down(self, job: Job, outcome: dict[str, Any] | Failure, *, seconds: float) -> None:
        if isinstance(outcome, Failure):
            then = "stopped" if self.stops else "skipped"
            self.console.error(f"{outcome.reason}; {then}")
            record = _record(job, "failed", error=outcome.reason)
            self.tally.failed += 1
            self.misused += outcome.is_usage
        else:
            about = {"run": self.key, "file": job.stamp}
            record = _record(job, "done", outputs=job.outputs, **outcome, **about)
            self.tally.written += 1
        self.left -= 1
        record["seconds"] = round(seconds, 4)
        self.log.add(record)
        self.console.event("result", **record)


def _record(
    job: Job, status: str, *, outputs: Sequence[Path] = (), **more: object
) -> dict[str, Any]:
    written = [str(path) for path in outputs]
    return {"input": str(job.source), "status": status, "outputs": written, **more}


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
