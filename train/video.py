"""Score following: `python -m train.video --weights NAME --data DIR`.

`DIR` has the layout of DAVIS, JPEGImages/CLIP/*.jpg and Annotations/CLIP/*.png, as
`python -m data.clips` writes it. The first frame's mask is given. Beside the model, two baselines:
the first mask kept as it is, and the last one moved by optical flow (iterative Lucas-Kanade of
scikit-image, extra `eval`).
"""

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int32, UInt8
from PIL import Image
from scipy.ndimage import map_coordinates

from train.evals.tool import run_tool
from train.evals.video_scores import ClipScores, score_clip

logger = logging.getLogger(__name__)

RADIUS = 9  # of the windows of optical flow, in pixels
LATE = 0.2  # the last share of a clip, in which ids must be those of the beginning

Frames = Sequence[UInt8[np.ndarray, "h w 3"]]
Map = Int32[np.ndarray, "h w"]
Follow = Callable[[Frames, Map], Iterator[Map]]


@dataclass(frozen=True)
class Clip:
    """Frames and their label maps; 255 is ignored."""

    name: str
    frames: Frames
    maps: Sequence[Map]


@dataclass(frozen=True)
class Run:
    """What one way of following reached on one clip."""

    scores: ClipScores
    keeps_ids: bool
    seconds: float


def read_clips(root: Path, *, count: int | None = None) -> Iterator[Clip]:
    """Read clips one after the other.

    Raises:
        ValueError: if there are none, or frames and masks differ.
    """
    names = sorted(path.name for path in (root / "Annotations").glob("*") if path.is_dir())
    if not names:
        raise ValueError(f"{root}: no clips here (JPEGImages/CLIP and Annotations/CLIP)")
    for name in names[:count]:
        masks = sorted((root / "Annotations" / name).glob("*.png"))
        files = [root / "JPEGImages" / name / f"{mask.stem}.jpg" for mask in masks]
        if missing := [file for file in files if not file.exists()]:
            raise ValueError(f"{missing[0]}: no such frame, and there is a mask of it")
        frames = [np.asarray(Image.open(file).convert("RGB")) for file in files]
        maps = [np.asarray(Image.open(mask), np.int32) for mask in masks]
        yield Clip(name, frames, maps)


def copy_first(frames: Frames, first: Map) -> Iterator[Map]:
    """Say of each frame what is right of the first."""
    return (first for _ in frames)


def follow_flow(frames: Frames, first: Map) -> Iterator[Map]:
    """Move the last mask as the pixels moved."""
    from skimage.registration import optical_flow_ilk

    greys = [np.asarray(Image.fromarray(frame).convert("L"), np.float32) / 255 for frame in frames]
    rows, columns = np.meshgrid(*map(np.arange, first.shape), indexing="ij")
    last = first
    yield last
    for before, now in pairwise(greys):
        # Where each pixel of this frame was in the one before.
        down, right = optical_flow_ilk(now, before, radius=RADIUS)
        last = map_coordinates(last, [rows + down, columns + right], order=0, mode="nearest")
        yield last


def load_model(weights: str, *, memory: int | None, size: int | None) -> Follow:
    """Load weights to follow with."""
    from incontext import Example, Segmenter

    segmenter = Segmenter.from_pretrained(weights, size=size)
    options: dict[str, Any] = {} if memory is None else {"memory": memory}

    def follow(frames: Frames, first: Map) -> Iterator[Map]:
        known = np.where(first == 255, 0, first)
        examples = [Example(frames[0], known, kind="labels")]
        for number, result in enumerate(segmenter.track(frames, examples, **options)):
            yield first if not number else result.label_map

    return follow


def keeps_ids(found: Sequence[Map], truth: Sequence[Map]) -> bool:
    """Return whether most pixels of each thing have its own label, late in a clip."""
    start = round(len(truth) * (1 - LATE))
    for label in sorted({int(label) for label in np.unique(truth[0])} - {0, 255}):
        here = [guess[right == label] for guess, right in zip(found, truth, strict=True)][start:]
        pixels = np.concatenate(here)
        if len(pixels) and np.bincount(pixels).argmax() != label:
            return False
    return True


def score(follow: Follow, clip: Clip) -> Run:
    """Follow the things of a clip's first frame."""
    before = time.monotonic()
    found = list(follow(clip.frames, clip.maps[0]))
    seconds = time.monotonic() - before
    return Run(score_clip(found, clip.maps), keeps_ids(found, clip.maps), seconds)


def format_runs(runs: dict[str, dict[str, Run]], frames: dict[str, int]) -> str:
    """Lay out scores: a row for each way, the mean over clips."""
    lines = [f"{'':12}{'J&F':>8}{'J':>8}{'F':>8}{'ids kept':>12}{'frames/s':>10}"]
    for name, of_clip in runs.items():
        means: Float[np.ndarray, "3"] = np.mean([r.scores.means for r in of_clip.values()], axis=0)
        kept = sum(run.keeps_ids for run in of_clip.values())
        rate = sum(frames.values()) / sum(run.seconds for run in of_clip.values())
        both, region, contour = means.tolist()
        lines.append(
            f"{name:12}{both:8.1f}{region:8.1f}{contour:8.1f}"
            f"{f'{kept} of {len(of_clip)}':>12}{rate:10.3g}"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table; return the exit code."""
    args = _parser().parse_args(argv)
    return run_tool("video", lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    ways: dict[str, Follow] = {}
    if args.weights != "none":
        ways["model"] = load_model(args.weights, memory=args.memory, size=args.size)
    if not args.skip_baselines:
        ways |= {"first mask": copy_first, "flow": follow_flow}
    runs: dict[str, dict[str, Run]] = {name: {} for name in ways}
    frames = {}
    for clip in read_clips(Path(args.data), count=args.clips):
        frames[clip.name] = len(clip.frames)
        for name, follow in ways.items():
            runs[name][clip.name] = score(follow, clip)
        done = {name: round(of[clip.name].scores.means[0], 1) for name, of in runs.items()}
        logger.info("%s: J&F %s", clip.name, done)
    print(format_runs(runs, frames))
    if args.json:
        report = {
            name: {
                clip: {"J&F, J, F": run.scores.means, "ids": run.keeps_ids, "seconds": run.seconds}
                for clip, run in of_clip.items()
            }
            for name, of_clip in runs.items()
        }
        Path(args.json).write_text(json.dumps({"config": vars(args), "runs": report}, indent=1))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m train.video", description=__doc__)
    add = parser.add_argument
    add("--weights", default="seggpt-small", help="a name, a file, or `none` for the baselines")
    add("--data", required=True, metavar="DIR", help="a folder in the layout of DAVIS")
    add("--clips", type=int, metavar="N", help="the first N clips alone")
    add("--memory", type=int, metavar="K", help="past frames as examples; default: as shipped")
    add("--size", type=int, help="longer side at which frames are seen; default: the model's")
    add("--skip-baselines", action="store_true")
    add("--json", metavar="FILE", help="write all numbers here")
    return parser


if __name__ == "__main__":
    sys.exit(main())
