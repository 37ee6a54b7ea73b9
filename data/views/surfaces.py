"""Backgrounds for drawn pictures: blurred photos or noise of two scales, with a light gradient."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageFilter
from scipy import ndimage

Rng = np.random.Generator
Photo = Callable[[Rng], Image.Image]  # gives a random picture
Canvas = Float[np.ndarray, "size size 3"]  # RGB in 0..255, beyond it before `finish`


@dataclass(frozen=True, kw_only=True)
class Surface:
    """The ground that pictures of one family share, and how what lies on it differs from it."""

    blur_px: float | None  # of the photo that is the ground; None: the ground is noise
    base: Float[np.ndarray, " 3"]
    grains: tuple[tuple[float, float], ...]  # of the noise: width in pixels, weight
    depth: Float[np.ndarray, " 3"]  # how far the noise departs from the base
    grey: bool
    slope: float  # how much lighter one edge is than the other
    noise: float  # deviation of every pixel's own noise
    softness_px: float  # blur of what lies on it
    contrast: Float[np.ndarray, " 3"]  # its colour less the ground's


def draw_surface(rng: Rng, *, photos: bool = True) -> Surface:
    """Draw a surface; without `photos` its ground is always noise."""
    blur_px = rng.uniform(1, 14) if photos and rng.random() < 1 / 3 else None
    fine = (rng.uniform(1, 3), rng.uniform(0.2, 1))
    coarse = (rng.uniform(4, 40), rng.uniform(0.2, 1))
    base, noise = rng.uniform(20, 235, 3), rng.uniform(0, 14)
    depth = rng.uniform(5, 35) * rng.uniform(0.5, 1.2, 3)
    clutter = np.hypot(np.hypot(fine[1], coarse[1]) * depth.mean(), noise)
    return Surface(
        blur_px=blur_px,
        base=base,
        grains=(fine, coarse),
        depth=depth,
        grey=bool(rng.random() < 0.3),
        slope=rng.uniform(0, 0.7) if rng.random() < 0.6 else 0.0,
        noise=noise,
        softness_px=rng.uniform(0.3, 1.3),
        contrast=_draw_contrast(rng, base, float(clutter)) * rng.uniform(0.6, 1.2, 3),
    )


def _draw_contrast(rng: Rng, base: Float[np.ndarray, " 3"], clutter: float) -> float:
    """Draw how much lighter or darker than a ground something is: enough to be seen on it."""
    sign = draw_sign(rng)
    if not 95 < base.mean() < 160:  # so light or dark that only one way is room
        sign = 1 if base.mean() < 128 else -1
    return sign * max(rng.uniform(22, 110), 1.2 * clutter + 10)


def draw_sign(rng: Rng) -> int:
    """Draw -1 or 1."""
    return 1 if rng.random() < 0.5 else -1


def paint_ground(surface: Surface, rng: Rng, *, photo: Photo, size: int) -> Canvas:
    """Paint another ground of a surface."""
    if surface.blur_px is not None:
        image = photo(rng).resize((size, size), Image.Resampling.BICUBIC)
        canvas = np.asarray(image.filter(ImageFilter.GaussianBlur(surface.blur_px)), np.float32)
    else:
        grain = sum(weight * smooth_noise(rng, width, size) for width, weight in surface.grains)
        canvas = surface.base + np.asarray(grain)[..., None] * surface.depth
    if surface.grey:
        canvas = np.repeat(canvas.mean(axis=-1, keepdims=True), 3, axis=-1)
    if surface.slope:
        y, x = np.mgrid[:size, :size] / size - 0.5
        angle = rng.uniform(0, 2 * np.pi)
        canvas *= (1 + surface.slope * (np.cos(angle) * x + np.sin(angle) * y))[..., None]
    return canvas


def finish(canvas: Canvas, rng: Rng, *, noise: float) -> UInt8[np.ndarray, "size size 3"]:
    """Add grey noise and round to what a picture holds."""
    grain = rng.standard_normal((*canvas.shape[:2], 1)) * noise
    return np.clip(canvas + grain, 0, 255).astype(np.uint8)


def smooth_noise(rng: Rng, width_px: float, size: int) -> Float[np.ndarray, "size size"]:
    """Draw noise blurred by so many pixels (2.4 at least), of mean 0 and deviation 1."""
    coarse = rng.standard_normal((size // 4, size // 4))
    coarse = ndimage.gaussian_filter(coarse, max(0.6, width_px / 4), mode="wrap")
    image = Image.fromarray(coarse.astype(np.float32))
    noise = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))
    return (noise - noise.mean()) / (noise.std() + 1e-6)


def soften(mask: np.ndarray, width_px: float) -> Float[np.ndarray, "size size 1"]:
    """Blur a mask, with an axis for the channels."""
    return ndimage.gaussian_filter(mask.astype(np.float32), width_px)[..., None]
