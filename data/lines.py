"""Lines drawn on surfaces: cracks, pale cracks and joints, endless and with exact masks.

The open data sets show little that is thin. Surfaces are parts of other pictures, enlarged and
roughened, so that what is drawn is told by its form and not by its background.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image, ImageDraw

from data.pack import Entry, Pack, Source

NAME = "drawn_lines"
CRACK, PALE, JOINT = 1, 2, 3
FINE = 2  # lines are drawn this much larger, so that their edges blend
COVER = 0.4  # least share of a pixel that a line covers for it to be marked
SHARES = {CRACK: 0.8, PALE: 0.3, JOINT: 0.5}  # of pictures that show one

Points = list[tuple[float, float]]


def draw_lines(backgrounds: UInt8[np.ndarray, "n size size 3"], *, count: int, seed: int) -> Pack:
    """Make `count` pictures of surfaces with lines of up to three classes."""
    rng = np.random.default_rng([seed, 11])
    made = [_draw(rng, backgrounds[rng.integers(len(backgrounds))]) for _ in range(count)]
    images, masks = (np.stack(part) for part in zip(*made, strict=True))
    entries = tuple(_entry(mask) for mask in masks)
    ids = np.stack([masks, np.zeros_like(masks)], axis=-1)
    return Pack(images, ids, (Source(NAME, "semantic", 0, entries),))


def _draw(
    rng: np.random.Generator, background: UInt8[np.ndarray, "size size 3"]
) -> tuple[UInt8[np.ndarray, "size size 3"], UInt8[np.ndarray, "size size"]]:
    """Draw joints first and cracks last, which run through them."""
    pixels = _surface(rng, background)
    size = pixels.shape[0]
    mask = np.zeros((size, size), np.uint8)
    shown = [c for c in (JOINT, PALE, CRACK) if rng.random() < SHARES[c]] or [CRACK]
    for c in shown:
        lines = _joints(rng, size) if c == JOINT else _cracks(rng, size)
        cover = _cover(lines, size)
        is_dark = c == CRACK or (c == JOINT and rng.random() < 0.5)
        shade = rng.uniform(0.1, 0.7) if is_dark else rng.uniform(1.3, 2.2)
        strength = (rng.uniform(0.5, 1.0) * cover)[..., None]
        pixels = pixels * (1 - strength) + np.clip(pixels * shade, 0, 255) * strength
        mask[cover >= COVER] = c
    return pixels.round().astype(np.uint8), mask


def _surface(
    rng: np.random.Generator, background: UInt8[np.ndarray, "size size 3"]
) -> Float32[np.ndarray, "size size 3"]:
    """Enlarge a part of a picture, flatten its contrast, and add stains and grain."""
    size = background.shape[0]
    side = int(size * rng.uniform(0.15, 1.0))
    left, top = rng.integers(0, size - side + 1, size=2).tolist()
    part = Image.fromarray(background).crop((left, top, left + side, top + side))
    pixels = np.asarray(part.resize((size, size), Image.Resampling.BICUBIC), np.float32)
    middle = pixels.mean(axis=(0, 1))
    pixels = middle + (pixels - middle) * np.float32(rng.uniform(0.2, 1.0))
    for cells in (4, 16, 64, size):
        noise = rng.standard_normal((cells, cells)).astype(np.float32)
        grown = Image.fromarray(noise).resize((size, size), Image.Resampling.BICUBIC)
        pixels = pixels + np.asarray(grown)[..., None] * np.float32(rng.uniform(0, 14))
    return np.clip(pixels, 0, 255)


def _cracks(rng: np.random.Generator, size: int) -> Iterator[tuple[Points, list[float]]]:
    """Walk at random, turning a little at each step, with branches."""
    width = np.exp(rng.uniform(0.0, 2.3)) * size / 256
    todo = [
        (rng.uniform(0, size, 2), rng.uniform(0, 2 * np.pi), width, 2)
        for _ in range(int(rng.integers(1, 4)))
    ]
    rough = rng.uniform(0.15, 0.7)
    while todo:
        place, heading, width, depth = todo.pop()
        points, widths = [tuple(place)], [width]
        turn = heading
        for _ in range(int(rng.integers(10, 90))):
            turn = heading + 0.6 * (turn - heading) + rng.normal(0, rough)
            heading += rng.normal(0, 0.08)
            place = place + rng.uniform(2, 5) * size / 256 * np.array([np.cos(turn), np.sin(turn)])
            points.append(tuple(place))
            widths.append(float(np.clip(widths[-1] * np.exp(rng.normal(0, 0.15)), 0.7, 2 * width)))
            if depth and rng.random() < 0.03:
                aside = heading + rng.choice([-1, 1]) * rng.uniform(0.4, 1.4)
                todo.append((place, aside, 0.7 * width, depth - 1))
        yield points, widths


def _joints(rng: np.random.Generator, size: int) -> Iterator[tuple[Points, list[float]]]:
    """Lay straight lines beside each other, with or without others across, all a little turned."""
    width, step = np.exp(rng.uniform(0.4, 2.6)) * size / 256, rng.uniform(0.12, 0.5) * size
    tilt = rng.normal(0, 0.1) + (np.pi / 2 if rng.random() < 0.3 else 0)
    along = np.array([np.cos(tilt), np.sin(tilt)])
    across, middle = np.array([-along[1], along[0]]), np.array([size / 2, size / 2])
    is_wall = rng.random() < 0.6
    reach, first = size, rng.uniform(0, step)
    for number, offset in enumerate(np.arange(first - reach, reach, step)):
        row = middle + offset * across
        yield [tuple(row - reach * along), tuple(row + reach * along)], [width, width]
        if is_wall:
            for place in np.arange(-reach + (number % 2) * step, reach, 2 * step):
                start = row + place * along
                yield [tuple(start), tuple(start + step * across)], [width, width]


def _cover(
    lines: Iterator[tuple[Points, list[float]]], size: int
) -> Float32[np.ndarray, "size size"]:
    """Return how much of each pixel lines cover."""
    canvas = Image.new("L", (FINE * size, FINE * size))
    pen = ImageDraw.Draw(canvas)
    for points, widths in lines:
        for (x, y), (u, v), width in zip(points, points[1:], widths, strict=False):
            thick = max(1, round(FINE * width))
            pen.line((FINE * x, FINE * y, FINE * u, FINE * v), fill=255, width=thick)
    return np.asarray(canvas.resize((size, size), Image.Resampling.BOX), np.float32) / 255


def _entry(mask: UInt8[np.ndarray, "size size"]) -> Entry:
    shares = np.bincount(mask.reshape(-1), minlength=4) / mask.size
    areas = {c: float(shares[c]) for c in (CRACK, PALE, JOINT) if shares[c] > 0}
    return Entry({c: c for c in areas}, {}, areas)
