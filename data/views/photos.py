"""Random views of pictures with masks: a crop squeezed to a square, flipped and recoloured.

A view is made once and kept, with what a frozen encoder says of it (`data.feature_cache`), so
that its randomness is all in one generator.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeVar

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageEnhance

from data.folder import IGNORE, Folder

CAPS = MappingProxyType({"oxford_pets": 350, "dsb2018_nuclei": 250})  # hundreds that look alike
T = TypeVar("T")
Box = tuple[int, int, int, int]  # left, top, right, bottom


@dataclass(frozen=True)
class View:
    """A picture and its two masks; 0 is background, 255 in `classes` ignored."""

    image: UInt8[np.ndarray, "h w 3"]
    classes: UInt8[np.ndarray, "h w"]
    instances: UInt8[np.ndarray, "h w"]  # all 0 where the data set has none


@dataclass(frozen=True, kw_only=True)
class ViewsConfig:
    """Which pictures have views, and how each view is cut out and recoloured."""

    size: int = 336  # side of a view, in pixels
    caps: Mapping[str, int] = field(default_factory=lambda: dict(CAPS))  # most pictures, by set
    least_area: float = 0.2  # of a crop, as a share of the picture
    aspect: float = 0.4  # a crop's width to height is up to e to this power, or its inverse
    tries: int = 8  # crops drawn, of which the first that shows enough is kept
    least_shown: float = 0.004  # share of a crop that must be marked to be enough
    flip: float = 0.5
    jitter: float = 0.6  # share of views whose colours are jittered
    strength: float = 0.32  # brightness, contrast and saturation change by up to this share
    grey: float = 0.06


def picture_names(folder: Folder, *, split: str, cap: int | None = None) -> list[str]:
    """Return the names of a split's pictures, at most `cap` of them, evenly spread."""
    names = folder.pictures(split)
    if cap is None or len(names) <= cap:
        return names
    return [names[i] for i in np.linspace(0, len(names) - 1, cap).round().astype(int)]


def read_view(folder: Folder, picture: str) -> View:
    """Read a whole picture and its masks.

    Ids of a `regions` set mean nothing in another picture, so that they count as instances. Of
    more than 254 instances the first ones are kept.

    Raises:
        ValueError: if the data set has more classes than a view can tell apart.
    """
    labels = folder.labels(picture)
    if labels.dtype != np.uint8:
        raise ValueError(
            f"{folder.name}: class {labels.max()} of {picture}, and views tell 254 classes apart; "
            "train from pixels, or merge classes"
        )
    instances = np.zeros_like(labels)
    if folder.has_instances:
        ids = folder.instance_ids(picture)
        instances = np.where(ids < IGNORE, ids, 0).astype(np.uint8)
    if folder.kind == "regions":
        ignored = labels == IGNORE
        instances = np.where(ignored, np.uint8(0), labels)
        labels = np.where(ignored, np.uint8(IGNORE), np.uint8(0))
    return View(folder.image(picture), labels, instances)


def random_view(whole: View, rng: np.random.Generator, *, config: ViewsConfig) -> View:
    """Crop, squeeze, flip and recolour a picture, masks with it."""
    box = _choose_crop(whole, rng, config)
    image = _cut(whole.image, box, config.size, Image.Resampling.BICUBIC)
    masks = [
        np.asarray(_cut(mask, box, config.size, Image.Resampling.NEAREST))
        for mask in (whole.classes, whole.instances)
    ]
    if rng.random() < config.flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        masks = [mask[:, ::-1] for mask in masks]
    if rng.random() < config.jitter:
        image = jitter_colours(image, rng, strength=config.strength)
    if rng.random() < config.grey:
        image = image.convert("L").convert("RGB")
    return View(np.asarray(image), *masks)


def jitter_colours(image: Image.Image, rng: np.random.Generator, *, strength: float) -> Image.Image:
    """Change brightness, contrast and saturation by factors of 1 - strength to 1 + strength."""
    for kind in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = kind(image).enhance(rng.uniform(1 - strength, 1 + strength))
    return image


def pick(items: Sequence[T], rng: np.random.Generator) -> T:
    """Draw one of some items."""
    return items[int(rng.integers(len(items)))]


def random_photo(pictures: Sequence[tuple[Folder, str]], rng: np.random.Generator) -> Image.Image:
    """Read one of some pictures, whole."""
    folder, name = pick(pictures, rng)
    return Image.fromarray(folder.image(name))


def _choose_crop(whole: View, rng: np.random.Generator, config: ViewsConfig) -> Box:
    """Draw crops until one shows something that is marked; the last one is taken in any case."""
    height, width = whole.classes.shape
    marked = (whole.classes > 0) & (whole.classes < IGNORE) | (whole.instances > 0)
    box = (0, 0, width, height)
    for _ in range(config.tries):
        box = _draw_crop(rng, width, height, config)
        left, top, right, bottom = box
        if marked[top:bottom, left:right].mean() > config.least_shown:
            break
    return box


def _draw_crop(rng: np.random.Generator, width: int, height: int, config: ViewsConfig) -> Box:
    """Draw a crop; in one of three it is as large as its aspect allows."""
    least = config.least_area
    shares = (1.0, rng.uniform(least, 1), rng.uniform(min(1.0, 1.75 * least), 1))
    area = pick(shares, rng) * width * height
    ratio = np.exp(rng.uniform(-config.aspect, config.aspect))
    crop_width = min(width, max(1, round(np.sqrt(area * ratio))))
    crop_height = min(height, max(1, round(np.sqrt(area / ratio))))
    left = int(rng.integers(width - crop_width + 1))
    top = int(rng.integers(height - crop_height + 1))
    return left, top, left + crop_width, top + crop_height


def _cut(
    array: UInt8[np.ndarray, "h w *c"], box: Box, size: int, method: Image.Resampling
) -> Image.Image:
    return Image.fromarray(array).crop(box).resize((size, size), method)
