"""Sprites pasted on pictures: endless objects with exact masks.

Every sprite class (the same emoji by several artists, a clip-art drawing) gets a few pictures,
so that a class has others to pair with. What is pasted beside it belongs to other classes.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from data.folder import Folder
from data.pack import Entry, Pack, Source

Rgba = UInt8[np.ndarray, "_ _ 4"]  # each of its own size


def sprite_classes(folders: Sequence[Folder]) -> list[list[Rgba]]:
    """Return the sprites of each class: those that share a `short_name`, or one alone."""
    classes: dict[tuple[str, str], list[Rgba]] = defaultdict(list)
    for folder in folders:
        if folder.kind != "sprites":
            continue
        for number, (entry, cell) in enumerate(folder.sprites()):
            if (cell[..., 3] > 127).mean() > 0.1:  # thin outlines make no object
                classes[folder.name, entry.get("short_name") or str(number)].append(cell)
    return list(classes.values())


def paste_sprites(
    classes: Sequence[Sequence[Rgba]],
    backgrounds: UInt8[np.ndarray, "n size size 3"],
    *,
    count: int,
    seed: int,
    per_class: int = 3,
    others: int = 4,
) -> Pack:
    """Make `count` pictures, `per_class` running ones for each class drawn."""
    rng = np.random.default_rng(seed)
    images, ids, entries = [], [], []
    while len(images) < count:
        main = int(rng.integers(len(classes)))
        for _ in range(min(per_class, count - len(images))):
            beside = rng.integers(len(classes), size=rng.integers(1, others + 1))
            chosen = [int(c) for c in beside] + [main] * int(rng.integers(1, 3))
            background = backgrounds[rng.integers(len(backgrounds))]
            image, mask, entry = _compose(rng, background, chosen, classes)
            images.append(image)
            ids.append(np.stack([mask, mask], axis=-1))
            entries.append(entry)
    source = Source("pasted_sprites", "instance", 0, tuple(entries))
    return Pack(np.stack(images), np.stack(ids), (source,))


def paste(
    canvas: Image.Image,
    mask: Image.Image,
    sprite: Image.Image,
    *,
    at: tuple[int, int],
    label: int,
) -> None:
    """Blend an RGBA sprite into a canvas, and mark where it is more than half opaque."""
    alpha = sprite.getchannel("A")
    canvas.paste(sprite.convert("RGB"), at, alpha)
    mask.paste(label, at, alpha.point([0] * 128 + [255] * 128))


def _compose(
    rng: np.random.Generator,
    background: UInt8[np.ndarray, "size size 3"],
    chosen: Sequence[int],
    classes: Sequence[Sequence[Rgba]],
) -> tuple[np.ndarray, np.ndarray, Entry]:
    """Paste one sprite of each chosen class, later ones over earlier ones."""
    size = background.shape[0]
    canvas = Image.fromarray(background)
    mask = Image.new("L", (size, size))
    for number, index in enumerate(chosen, start=1):
        cell = classes[index][int(rng.integers(len(classes[index])))]
        side = int(size * rng.uniform(0.18, 0.6))
        sprite = Image.fromarray(cell).resize((side, side), Image.Resampling.BICUBIC)
        if rng.random() < 0.5:
            sprite = sprite.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        sprite = sprite.rotate(rng.uniform(-30, 30), Image.Resampling.BICUBIC, expand=True)
        left, top = rng.integers(-side // 4, size - side * 3 // 4, size=2).tolist()
        paste(canvas, mask, sprite, at=(left, top), label=number)
    ids = np.asarray(mask)
    counts = np.bincount(ids.reshape(-1), minlength=len(chosen) + 1) / ids.size
    shown = {n: c for n, c in enumerate(chosen, start=1) if counts[n] > 0}
    areas: dict[int, float] = defaultdict(float)
    for number, index in shown.items():
        areas[index] += float(counts[number])
    return np.asarray(canvas), ids, Entry(shown, shown, dict(areas))
