"""Procedurally drawn families of pictures with masks, for what open data sets lack.

Thin lines, packed cells, textured regions and small spots. A family fixes what its pictures share
(ground, colours, widths), all of it drawn from one generator; each call of what it returns draws
another picture of it from another generator. Widths are in pixels, meant for pictures of 336.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw
from scipy.spatial import KDTree

from data.views.surfaces import (
    Canvas,
    Photo,
    Rng,
    draw_sign,
    draw_surface,
    finish,
    paint_ground,
    smooth_noise,
    soften,
)

Drawing = tuple[UInt8[np.ndarray, "size size 3"], UInt8[np.ndarray, "size size"]]
Draw = Callable[[Rng], Drawing]  # a picture and its labels, 0 for background
Point = tuple[float, float]

STRIDE_PX = 4  # between the points of a line, on a canvas twice as large as the picture


@dataclass(frozen=True, kw_only=True)
class _Lines:
    """What the lines of a family share: cracks start anywhere, roots and vessels at the edge."""

    cracks: bool
    most: int
    width_px: float
    wander: float  # deviation of the turn at every point
    taper: float  # share of its width that a line loses
    branching: float  # chance of a branch at every point
    direction: float  # of cracks


def make_lines(rng: Rng, *, photo: Photo, size: int) -> Draw:
    """Make a family of wandering lines: cracks, roots, vessels; in a quarter with a second kind."""
    surface = draw_surface(rng)
    cracks = bool(rng.random() < 0.5)
    lines = _Lines(
        cracks=cracks,
        most=int(rng.integers(1, 4) if cracks else rng.integers(3, 9)),
        width_px=rng.uniform(1, 4.5),
        wander=rng.uniform(0.05, 0.45),
        taper=rng.uniform(0, 0.8),
        branching=rng.uniform(0, 0.03) if cracks else rng.uniform(0.01, 0.06),
        direction=rng.uniform(0, 2 * np.pi),
    )
    second = draw_sign(rng) * rng.uniform(25, 100) * rng.uniform(0.5, 1.3, 3)
    has_second = rng.random() < 0.25

    def draw(rng: Rng) -> Drawing:
        canvas = paint_ground(surface, rng, photo=photo, size=size)
        first = _network(lines, rng, most=lines.most, width_px=lines.width_px, size=size)
        soft = soften(first, surface.softness_px)
        canvas = canvas + soft * surface.contrast * rng.uniform(0.8, 1.2)
        labels = (first > 0.45).astype(np.uint8)
        if has_second:
            other = _network(lines, rng, most=2, width_px=0.8 * lines.width_px, size=size)
            canvas = canvas + soften(other, surface.softness_px) * second * (1 - soft)
            labels[(other > 0.45) & (labels == 0)] = 2
        return finish(canvas, rng, noise=surface.noise), labels

    return draw


def _network(
    lines: _Lines, rng: Rng, *, most: int, width_px: float, size: int
) -> Float[np.ndarray, "size size"]:
    """Draw 1 to `most` lines with their branches; return how much of each pixel they cover."""
    large = 2 * size
    image = Image.new("L", (large, large))
    pen = ImageDraw.Draw(image)
    for _ in range(rng.integers(1, most + 1)):
        turn = rng.uniform(0, 2 * np.pi)
        start = (size * (1 + 1.1 * np.cos(turn)), size * (1 + 1.1 * np.sin(turn)))
        angle = turn + np.pi  # inwards
        if lines.cracks:
            start, angle = (rng.uniform(0, large), rng.uniform(0, large)), lines.direction
        _walk(
            lines,
            rng,
            pen,
            start=start,
            angle=angle + rng.normal(0, 0.5),
            width=2 * width_px * rng.uniform(0.6, 1.3),
            length=large * rng.uniform(0.4, 1.1),
            large=large,
        )
    return np.asarray(image.resize((size, size), Image.Resampling.BOX), np.float32) / 255


def _walk(
    lines: _Lines,
    rng: Rng,
    pen: ImageDraw.ImageDraw,
    *,
    start: Point,
    angle: float,
    width: float,
    length: float,
    large: int,
    depth: int = 2,
) -> None:
    """Draw a line from a point on, and its branches, and theirs."""
    points = [start]
    for _ in range(int(length / STRIDE_PX)):
        angle += rng.normal(0, lines.wander)
        x, y = points[-1]
        points.append((x + STRIDE_PX * np.cos(angle), y + STRIDE_PX * np.sin(angle)))
        if depth and rng.random() < lines.branching:
            _walk(
                lines,
                rng,
                pen,
                start=points[-1],
                angle=angle + draw_sign(rng) * rng.uniform(0.4, 1.1),
                width=max(2.0, width * rng.uniform(0.5, 0.9)),
                length=length * rng.uniform(0.3, 0.7),
                large=large,
                depth=depth - 1,
            )
        if not all(-0.1 * large < p < 1.1 * large for p in points[-1]):
            break
    for i, pair in enumerate(pairwise(points)):
        left = 1 - lines.taper * i / len(points)
        pen.line(pair, fill=255, width=max(1, round(width * left)))


def make_cells(rng: Rng, *, photo: Photo, size: int) -> Draw:
    """Make a family of packed cells: membranes 1, cells of another colour 2, bodies in some 3."""
    surface = draw_surface(rng)
    count, width_px = int(rng.integers(12, 90)), rng.uniform(1.2, 5)
    tint, tinted = rng.uniform(-50, 50, 3), rng.uniform(0, 0.3)
    body, filled = draw_sign(rng) * rng.uniform(30, 90), rng.uniform(0, 0.5)
    inset = rng.random() < 0.4  # the tinted cells' labels keep off their membranes

    def draw(rng: Rng) -> Drawing:
        nearest, radius, border = _cell_map(rng, count=count, size=size)
        membrane = np.clip((width_px / 2 - border) / 0.75 + 0.5, 0, 1)
        canvas = paint_ground(surface, rng, photo=photo, size=size)
        canvas = canvas + rng.uniform(-12, 12, count)[nearest][..., None]
        labels = np.zeros((size, size), np.uint8)
        other = (rng.random(count) < tinted)[nearest]
        canvas += other[..., None] * tint
        labels[other & (membrane < 0.2) if inset else other] = 2
        body_px = rng.uniform(3, 0.35 * size / np.sqrt(count) + 4)
        bodies = (radius < body_px) & (rng.random(count) < filled)[nearest]
        canvas += soften(bodies, 1.0) * body
        labels[bodies] = 3
        canvas += soften(membrane, surface.softness_px) * surface.contrast
        labels[membrane > 0.5] = 1
        return finish(canvas, rng, noise=surface.noise), labels

    return draw


def _cell_map(rng: Rng, *, count: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each pixel's cell, and its distances from the cell's seed and nearest border."""
    seeds = rng.uniform(0, size, (count, 2))
    waves = np.stack([smooth_noise(rng, 12.0, size), smooth_noise(rng, 12.0, size)], axis=-1)
    places = np.moveaxis(np.mgrid[:size, :size], 0, -1) + 5 * waves
    distances, cells = KDTree(seeds).query(places, k=2)
    nearest, second = np.moveaxis(np.asarray(cells), -1, 0)
    near, far = np.moveaxis(np.asarray(distances), -1, 0)
    between = np.linalg.norm(seeds[nearest] - seeds[second], axis=-1)
    return nearest, near, (far**2 - near**2) / (2 * between)  # to the line half way


def make_textures(rng: Rng, *, photo: Photo, size: int) -> Draw:
    """Make a family of 2 to 4 kinds of smooth regions, each filled from one photo or noise."""
    count = int(rng.integers(2, 5))
    fills = [_make_fill(rng, photo=photo, size=size) for _ in range(count)]
    width_px = rng.uniform(14, 70)
    background = rng.uniform(0.7, 1.6) if rng.random() < 0.3 else 0.0  # more of it than of others

    def draw(rng: Rng) -> Drawing:
        heights = np.stack([smooth_noise(rng, width_px, size) for _ in range(count)])
        heights[0] += background
        labels = heights.argmax(axis=0).astype(np.uint8)
        canvas = np.zeros((size, size, 3), np.float32)
        for label, fill in enumerate(fills):
            canvas = np.where((labels == label)[..., None], fill(rng), canvas)
        return finish(canvas * rng.uniform(0.85, 1.15), rng, noise=0.0), labels

    return draw


def _make_fill(rng: Rng, *, photo: Photo, size: int) -> Callable[[Rng], Canvas]:
    """Choose what a kind of region is filled with: the middle of a photo in three of four."""
    if rng.random() >= 0.75:
        surface = draw_surface(rng, photos=False)
        return lambda rng: paint_ground(surface, rng, photo=photo, size=size)
    image, share = photo(rng), rng.uniform(0.15, 0.4)

    def fill(rng: Rng) -> Canvas:
        box = []
        for side in image.size:
            length = min(side, max(24, int(side * share)))
            start = (side - length) / 2 + rng.uniform(-0.2, 0.2) * side
            box.append((int(np.clip(start, 0, side - length)), length))
        (left, width), (top, height) = box
        cut = image.crop((left, top, left + width, top + height))
        half = np.asarray(cut.resize((size // 2, size // 2), Image.Resampling.BICUBIC))
        # Mirrored, so that it covers the picture without seams.
        return np.pad(half, ((0, size - size // 2),) * 2 + ((0, 0),), "symmetric").astype(
            np.float32
        )

    return fill


def make_spots(rng: Rng, *, photo: Photo, size: int) -> Draw:
    """Make a family of small irregular defects or particles, of one or two kinds."""
    surface = draw_surface(rng)
    most = int(rng.integers(1, 25))
    radius_px = rng.uniform(2, 16) * (1 if most < 8 else 0.6)
    rough, flat, turn = rng.uniform(0.1, 0.9), rng.uniform(0.3, 1), rng.uniform(0, np.pi)
    contrasts = [surface.contrast]
    if rng.random() < 0.4:
        contrasts.append(-surface.contrast * rng.uniform(0.5, 1.2, 3))

    def draw(rng: Rng) -> Drawing:
        canvas = paint_ground(surface, rng, photo=photo, size=size)
        labels = np.zeros((size, size), np.uint8)
        edge = 1 + rough * smooth_noise(rng, 4.0, size)
        for label, contrast in enumerate(contrasts, start=1):
            mask = np.zeros((size, size), bool)
            for _ in range(rng.integers(1, most + 1)):
                radii = radius_px * rng.uniform(0.5, 1.6) * np.array([1, flat])
                mask |= _ellipse(rng, radii, turn + rng.normal(0, 0.4), size) < edge
            mask &= labels == 0
            canvas = canvas + soften(mask, surface.softness_px) * contrast
            labels[mask] = label
        return finish(canvas, rng, noise=surface.noise), labels

    return draw


def _ellipse(
    rng: Rng, radii: Float[np.ndarray, " 2"], turn: float, size: int
) -> Float[np.ndarray, "size size"]:
    """Return every pixel's distance from the centre of an ellipse somewhere, 1 on its edge."""
    x, y = (np.arange(size, dtype=np.float32) - rng.uniform(0, size) for _ in range(2))
    y = y[:, None]
    along = (x * np.cos(turn) + y * np.sin(turn)) / radii[0]
    across = (y * np.cos(turn) - x * np.sin(turn)) / radii[1]
    return np.hypot(along, across)


# Lines and textures are what helps most and varies most.
FAMILIES = (
    make_lines,
    make_lines,
    make_lines,
    make_cells,
    make_textures,
    make_textures,
    make_spots,
)
