"""The plan of a run, made before any computation: inputs, outputs, and what forbids them."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from incontext.cli.outcome import UsageError
from incontext.files.images import check_unique_outputs, find_images
from seggpt.errors import InputError

_SHOWN = 5  # file names in one message


@dataclass(frozen=True)
class Job:
    """One picture to segment.

    Attributes:
        source: The picture as the user named it.
        name: Its place below the output folder, without a suffix.
        outputs: The files to write, one a format.
    """

    source: Path
    name: Path
    outputs: tuple[Path, ...]


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    Attributes:
        jobs: The pictures to segment, in order.
        skipped: The pictures whose outputs all exist already.
        problems: Why a target gives no pictures, one line each.
    """

    jobs: tuple[Job, ...]
    skipped: tuple[Job, ...]
    problems: tuple[str, ...]


def make_plan(
    targets: Sequence[str],
    out: Path,
    *,
    suffixes: Sequence[str],
    recursive: bool = True,
    existing: str = "refuse",
    protected: Iterable[Path] = (),
) -> Plan:
    """Find the pictures and check every file that would be written.

    Args:
        targets: Files, folders and patterns.
        out: The output folder; pictures inside it are no inputs of a folder around it.
        suffixes: What each format appends to the stem.
        recursive: Whether to enter the folders inside a folder.
        existing: "refuse", "overwrite" or "skip" files that exist already.
        protected: Files that are read by this run and so must not be written.

    Raises:
        UsageError: Two pictures would become one file, a file exists, or an input would be
            overwritten.
    """
    found, problems = _find(targets, out, recursive=recursive)
    try:
        check_unique_outputs(found, suffixes=suffixes)
    except InputError as error:
        raise UsageError(str(error)) from error
    jobs = [
        Job(source, name, tuple(out / f"{name}{suffix}" for suffix in suffixes))
        for source, name in found
    ]
    _refuse_own_inputs(jobs, protected)
    if existing == "refuse":
        _refuse_existing(jobs, out)
    done = [existing == "skip" and all(map(os.path.lexists, job.outputs)) for job in jobs]
    return Plan(
        jobs=tuple(job for job, is_done in zip(jobs, done, strict=True) if not is_done),
        skipped=tuple(job for job, is_done in zip(jobs, done, strict=True) if is_done),
        problems=tuple(problems),
    )


def require_writable(out: Path) -> None:
    """Make sure that the output folder can be made or written, without making it.

    Raises:
        UsageError: It is a file.
        InputError: Writing there is not allowed.
    """
    there = out.absolute()
    while not os.path.lexists(there):
        there = there.parent
    if not there.is_dir():
        raise UsageError(f"cannot write {out}: {there} is not a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"cannot write {out}: Permission denied")


def _find(
    targets: Sequence[str], out: Path, *, recursive: bool
) -> tuple[list[tuple[Path, Path]], list[str]]:
    """Find target by target, so that a bad one does not hide the pictures of the others."""
    home = os.path.realpath(out)
    found: dict[tuple[str, Path], tuple[Path, Path]] = {}
    problems = []
    for target in targets:
        try:
            pairs = find_images([target], recursive=recursive)
        except InputError as error:
            problems.append(str(error))
            continue
        if not _is_inside(os.path.realpath(target), home):
            pairs = [pair for pair in pairs if not _is_inside(os.path.realpath(pair[0]), home)]
        for source, name in pairs:
            found.setdefault((os.path.abspath(source), name), (source, name))
    return list(found.values()), problems


def _is_inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _refuse_own_inputs(jobs: Sequence[Job], protected: Iterable[Path]) -> None:
    inputs = {os.path.realpath(path) for path in [*protected, *(job.source for job in jobs)]}
    for job in jobs:
        for output in job.outputs:
            if os.path.realpath(output) in inputs:
                raise UsageError(f"{output} is an input of this run; give another folder with -o")


def _refuse_existing(jobs: Sequence[Job], out: Path) -> None:
    there = [path for job in jobs for path in job.outputs if os.path.lexists(path)]
    if there:
        names = ", ".join(str(path.relative_to(out)) for path in there[:_SHOWN])
        more = f" and {len(there) - _SHOWN} more" if len(there) > _SHOWN else ""
        raise UsageError(
            f"refusing to overwrite {names}{more} in {out}; add --overwrite or --skip-existing"
        )
