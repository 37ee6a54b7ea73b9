"""Short clips with known masks: `python -m data.clips --data PATH... --out DIR`.

There is no video among the data sets, so things that were cut out of pictures move over other
pictures: they turn, grow and shrink, pass behind each other and behind things that no mask tells,
leave and come back, among others that look alike. The camera pans and the light changes. What is
written has the layout of DAVIS: JPEGImages/CLIP/00000.jpg and Annotations/CLIP/00000.png.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from data.folder import Folder, open_folders
from data.synthetic import Rgba, paste
from data.views.composites import CompositesConfig, Material, cut_out, gather_material
from data.views.photos import jitter_colours, random_photo

logger = logging.getLogger(__name__)

Rng = np.random.Generator
CUTS = CompositesConfig(sprite_sets=(), cut_area=(0.02, 0.4))


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """How clips look."""

    frames: int = 40
    size: tuple[int, int] = (448, 336)  # width, height in pixels
    things: tuple[int, int] = (1, 3)  # fewest and most that the mask tells
    strangers: tuple[int, int] = (0, 2)  # and that it does not
    side: tuple[float, float] = (0.25, 0.5)  # longer side of a thing, as a share of the frame's
    growth: float = 0.3  # the most by which the size of a thing departs from that
    turn: float = 25.0  # degrees to either side
    pan: float = 0.2  # how far the camera moves at most, as a share of the frame
    light: float = 0.15  # the most by which brightness departs from the picture's
    leaving: float = 0.25  # share of things that leave the frame and come back
    hidden: float = 0.4  # share of clips in which a still thing hides others for a while


@dataclass(frozen=True)
class _Actor:
    """A thing that moves, at all times."""

    look: Rgba
    label: int  # 0: not in the mask
    places: Float[np.ndarray, "t 2"]  # of its middle, (x, y) in pixels
    sides: Float[np.ndarray, " t"]  # the longer one
    turns: Float[np.ndarray, " t"]  # degrees


def make_clip(
    material: Material, rng: Rng, *, config: ClipConfig
) -> tuple[list[UInt8[np.ndarray, "h w 3"]], list[UInt8[np.ndarray, "h w"]]]:
    """Draw a clip: its frames, and a mask of the things 1, 2, ... in each."""
    things = int(rng.integers(config.things[0], config.things[1] + 1))
    strangers = int(rng.integers(config.strangers[0], config.strangers[1] + 1))
    looks = [cut_out(material, rng, CUTS) for _ in range(things + strangers)]
    actors = [
        _direct(look, rng, config, label=number if number <= things else 0)
        for number, look in enumerate(looks, 1)
    ]
    actors = [actors[i] for i in rng.permutation(len(actors))]  # from back to front
    if rng.random() < config.hidden:
        actors.append(_stand(cut_out(material, rng, CUTS), rng, config))
    width, height = config.size
    wide = [round(side * (1 + config.pan)) for side in config.size]
    background = random_photo(material.photos, rng).resize((wide[0], wide[1]))
    ways = rng.uniform(0, 1, (2, 2)) * (wide[0] - width, wide[1] - height)
    light = 1 + config.light * _wave(rng, config.frames)
    frames, masks = [], []
    for t in range(config.frames):
        left, top = (ways[0] + (ways[1] - ways[0]) * t / max(1, config.frames - 1)).astype(int)
        canvas = background.crop((left, top, left + width, top + height))
        mask = Image.new("L", canvas.size)
        for actor in actors:
            _play(canvas, mask, actor, t)
        frame = np.clip(np.asarray(canvas) * light[t], 0, 255).astype(np.uint8)
        frames.append(frame)
        masks.append(np.asarray(mask))
    return frames, masks


def _direct(look: Rgba, rng: Rng, config: ClipConfig, *, label: int) -> _Actor:
    """Choose how a thing moves; it starts well inside the frame."""
    size, frames = np.asarray(config.size), config.frames
    stops = rng.uniform(0.2, 0.8, (4, 2))
    if rng.random() < config.leaving:
        stops[2, 0] = rng.choice([-0.4, 1.4])
    at = np.linspace(0, len(stops) - 1, frames)
    # Cosines between the stops: it slows down where it turns.
    before = np.minimum(at.astype(int), len(stops) - 2)
    share = (1 - np.cos(np.pi * (at - before)))[:, None] / 2
    places = (stops[before] * (1 - share) + stops[before + 1] * share) * size
    side = rng.uniform(*config.side) * max(config.size)
    return _Actor(
        look=np.asarray(jitter_colours(Image.fromarray(look), rng, strength=0.2)),
        label=label,
        places=places,
        sides=side * (1 + config.growth * _wave(rng, frames)),
        turns=config.turn * _wave(rng, frames),
    )


def _stand(look: Rgba, rng: Rng, config: ClipConfig) -> _Actor:
    """Put a still thing somewhere in the middle, in front of all."""
    frames = config.frames
    place = rng.uniform(0.35, 0.65, 2) * config.size
    side = rng.uniform(0.3, 0.45) * max(config.size)
    return _Actor(look, 0, np.tile(place, (frames, 1)), np.full(frames, side), np.zeros(frames))


def _wave(rng: Rng, frames: int) -> Float[np.ndarray, " t"]:
    """Return a slow sine of random period, phase and strength, 0 at the first frame."""
    at = rng.uniform(0.5, 1.5) * 2 * np.pi * np.arange(frames) / frames
    phase = rng.uniform(0, 2 * np.pi)
    return rng.uniform(0.5, 1) * (np.sin(at + phase) - np.sin(phase)) / 2


def _play(canvas: Image.Image, mask: Image.Image, actor: _Actor, t: int) -> None:
    """Paste a thing as it is at one time."""
    look = Image.fromarray(actor.look)
    scale = actor.sides[t] / max(look.size)
    sides = (max(4, round(look.width * scale)), max(4, round(look.height * scale)))
    look = look.resize(sides, Image.Resampling.BICUBIC)
    look = look.rotate(actor.turns[t], Image.Resampling.BICUBIC, expand=True)
    x, y = actor.places[t]
    paste(
        canvas,
        mask,
        look,
        at=(round(x - look.width / 2), round(y - look.height / 2)),
        label=actor.label,
    )


def is_fair(masks: Sequence[UInt8[np.ndarray, "h w"]], *, least: float = 0.01) -> bool:
    """Return whether all things of a clip can be seen well in its first frame, and again later."""
    labels = sorted({int(label) for mask in masks for label in np.unique(mask)} - {0})
    wanted = list(range(1, len(labels) + 1)) == labels
    shares = np.array([[(mask == label).mean() for label in labels] for mask in masks])
    return wanted and bool(labels) and bool((shares[0] >= least).all() and (shares[-1] > 0).all())


def write_clips(
    folders: Sequence[Folder], out: Path, *, count: int, seed: int, config: ClipConfig
) -> None:
    """Write clips, each from its own seed.

    Raises:
        ValueError: if no data set has instances to cut out.
    """
    photos = [
        (folder, name)
        for folder in folders
        if folder.kind != "sprites"
        for name in folder.pictures()
    ]
    material = gather_material(folders, photos, config=CUTS)
    number = 0
    for clip in range(count):
        while True:
            rng = np.random.default_rng([seed, number])
            number += 1
            frames, masks = make_clip(material, rng, config=config)
            if is_fair(masks):
                break
        for kind, images in (("JPEGImages", frames), ("Annotations", masks)):
            folder = out / kind / f"clip-{clip:02d}"
            folder.mkdir(parents=True, exist_ok=True)
            for t, image in enumerate(images):
                _save(folder, t, image)
        logger.info("clip %d of %d", clip + 1, count)


def _save(folder: Path, t: int, image: UInt8[np.ndarray, "h w *c"]) -> None:
    suffix = ".jpg" if image.ndim == 3 else ".png"
    Image.fromarray(image).save(folder / f"{t:05d}{suffix}", quality=90)


def main(argv: Sequence[str] | None = None) -> int:
    """Write clips from the command line."""
    parser = argparse.ArgumentParser(prog="data.clips", description=__doc__)
    parser.add_argument("--data", nargs="+", required=True, metavar="PATH", help="data sets")
    parser.add_argument("--out", required=True, metavar="DIR", type=Path)
    parser.add_argument("--clips", type=int, default=20, metavar="N", help="default: 20")
    parser.add_argument("--frames", type=int, default=40, metavar="N", help="default: 40")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        folders = [folder for path in args.data for folder in open_folders(path)]
        config = ClipConfig(frames=args.frames)
        write_clips(folders, args.out, count=args.clips, seed=args.seed, config=config)
    except (ValueError, OSError) as error:
        print(f"data.clips: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
