"""`seggpt export` at work: read masks one by one, write each, and what is of all of them."""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32

from incontext.cli.attempts import saved
from incontext.cli.console import Console
from incontext.cli.names import read_names
from incontext.cli.outcome import Exit, UsageError
from incontext.cli.plan import Job
from incontext.cli.run import Task, pick_formats, run_all
from incontext.cli.runlog import run_path
from incontext.cli.running.pipeline import Failure, Model
from incontext.files.atomic import write_whole
from incontext.files.decode import MAX_PIXELS
from incontext.files.images import find_images
from incontext.files.masks import load_mask
from incontext.outputs.formats import (
    NEED_IMAGE,
    OUTPUT_SUFFIXES,
    Drawing,
    check_labels,
    write_output,
)
from incontext.outputs.run_files import RUN_FILES, RunFiles
from seggpt.errors import InputError

_NOT_OF_MASKS = NEED_IMAGE | {"probabilities"}
_Read = tuple[Int32[np.ndarray, "h w"], tuple[int, ...]]
SUFFIXES = {name: end for name, end in OUTPUT_SUFFIXES.items() if name not in _NOT_OF_MASKS}


def export_all(args: argparse.Namespace, console: Console) -> Exit:
    """Carry out `seggpt export`."""
    formats = pick_formats(args, {**RUN_FILES, **SUFFIXES})
    names = read_names(args.names)
    whole = {name: Path(args.output, RUN_FILES[name]) for name in formats if name in RUN_FILES}
    for option in ("skip_existing", "shard") if whole else ():
        if getattr(args, option):
            flag = "--" + option.replace("_", "-")
            raise UsageError(f"{', '.join(whole)} is one file of all masks: leave {flag} out")
    may_replace = args.overwrite or (args.resume and run_path(Path(args.output), None).exists())
    if not may_replace and (there := [str(path) for path in whole.values() if path.exists()]):
        raise UsageError(f"{there[0]} exists; add --overwrite or choose another folder with -o")
    task = Task(
        suffixes=[SUFFIXES[name] for name in formats if name in SUFFIXES],
        label="exporting",
        begin=partial(_begin, args, formats, whole, names),
        protected=[args.names] if args.names else [],
        of_all=[path.name for path in whole.values()],
    )
    return run_all(args, console, task)


def _begin(
    args: argparse.Namespace,
    formats: list[str],
    whole: dict[str, Path],
    names: dict[int, str],
    _: int,
) -> Model:
    pictures = _find_pictures(args.images) if args.images else {}
    each = [name for name in formats if name in SUFFIXES]

    run = RunFiles(names=names, instances=args.instances)

    def load(job: Job) -> _Read | Failure:
        try:
            return _read(job, args)
        except InputError as error:
            return Failure(str(error))

    def save(job: Job, read: _Read) -> dict[str, Any]:
        label_map, labels = read
        picture = pictures.get(job.name, job.source)
        for output in each:
            check_labels(labels, output)
        drawing = Drawing(
            label_map=label_map,
            labels=tuple(sorted({*labels, *names})),
            source=str(picture),
            names=names,
            instances=args.instances,
        )
        for output, path in zip(each, job.outputs, strict=True):
            write_output(drawing, output, path)
        run.add(_name_below(picture, args.images), label_map)
        return {"labels": list(labels)}

    def finish() -> None:
        texts = {"coco": run.coco, "table": run.table}
        for name, path in whole.items():
            text = texts[name]()
            write_whole(path, partial(_write_text, text=text))

    return Model("none", load, lambda masks: masks, saved(save), finish)


def _read(job: Job, args: argparse.Namespace) -> _Read:
    """Return a mask's labels; what is to be ignored becomes background.

    Raises:
        InputError: It cannot be read, or its labels are colours.
    """
    mask = load_mask(
        job.source,
        kind=args.mask_kind,
        ignore=args.ignore,
        allow_empty=True,
        max_pixels=args.max_pixels or MAX_PIXELS,
    )
    if mask.kind == "rgb":
        raise InputError(
            f"{job.source}: a mask of colours, which say no label; give palette or grey masks"
        )
    known = np.isin(mask.labels, mask.classes)
    return np.where(known, mask.labels, 0).astype(np.int32), mask.classes


def _write_text(path: Path, *, text: str) -> None:
    # Names that are not UTF-8 are escaped, as JSON does.
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def _find_pictures(folder: str) -> dict[Path, Path]:
    """Return the pictures of a folder by their names without suffixes."""
    return {name: source for source, name in find_images([folder])}


def _name_below(picture: Path, folder: str | None) -> str:
    """Return a picture's name as files give it: below `--images`, or as it was found."""
    if folder and picture.is_relative_to(folder):
        return picture.relative_to(folder).as_posix()
    return picture.as_posix()
