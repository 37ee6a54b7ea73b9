"""Groups of pictures that show the same three things, pasted on photos with exact masks.

A thing is an instance cut out of a training picture, an emoji (in another artist's hand every
time) or a drawing of clip art. Strangers lie among them that no mask tells.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from data.folder import Folder
from data.synthetic import Rgba, paste, sprite_classes
from data.views.photos import jitter_colours, pick, random_photo

Rng = np.random.Generator
Thing = Sequence[Rgba]  # its looks: of a cut-out one, of an emoji one by each artist


@dataclass(frozen=True, kw_only=True)
class CompositesConfig:
    """What is pasted, and how."""

    things: int = 3  # of a group
    sprite_sets: tuple[str, ...] = ("emoji_styles", "openclipart_sprites")
    cut_outs: float = 0.5  # share of groups whose things are cut out of pictures
    # Nuclei and parts of facades mean little by themselves.
    not_cut: tuple[str, ...] = ("dsb2018_nuclei", "building_facades")
    cut_area: tuple[float, float] = (0.01, 0.6)  # of an instance, as a share of its picture
    missing: float = 0.12  # share of pictures in which a thing is not
    twice: float = 1 / 3  # share of the others in which it is there twice
    strangers: int = 2  # at most
    side: tuple[float, float] = (0.14, 0.5)  # longer side of a thing, as a share of the picture's
    turn: float = 25.0  # degrees to either side
    strength: float = 0.35  # of the jitter of a thing's colours
    picture_strength: float = 0.25  # of the whole picture's


@dataclass(frozen=True)
class Material:
    """What composites are made of."""

    photos: Sequence[tuple[Folder, str]]  # backgrounds
    cuts: Sequence[tuple[Folder, str]]  # pictures with instances to cut out
    sprites: Sequence[Sequence[Thing]]  # things of every sprite set


def gather_material(
    folders: Sequence[Folder],
    photos: Sequence[tuple[Folder, str]],
    *,
    config: CompositesConfig,
) -> Material:
    """Read the sprites, and choose the photos that have instances to cut out.

    Raises:
        ValueError: if there is nothing to paste, or nothing to paste on.
    """
    cuts = [
        (folder, name)
        for folder, name in photos
        if folder.has_instances and folder.name not in config.not_cut and folder.instances(name)
    ]
    sets = [sprite_classes([folder]) for folder in folders if folder.name in config.sprite_sets]
    sprites = [things for things in sets if things]
    if not photos or not (cuts or sprites):
        raise ValueError("no pictures with instances and no sprites: nothing can be pasted")
    return Material(photos, cuts, sprites)


def choose_things(material: Material, rng: Rng, *, config: CompositesConfig) -> list[Thing]:
    """Choose the things of a group, all cut out or all of one sprite set."""
    if material.cuts and (not material.sprites or rng.random() < config.cut_outs):
        return [[cut_out(material, rng, config)] for _ in range(config.things)]
    sprites = pick(material.sprites, rng)
    return [pick(sprites, rng) for _ in range(config.things)]


def paste_things(
    things: Sequence[Thing],
    material: Material,
    rng: Rng,
    *,
    size: int,
    config: CompositesConfig,
) -> tuple[UInt8[np.ndarray, "size size 3"], UInt8[np.ndarray, "size size"]]:
    """Make one picture of a group; things have the labels 1, 2 ... in their order."""
    canvas = _background(material, rng, size)
    mask = Image.new("L", canvas.size)
    for _ in range(rng.integers(config.strangers + 1) if material.sprites else 0):
        stranger = pick(pick(material.sprites, rng), rng)
        _paste_one(canvas, mask, stranger, rng, config, label=0)
    for index in rng.permutation(len(things)):
        if rng.random() < config.missing:
            continue
        for _ in range(2 if rng.random() < config.twice else 1):
            _paste_one(canvas, mask, things[index], rng, config, label=int(index) + 1)
    image = jitter_colours(canvas, rng, strength=config.picture_strength)
    return np.asarray(image), np.asarray(mask)


def _background(material: Material, rng: Rng, size: int) -> Image.Image:
    """Crop a photo to half its sides or more, as a square."""
    photo = random_photo(material.photos, rng)
    keep = rng.uniform(0.5, 1)
    width, height = (max(1, int(side * keep)) for side in photo.size)
    left = int(rng.integers(photo.width - width + 1))
    top = int(rng.integers(photo.height - height + 1))
    crop = photo.crop((left, top, left + width, top + height))
    return crop.resize((size, size), Image.Resampling.BICUBIC)


def _paste_one(
    canvas: Image.Image,
    mask: Image.Image,
    thing: Thing,
    rng: Rng,
    config: CompositesConfig,
    *,
    label: int,
) -> None:
    """Paste one look of a thing at a random size, turn and place, part of it perhaps outside."""
    look = Image.fromarray(pick(thing, rng))
    scale = rng.uniform(*config.side) * canvas.width / max(look.size)
    sides = (max(4, int(look.width * scale)), max(4, int(look.height * scale)))
    look = look.resize(sides, Image.Resampling.BICUBIC)
    look = jitter_colours(look, rng, strength=config.strength)
    turn = rng.uniform(-config.turn, config.turn)
    look = look.rotate(turn, Image.Resampling.BICUBIC, expand=True)
    if rng.random() < 0.5:
        look = look.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    left, top = (
        int(rng.integers(-(side // 4), canvas.width - 3 * side // 4 + 1)) for side in look.size
    )
    paste(canvas, mask, look, at=(left, top), label=label)


def cut_out(material: Material, rng: Rng, config: CompositesConfig) -> Rgba:
    """Cut an instance of middling size out of some picture, its box as RGBA.

    Raises:
        ValueError: if a hundred pictures have none.
    """
    least, most = config.cut_area
    for _ in range(100):
        folder, name = pick(material.cuts, rng)
        ids = folder.instance_ids(name)
        shares = np.bincount(ids.reshape(-1), minlength=256) / ids.size
        fitting = [id_ for id_ in range(1, 255) if least < shares[id_] < most]
        if fitting:
            mask = ids == pick(fitting, rng)
            rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
            box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
            alpha = mask[box].astype(np.uint8) * 255
            return np.dstack([folder.image(name)[box], alpha])
    raise ValueError(f"no instance covers {least:.0%} to {most:.0%} of its picture")
