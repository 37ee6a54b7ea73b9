"""Sprites pasted on pictures: endless objects with exact masks.

Every sprite class (the same emoji by several artists, a clip-art drawing) gets a few pictures,
so that a class has others to pair with. What is pasted beside it belongs to other classes.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from data.folder import Folder, Kind
from data.pictures import Decoded, Entry, Source

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


@dataclass(frozen=True, eq=False)
class PastedSource:
    """Pictures of pasted sprites, `per_class` running ones for each class drawn.

    What a picture shows depends on the seed and its number alone, and its ground is any picture of
    other sources.
    """

    classes: Sequence[Sequence[Rgba]]
    grounds: Sequence[Source]
    count: int
    seed: int
    per_class: int = 3
    others: int = 4
    name: str = "pasted_sprites"
    kind: Kind = "instance"

    def __len__(self) -> int:
        return self.count

    def entry(self, number: int) -> Entry:
        """Return what a picture shows; how much of it is not known before it is made."""
        ids = dict(enumerate(self._choose(number)[0], start=1))
        return Entry(ids, ids, dict.fromkeys(ids.values(), 1.0))

    def read(self, number: int, size: int) -> Decoded:
        """Make a picture and its mask, which is that of classes and of instances."""
        chosen, rng = self._choose(number)
        ground = self.grounds[int(rng.integers(len(self.grounds)))]
        background = ground.read(int(rng.integers(len(ground))), size).image
        image, mask = _compose(rng, background, chosen, self.classes)
        return Decoded(image, np.stack([mask, mask], axis=-1))

    def _choose(self, number: int) -> tuple[list[int], np.random.Generator]:
        """Return the class of each sprite, and what draws the rest."""
        rng = np.random.default_rng([self.seed, number // self.per_class])
        main = int(rng.integers(len(self.classes)))
        rng = np.random.default_rng([self.seed, number // self.per_class, number])
        beside = rng.integers(len(self.classes), size=rng.integers(1, self.others + 1))
        return beside.tolist() + [main] * int(rng.integers(1, 3)), rng


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
) -> tuple[np.ndarray, np.ndarray]:
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
    return np.asarray(canvas), np.asarray(mask)
