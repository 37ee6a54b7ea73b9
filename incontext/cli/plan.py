"""The plan of a run, made before any computation: inputs, outputs, and what forbids them."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from incontext.cli.outcome import UsageError
from incontext.cli.running.lists import Target
from incontext.cli.running.shard import Shard
from incontext.files.images import check_unique_outputs, find_images, fits_pattern
from seggpt.errors import InputError, one_line

_SHOWN = 5  # file names in one message


@dataclass(frozen=True)
class Job:
    """One picture to segment.

    Attributes:
        source: The picture as the user named it.
        name: Its place below the output folder, without a suffix.
        outputs: The files to write, one a format.
        stamp: Bytes and time of the last change (ns) of the picture's file.
    """

    source: Path
    name: Path
    outputs: tuple[Path, ...]
    stamp: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    Attributes:
        jobs: The pictures to segment, in order.
        skipped: The pictures that are done already.
        problems: Why a target gives no pictures, one line each.
        total: How many pictures there are with those of other shards.
        order: All inputs of this shard in order: problems, then pictures, done or not.
    """

    jobs: tuple[Job, ...]
    skipped: tuple[Job, ...]
    problems: tuple[str, ...]
    total: int
    order: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Search:
    """How pictures are looked for.

    Attributes:
        recursive: Whether to enter the folders inside a folder.
        exclude: Patterns of paths below a named folder that are left out.
        shard: Which part of what is found is meant.
    """

    recursive: bool = True
    exclude: Sequence[str] = ()
    shard: Shard | None = None


def is_written(job: Job) -> bool:
    """Say whether all files of a picture exist."""
    return all(map(os.path.lexists, job.outputs))


def make_plan(
    targets: Sequence[Target],
    out: Path,
    *,
    suffixes: Sequence[str],
    search: Search,
    is_done: Callable[[Job], bool] | None = None,
    may_replace: bool = False,
    protected: Iterable[Path] = (),
    reserved: Iterable[Path] = (),
) -> Plan:
    """Find the pictures and check every file that would be written.

    Args:
        targets: Files, folders and patterns.
        out: The output folder; pictures inside it are no inputs of a folder around it.
        suffixes: What each format appends to the stem.
        search: How pictures are looked for.
        is_done: Says whether nothing is left to do for a picture.
        may_replace: Whether files that exist may be written over.
        protected: Files that are read by this run and so must not be written.
        reserved: Files that the run itself writes.

    Raises:
        UsageError: Two pictures would become one file, a file exists, or an input would be
            overwritten.
    """
    found, problems = _find(targets, out, search)
    try:
        check_unique_outputs(found, suffixes=suffixes)
    except InputError as error:
        raise UsageError(str(error)) from error
    jobs = [
        Job(source, name, tuple(out / f"{name}{suffix}" for suffix in suffixes), _stamp(source))
        for source, name in found
    ]
    _refuse_own_inputs(jobs, protected)
    _refuse_reserved(jobs, {os.path.abspath(path) for path in reserved})
    mine = [job for job in jobs if search.shard is None or search.shard.has(job.name)]
    done = [is_done is not None and is_done(job) for job in mine]
    left = tuple(job for job, is_over in zip(mine, done, strict=True) if not is_over)
    if not may_replace:
        _refuse_existing(left, out)
    return Plan(
        jobs=left,
        skipped=tuple(job for job, is_over in zip(mine, done, strict=True) if is_over),
        problems=tuple(problems),
        total=len(jobs),
        order=(*problems, *(str(job.source) for job in mine)),
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
    targets: Sequence[Target], out: Path, search: Search
) -> tuple[list[tuple[Path, Path]], list[str]]:
    """Find target by target, so that a bad one does not hide the pictures of the others."""
    home = os.path.realpath(out)
    found: dict[tuple[str, Path], tuple[Path, Path]] = {}
    problems = []
    for target in targets:
        try:
            pairs = _find_target(target, recursive=search.recursive)
        except InputError as error:
            problems.append(f"{error} ({target.place})" if target.place else str(error))
            continue
        if not _is_inside(os.path.realpath(target.name), home):
            pairs = [pair for pair in pairs if not _is_inside(os.path.realpath(pair[0]), home)]
        for source, name in pairs:
            if not _is_excluded(source, name, search.exclude):
                found.setdefault((os.path.abspath(source), name), (source, name))
    return list(found.values()), problems


def _find_target(target: Target, *, recursive: bool) -> list[tuple[Path, Path]]:
    """Find the pictures of a target; a list has no patterns, and its names keep their folders.

    Raises:
        InputError: There are none.
    """
    if target.place and not os.path.lexists(target.name):
        raise InputError(f"no such file: {one_line(target.name)}")
    pairs = find_images([target.name], recursive=recursive)
    folder = Path(target.name).parent
    if not target.place or os.path.isdir(target.name) or folder.is_absolute():
        return pairs
    return [(source, name if ".." in folder.parts else folder / name) for source, name in pairs]


def _is_excluded(source: Path, name: Path, patterns: Sequence[str]) -> bool:
    """Say whether the path below a named folder, one of the folders in it, or a name in it fits."""
    parts = (*name.parent.parts, source.name)
    for pattern in patterns:
        wanted = Path(pattern).parts
        if len(wanted) == 1 and any(fnmatchcase(part, wanted[0]) for part in parts):
            return True
        if any(fits_pattern(parts[: end + 1], wanted) for end in range(len(parts))):
            return True
    return False


def _stamp(source: Path) -> tuple[int, int]:
    try:
        status = source.stat()
    except OSError:  # reading it says what is wrong
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _is_inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _refuse_own_inputs(jobs: Sequence[Job], protected: Iterable[Path]) -> None:
    inputs = {os.path.realpath(path) for path in [*protected, *(job.source for job in jobs)]}
    for job in jobs:
        for output in job.outputs:
            if os.path.realpath(output) in inputs:
                raise UsageError(f"{output} is an input of this run; give another folder with -o")


def _refuse_reserved(jobs: Sequence[Job], reserved: set[str]) -> None:
    for job in jobs:
        for output in job.outputs:
            if os.path.abspath(output) in reserved:
                raise UsageError(
                    f"{one_line(job.source)} would become {one_line(output)}, where the run itself "
                    "is described; rename it"
                )


def _refuse_existing(jobs: Sequence[Job], out: Path) -> None:
    there = [path for job in jobs for path in job.outputs if os.path.lexists(path)]
    if there:
        names = ", ".join(str(path.relative_to(out)) for path in there[:_SHOWN])
        more = f" and {len(there) - _SHOWN} more" if len(there) > _SHOWN else ""
        raise UsageError(
            f"refusing to overwrite {names}{more} in {out}; add --overwrite, --skip-existing or "
            "--resume"
        )
