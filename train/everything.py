"""Score everything mode: `python -m train.everything --weights NAME --data PATH...`.

For some pictures of each data set with instances all things are found, without a prompt. Recall is
the share of labelled objects of which some mask has an IoU of 0.5 or more; the number of masks a
picture says at what price. Felzenszwalb's graph cuts and a watershed of gradients (scikit-image,
extra `eval`) partition the same pictures. Sets that the weights were not trained on give all their
pictures, the others their validation split.
"""

import argparse
import json
import logging
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from data.clicks import MAX_AREA, MIN_AREA
from data.folder import Folder
from train.evals.tool import open_all, parse_sets, run_tool

logger = logging.getLogger(__name__)

FOUND = 0.5  # the IoU from which on an object is found
# Of Felzenszwalb and Huttenlocher: the smallest region as a share of the picture, and two scales,
# as selective search takes them (Uijlings et al. 2013).
LEAST_REGION = 0.002
SCALES = (100, 300)
BLOBS = 60  # markers of the watershed along the longer side of a picture, at most

Masks = Sequence[Bool[np.ndarray, "h w"]]
Find = Callable[[UInt8[np.ndarray, "h w 3"]], Masks]


@dataclass(frozen=True)
class Sweeps:
    """What one finder reached on one data set."""

    objects: int
    found: int
    masks: int
    pictures: int
    seconds: float

    @property
    def recall(self) -> float:
        """The share of objects found, in percent."""
        return 100 * self.found / max(1, self.objects)

    @property
    def columns(self) -> tuple[float, float, float]:
        """Recall, and masks and seconds a picture."""
        return self.recall, self.masks / self.pictures, self.seconds / self.pictures


def evaluate(
    finders: dict[str, Find],
    folders: Sequence[Folder],
    *,
    pictures: int,
    seed: int,
    unseen: set[str],
) -> dict[str, dict[str, Sweeps]]:
    """Score finders over the same pictures of every data set that has instances.

    Raises:
        ValueError: if there is none.
    """
    scores: dict[str, dict[str, Sweeps]] = {}
    for folder in folders:
        if not folder.has_instances:
            continue
        split = None if folder.name in unseen else "val"
        names = _draw(folder, count=pictures, seed=seed, split=split)
        if names:
            scores[folder.name] = {
                name: _score(find, folder, names) for name, find in finders.items()
            }
            logger.info("%s: %d pictures", folder.name, len(names))
    if not scores:
        raise ValueError("--data: no instance masks with objects to find; add such a data set")
    return scores


def objects_of(folder: Folder, picture: str) -> list[Bool[np.ndarray, "h w"]]:
    """Return the objects of a picture that are neither specks nor most of it."""
    ids = folder.instance_ids(picture)
    shares = np.bincount(ids.ravel(), minlength=256) / ids.size
    kept = [i for i in folder.instances(picture) if MIN_AREA <= shares[i] <= MAX_AREA]
    return [ids == i for i in sorted(kept)]


def _draw(folder: Folder, *, count: int, seed: int, split: str | None) -> list[str]:
    """Draw pictures with objects; fewer of them are the first ones."""
    rng = np.random.default_rng([seed, zlib.crc32(folder.name.encode())])
    names = folder.pictures(split)
    drawn: list[str] = []
    for place in rng.permutation(len(names)):
        if len(drawn) == count:
            break
        if objects_of(folder, names[place]):
            drawn.append(names[place])
    return drawn


def _score(find: Find, folder: Folder, names: Sequence[str]) -> Sweeps:
    objects = found = masks = 0
    seconds = 0.0
    for name in names:
        image = folder.image(name)
        start = time.perf_counter()
        given = find(image)
        seconds += time.perf_counter() - start
        wanted = objects_of(folder, name)
        objects, masks = objects + len(wanted), masks + len(given)
        found += int((best_ious(given, wanted) >= FOUND).sum())
    return Sweeps(objects, found, masks, len(names), seconds)


def best_ious(given: Masks, wanted: Masks) -> np.ndarray:
    """Return for each wanted object the highest IoU of any mask."""
    if not given:
        return np.zeros(len(wanted))
    flat = np.stack([mask.reshape(-1) for mask in given]).astype(np.float32)
    areas = flat.sum(axis=1)
    best = []
    for thing in wanted:
        both = flat @ thing.reshape(-1).astype(np.float32)
        best.append((both / np.maximum(areas + thing.sum() - both, 1)).max())
    return np.asarray(best)


def load_finders(args: argparse.Namespace) -> tuple[dict[str, Find], set[str]]:
    """Return the model and the baselines that can run here, and what the model was trained on."""
    from incontext import AutomaticMaskGenerator

    options: dict[str, Any] = {"points_per_side": args.points_per_side, "prompts": args.prompts}
    for name in ("pred_iou_thresh", "stability_score_thresh"):
        if (value := getattr(args, name)) is not None:
            options[name] = value
    generator = AutomaticMaskGenerator.from_pretrained(args.weights, **options)
    trained = parse_sets(generator.model.metadata.get("train_sets", ""))
    finders: dict[str, Find] = {
        "model": lambda image: [record["segmentation"] for record in generator.generate(image)]
    }
    if find_spec("skimage"):
        finders |= {"felzenszwalb": felzenszwalb, "watershed": watershed}
    else:
        logger.warning('no baselines: pip install "seggpt-jax[eval]"')
    return finders, trained


def felzenszwalb(image: UInt8[np.ndarray, "h w 3"]) -> Masks:
    """Return the regions of graph cuts at two scales."""
    from skimage.segmentation import felzenszwalb as cut

    least = max(20, int(LEAST_REGION * image[..., 0].size))
    masks: list[Bool[np.ndarray, "h w"]] = []
    for scale in SCALES:
        parts = cut(image, scale=scale, sigma=0.8, min_size=least)
        masks += [parts == part for part in range(parts.max() + 1)]
    return masks


def watershed(image: UInt8[np.ndarray, "h w 3"]) -> Masks:
    """Return the basins of the smoothed picture's gradient."""
    from skimage.filters import gaussian, sobel
    from skimage.segmentation import watershed as flood

    sigma = max(image.shape[:2]) / 200
    grey = gaussian(np.asarray(Image.fromarray(image).convert("L"), float), sigma)
    parts = flood(sobel(grey), markers=BLOBS)
    return [parts == part for part in np.unique(parts)]


def format_scores(scores: dict[str, dict[str, Sweeps]], *, unseen: set[str]) -> str:
    """Lay scores out as text: recall, and masks and seconds a picture, finders side by side."""
    names = list(next(iter(scores.values())))
    lines = [24 * " " + "".join(f"{name:>28}" for name in names)]
    lines.append(f"{'recall (%), a picture':24}" + len(names) * f"{'recall   masks   seconds':>28}")
    for group in ("val", "unseen"):
        rows = {n: s for n, s in scores.items() if (n in unseen) == (group == "unseen")}
        if not rows:
            continue
        cells = {title: [row[name].columns for name in names] for title, row in rows.items()}
        cells["= " + group] = np.mean(list(cells.values()), axis=0).tolist()
        for title, row in cells.items():
            numbers = [f"{found:12.1f}{masks:8.1f}{spent:8.1f}" for found, masks, spent in row]
            lines.append(f"{title:24}" + "".join(numbers))
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; return the exit code."""
    args = _parser().parse_args(argv)
    return run_tool("everything", lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    folders = open_all(args.data)
    finders, trained = load_finders(args)
    unseen = {folder.name for folder in folders} - trained
    drawn: dict[str, Any] = {"pictures": args.pictures, "seed": args.seed, "unseen": unseen}
    scores = evaluate(finders, folders, **drawn)
    print(format_scores(scores, unseen=unseen), flush=True)
    if args.json:
        rows = {
            n: {f: vars(s) | {"recall": s.recall} for f, s in row.items()}
            for n, row in scores.items()
        }
        Path(args.json).write_text(json.dumps({"config": vars(args), "datasets": rows}, indent=1))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m train.everything", description=__doc__)
    add = parser.add_argument
    add("--weights", required=True, metavar="NAME_OR_FILE", help="they also say what is unseen")
    add("--data", nargs="+", required=True, metavar="PATH", help="folders or zips of data sets")
    add("--pictures", type=int, default=4, metavar="N", help="of a data set")
    add("--seed", type=int, default=0)
    add("--points-per-side", type=int, default=32, metavar="N")
    add("--prompts", choices=("grid", "boxes"), default="grid")
    add("--pred-iou-thresh", type=float, metavar="P", help="default: the generator's")
    add("--stability-score-thresh", type=float, metavar="P", help="default: the generator's")
    add("--json", metavar="FILE", help="write all numbers here")
    return parser


if __name__ == "__main__":
    sys.exit(main())
