"""Pictures that no memory holds: `seggpt segment --detail tiles` does them in parts."""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from incontext.cli.console import Console
from incontext.cli.inputs import picture_options
from incontext.cli.plan import Job
from incontext.cli.running.pipeline import Failure
from incontext.cli.running.signals import current_signals
from incontext.examples.large import count_tiles
from incontext.files.images import load_image
from incontext.files.regions import Regions, open_large
from incontext.outputs.rows import ROW_FORMATS
from seggpt.errors import InputError, TooLargeError

_TIMED = 16  # tiles after the first one, which waits for a program


@dataclass(frozen=True)
class Large:
    """A picture that is open, and the file of each format."""

    picture: Regions
    paths: Mapping[str, Path]

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return self.picture.shape


def load_any(
    args: argparse.Namespace, formats: Sequence[str], job: Job
) -> np.ndarray | Large | Failure:
    """Read the picture of a job, open it if it is too large for that, or say why neither can be."""
    try:
        if args.detail == "tiles":
            picture = open_large(job.source, max_pixels=args.max_pixels, alpha=args.alpha)
            if picture is not None:
                if obstacle := _find_obstacle(args, formats):
                    picture.close()
                    height, width = picture.shape
                    return Failure(f"{picture.name}: {width}x{height} is read in parts, {obstacle}")
                return Large(picture, dict(zip(formats, job.outputs, strict=True)))
        return load_image(job.source, **picture_options(args))
    except TooLargeError as error:
        return Failure(f"{error}; or use --detail tiles, which reads tiled TIFFs of any size")
    except InputError as error:
        return Failure(str(error))


def segment_large(
    args: argparse.Namespace, console: Console, segmenter: Any, context: Any, large: Large
) -> dict[str, Any]:
    """Write the files of a large picture, and return what the log says beside them."""
    picture = large.picture
    try:
        scores = segmenter.segment_large(
            picture,
            context,
            large.paths,
            batch_size=args.batch or segmenter.batch_size(context, "tiles"),
            threshold=args.threshold,
            advance=_report(console, picture, count_tiles(picture, segmenter.engine.size)),
        )
    finally:
        picture.close()
    return {"scores": scores}


def _find_obstacle(args: argparse.Namespace, formats: Sequence[str]) -> str:
    """Say what is asked that cannot be done in parts; "" if all can be."""
    if others := [name for name in formats if name not in ROW_FORMATS]:
        return f"for --format mask and labels alone; leave out {others[0]}"
    if args.instances:
        return "where --instances cannot number things; leave it out"
    if args.bands:
        return "without --bands; leave it out, or save these bands as RGB"
    return ""


def _report(console: Console, picture: Regions, count: int) -> Callable[[], None]:
    """Say how many tiles there are, how long they take, and from time to time how far it is."""
    height, width = picture.shape
    console.say(f"{picture.name}: {width}x{height} in {count:,} tiles")
    advance_lines = console.tell_now_and_then(count, picture.name)
    done, started = 0, 0.0

    def advance() -> None:
        nonlocal done, started
        done += 1
        if done == 1:
            started = time.monotonic()
        if done == 1 + _TIMED:
            minutes = (time.monotonic() - started) / _TIMED * count / 60
            console.say(f"{picture.name}: about {max(1, round(minutes))} min for its tiles")
        advance_lines()
        current_signals().raise_asked()  # the whole picture may take hours

    return advance
