"""`seggpt video` at work: frames in, a mask and a row of the table for each."""

import argparse
import csv
import itertools
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

import incontext
from incontext.cli.console import Console
from incontext.cli.environment import prepare_jax
from incontext.cli.inputs import check_examples, example_options, picture_options
from incontext.cli.names import read_names
from incontext.cli.outcome import Exit, Terminated, UsageError
from incontext.cli.plan import require_writable
from incontext.cli.run import pick_formats
from incontext.cli.running.lock import FolderLock
from incontext.examples.context import Context
from incontext.files.drawing import draw_overlay
from incontext.files.masks import load_mask
from incontext.outputs.formats import OUTPUT_SUFFIXES
from incontext.result import Result
from incontext.video.film import require_pyav, write_film
from incontext.video.frames import Frame, Video, open_video
from incontext.video.track import MEMORY, QUEUE, Tracker
from seggpt.config import SegGPTConfig
from seggpt.errors import InputError

TABLE = "objects.csv"
FILM, FILM_NAME = "mp4", "overlay.mp4"
RATE = 10.0  # frames a second of what does not say its own
COLUMNS = ("frame", "file", "label", "name", "area", "x", "y", "left", "top", "right", "bottom")


@dataclass(frozen=True)
class Span:
    """Frames that are followed in one direction, from a frame that is known or the first one."""

    first: int
    last: int | None  # None: to the end
    step: int  # negative: backwards

    def read(self, video: Video) -> Iterator[Frame]:
        """Yield its frames."""
        if self.step > 0:
            stop = None if self.last is None else self.last + 1
            return video.read(self.first, stop, self.step)
        assert self.last is not None
        return video.read_back(self.first, self.last, -self.step)

    def numbers(self, count: int) -> list[int]:
        """Return the numbers of its first frames."""
        return [self.first + place * self.step for place in range(count)]

    def after(self, done: int) -> "Span":
        """Return it without its first frames."""
        return replace(self, first=self.first + done * self.step)

    def count(self, frames: int | None) -> int | None:
        """Return how many frames it has, if that is known."""
        ends = [end for end in (self.last, frames and frames - 1) if end is not None]
        return max(0, (min(ends) - self.first) // self.step + 1) if ends else None


def follow_all(args: argparse.Namespace, console: Console) -> Exit:
    """Carry out `seggpt video`; every check that needs no model comes before the model."""
    formats = pick_formats(args, {**OUTPUT_SUFFIXES, FILM: ".mp4"})
    is_filmed = FILM in formats
    if is_filmed:  # which is drawn from masks when all are there
        formats = list(dict.fromkeys(["mask", *(name for name in formats if name != FILM)]))
    names = read_names(args.names)
    if args.example:
        check_examples(args, args.example, formats=formats, beside_prompt=bool(args.prompt))
    video = open_video(args.video, **picture_options(args))
    if video.count is not None and args.start >= video.count:
        raise UsageError(f"--start {args.start}: the video has {video.count} frames, from 0")
    out = Path(args.output)
    if out.resolve() == Path(args.video).resolve():
        raise UsageError(
            f"{args.output}: holds the frames, and masks have their names; choose another"
        )
    if is_filmed:
        require_pyav(out / FILM_NAME)
    require_writable(out)
    spans = _spans(args)
    marked = {frame.number: frame for frame in _marked_frames(args, video)}
    done = [_count_done(args, video, span, formats) for span in spans]
    prepare_jax()
    segmenter = _load_segmenter(args)
    context = _read_context(args, segmenter, marked, names)
    memory = args.memory
    if memory is None:
        memory = QUEUE if isinstance(segmenter.config, SegGPTConfig) else MEMORY
    finished = {n for span, count in zip(spans, done, strict=True) for n in span.numbers(count)}
    run = _Run(args, console, video, formats, marked)
    totals = [span.count(video.count) for span in spans]
    known = [total for total in totals if total is not None]
    left = sum(known) - sum(done) if len(known) == len(totals) else 0
    try:
        with (
            FolderLock(out, None),
            _Table(out / TABLE, keep=lambda number: _is_kept(args, number, finished)) as table,
            console.progress(left, label="following") as advance,
        ):
            for span, before in zip(spans, done, strict=True):
                tracker = Tracker(segmenter, context, memory=memory, threshold=args.threshold)
                for _ in run.follow(tracker, span, before, table):
                    advance()
            if is_filmed:
                pictures = _overlays(args, video)
                write_film(out / FILM_NAME, pictures, rate=(video.rate or RATE) / args.stride)
    except InputError as error:
        if not run.written:
            raise
        console.error(f"{error}; kept what was found in {run.written} frames")
        return Exit.PARTIAL
    except (KeyboardInterrupt, Terminated) as stop:
        stop.add_note(f"{run.written} frames written; go on with --resume")
        raise
    seconds = time.monotonic() - run.started
    rate = f", {run.written / seconds:.1f} frames a second" if run.written else ""
    console.event("end", written=run.written, seconds=round(seconds, 3))
    console.say(f"{run.written} frames written in {seconds:.1f} s{rate} -> {out}")
    return Exit.DONE


class _Run:
    """Frames through a tracker to files."""

    def __init__(
        self,
        args: argparse.Namespace,
        console: Console,
        video: Video,
        formats: list[str],
        marked: Mapping[int, Frame],
    ) -> None:
        self.args, self.console, self.video = args, console, video
        self.formats, self.marked, self.out = formats, marked, Path(args.output)
        self.written = 0
        self.started = time.monotonic()

    def follow(self, tracker: Tracker, span: Span, done: int, table: "_Table") -> Iterator[None]:
        """Follow a span from where an earlier run stopped; yield after each frame."""
        self._recall(tracker, span, done)
        for frame in span.after(done).read(self.video):
            if frame.number in self.marked:
                result = self._mark(tracker, frame.number)
            else:
                result = tracker.find(frame.picture)
            table.add(frame, result)
            result.save(self.out, self.formats, name=frame.name)
            self.written += 1
            scores = {str(label): round(score, 4) for label, score in result.scores.items()}
            self.console.event("result", frame=frame.number, file=frame.name, scores=scores)
            yield

    def _mark(self, tracker: Tracker, number: int) -> Result:
        example = read_mark(self.args, self.marked[number])
        return tracker.mark(example, is_known=not (self.args.example or self.args.prompt))

    def _recall(self, tracker: Tracker, span: Span, done: int) -> None:
        """Show a tracker the marks before, and what an earlier run found in its last frames."""
        numbers = span.numbers(done)
        for number in sorted(set(numbers) & set(self.marked)):
            self._mark(tracker, number)
        found = [number for number in numbers if number not in self.marked]
        past = found[-tracker.memory :] if tracker.memory else []
        for frame in Span(past[0], past[-1], span.step).read(self.video) if past else ():
            file = self.out / f"{frame.name}{OUTPUT_SUFFIXES['mask']}"
            if frame.number in past and file.exists():
                tracker.recall(frame.picture, load_mask(file, kind="labels").labels)


def read_mark(args: argparse.Namespace, frame: Frame) -> incontext.Example:
    """Return a marked frame as an example."""
    return incontext.Example(
        frame.picture, args.mark[frame.number], kind=args.mask_kind, ignore=args.ignore
    )


def _spans(args: argparse.Namespace) -> list[Span]:
    """Return the frames to follow: forwards, and back from the first marked one if need be."""
    first = args.start
    if args.mark and not (args.example or args.prompt):
        first = min(args.mark)
    spans = [Span(first, args.end, args.stride)]
    if first > args.start:
        spans.append(Span(first - args.stride, args.start, -args.stride))
    return spans


def _count_done(args: argparse.Namespace, video: Video, span: Span, formats: list[str]) -> int:
    """Return how many frames of a span, from its first, an earlier run has done.

    Raises:
        UsageError: if files are there that may not be replaced.
    """
    if args.overwrite:
        return 0
    for place in itertools.count():
        if (total := span.count(video.count)) is not None and place >= total:
            return total if args.resume else 0
        stem = video.name(span.first + place * span.step)
        files = [Path(args.output, stem + OUTPUT_SUFFIXES[output]) for output in formats]
        there = [file for file in files if file.exists()]
        if there and not args.resume:
            raise UsageError(
                f"{there[0]} exists; --overwrite replaces, --resume goes on after what is there"
            )
        if len(there) < len(files) and (args.resume or total is None):
            return place
    raise AssertionError("numbers end")


def _overlays(args: argparse.Namespace, video: Video) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """Yield the frames with what was found drawn on them."""
    stop = None if args.end is None else args.end + 1
    for frame in video.read(args.start, stop, args.stride):
        file = Path(args.output, frame.name + OUTPUT_SUFFIXES["mask"])
        yield draw_overlay(frame.picture, load_mask(file, kind="labels").labels)


def _is_kept(args: argparse.Namespace, number: int, finished: Collection[int]) -> bool:
    """Return whether a frame is not followed in this run, so that what is known of it stays."""
    is_outside = number < args.start or (args.end is not None and number > args.end)
    return is_outside or number in finished


def _load_segmenter(args: argparse.Namespace) -> incontext.Segmenter:
    return incontext.Segmenter.from_pretrained(
        args.model, encoder=args.encoder, device=args.device, size=args.size
    )


def _marked_frames(args: argparse.Namespace, video: Video) -> Iterator[Frame]:
    """Read the frames that have a mask.

    Raises:
        UsageError: if there is no such frame.
    """
    for number in sorted(args.mark):
        frame = next(video.read(number, number + 1, 1), None)
        if frame is None:
            there = f"; it has {video.count}, from 0" if video.count else ""
            raise UsageError(f"--mark {number}: the video has no such frame{there}")
        yield frame


def _read_context(
    args: argparse.Namespace,
    segmenter: incontext.Segmenter,
    marked: Mapping[int, Frame],
    names: Mapping[int, str],
) -> Context:
    """Return what is followed: the examples and the prompt, or the marked frames without them."""
    options = example_options(args)
    pairs = [incontext.Example(*pair, **options) for pair in args.example or ()]
    if args.prompt:
        prompt = Context.load(args.prompt)
        prompt = replace(prompt, names=names or prompt.names)
        return segmenter.context(pairs, like=prompt) if pairs else prompt
    if not pairs:
        pairs = [read_mark(args, marked[number]) for number in sorted(marked)]
    return segmenter.context(pairs, names=names)


class _Table:
    """The rows of all things in all frames, after those kept of an earlier run.

    A frame's rows are written before its files, and so are there if those are.
    """

    def __init__(self, path: Path, *, keep: Callable[[int], bool]) -> None:
        self.path, self.keep = path, keep

    def __enter__(self) -> "_Table":
        kept = []
        if self.path.exists():
            with self.path.open(newline="", encoding="utf-8") as file:
                rows = [row for row in csv.reader(file) if row and row[0].isdecimal()]
            kept = [row for row in rows if self.keep(int(row[0]))]
        self.file = self.path.open("w", newline="", encoding="utf-8")
        self.rows = csv.writer(self.file)
        self.rows.writerows([COLUMNS, *kept])
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def add(self, frame: Frame, result: Result) -> None:
        """Write a row for each label that is there."""
        label_map, names = result.label_map, result.names or {}
        for label in result.labels:
            ys, xs = np.nonzero(label_map == label)
            if not len(ys):
                continue
            box = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
            middle = (f"{xs.mean() + 0.5:.2f}", f"{ys.mean() + 0.5:.2f}")
            row = (frame.number, frame.name, label, names.get(label, ""), len(ys), *middle, *box)
            self.rows.writerow(row)
        self.file.flush()
