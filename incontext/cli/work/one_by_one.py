"""One picture after the other through any work: plan, files, log, counts and exit code."""

import argparse
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from incontext.cli.console import Console
from incontext.cli.environment import prepare_jax, versions
from incontext.cli.outcome import Exit, Terminated, UsageError
from incontext.cli.plan import Job, Plan, make_plan, require_writable
from incontext.cli.runlog import RunLog
from incontext.cli.work.segment import Tally, show
from incontext.files.images import load_image
from seggpt.errors import InputError, PromptError

# Writes the files of one picture below the output folder, and returns what the log says of it.
Work = Callable[[Job, np.ndarray], dict[str, Any]]


def pick_formats(args: argparse.Namespace, known: Mapping[str, str]) -> list[str]:
    """Return the formats that were asked for, each once, or the first that there is.

    Raises:
        UsageError: A format is unknown.
    """
    lists = args.format or [next(iter(known))]
    names = [name.strip() for text in lists for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise UsageError(f"unknown format {name!r}; choose from {', '.join(known)}")
    return list(dict.fromkeys(names)) or [next(iter(known))]


def run_one_by_one(
    args: argparse.Namespace,
    console: Console,
    *,
    suffixes: list[str],
    label: str,
    begin: Callable[[], tuple[str, Work]],
    protected: Iterable[Path] = (),
) -> Exit:
    """Do the work for every picture that the arguments name.

    Args:
        args: Of a verb with `add_picture_options`.
        console: Where things are said.
        suffixes: What is written for a picture, as endings of its name.
        label: Of the progress bar.
        begin: Loads the model; returns what tells it from others, and the work.
        protected: Files that nothing may be written over.
    """
    out = Path(args.output)
    existing = "overwrite" if args.overwrite else "skip" if args.skip_existing else "refuse"
    plan = make_plan(
        args.targets,
        out,
        suffixes=suffixes,
        recursive=not args.no_recursive,
        existing=existing,
        protected=protected,
    )
    require_writable(out)
    if args.dry_run:
        return show(plan, console)
    for problem in plan.problems:
        console.error(problem)
        console.event("result", input=None, status="failed", error=problem)
    if plan.problems and (args.on_error == "stop" or not (plan.jobs or plan.skipped)):
        return Exit.NOTHING
    tally = Tally(failed=len(plan.problems), skipped=len(plan.skipped))
    if not plan.jobs:
        console.say(f"nothing to do: {len(plan.skipped)} done before in {out}")
        return tally.code
    prepare_jax()
    model, work = begin()
    arguments = {name: value for name, value in vars(args).items() if name != "run"}
    about: dict[str, object] = {"arguments": arguments, "model": model, "versions": versions()}
    started = time.monotonic()
    with RunLog(out, about=about) as log:
        _open(log, plan, out)
        state = "failed"
        try:
            with console.progress(len(plan.jobs), label=label) as advance:
                for job in plan.jobs:
                    _do(job, work, args, console, log, tally)
                    advance()
                    if tally.failed > len(plan.problems) and args.on_error == "stop":
                        break
            state = "done"
        except (KeyboardInterrupt, Terminated) as stop:
            state = "interrupted"
            stop.add_note(f"{tally}; go on with --skip-existing")
            raise
        finally:
            log.describe(state, **vars(tally))
    seconds = time.monotonic() - started
    console.event("end", **vars(tally), seconds=round(seconds, 3))
    console.say(f"{tally} in {seconds:.1f} s -> {out}")
    return tally.code


def _open(log: RunLog, plan: Plan, out: Path) -> None:
    try:
        log.open(redo={str(job.source) for job in plan.jobs} | set(plan.problems))
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}") from error
    for problem in plan.problems:
        log.add({"input": problem, "status": "failed", "error": problem, "outputs": []})


def _do(
    job: Job,
    work: Work,
    args: argparse.Namespace,
    console: Console,
    log: RunLog,
    tally: Tally,
) -> None:
    """Do one picture; what is wrong with it, or with a prompt about it, is told and counted."""
    before = time.monotonic()
    record: dict[str, Any] = {"input": str(job.source), "status": "done", "outputs": []}
    try:
        limit = {} if args.max_pixels is None else {"max_pixels": args.max_pixels}
        picture = load_image(job.source, **limit)
        record |= work(job, picture)
        record["outputs"] = [str(path) for path in job.outputs]
        tally.written += 1
    except (InputError, PromptError) as error:
        reason = str(error)
        if isinstance(error, PromptError):
            reason = f"{job.source}: {reason}"
        tally.failed += 1
        record |= {"status": "failed", "error": reason}
        console.error(f"{reason}; {'stopped' if args.on_error == 'stop' else 'skipped'}")
    record["seconds"] = round(time.monotonic() - before, 4)
    log.add(record)
    console.event("result", **record)
