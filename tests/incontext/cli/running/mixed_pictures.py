"""A folder of pictures as people have them: many kinds, and a few that are broken."""

import os
from pathlib import Path

import numpy as np
from PIL import Image

SIZES = ((60, 45), (45, 60), (64, 64), (120, 50))
KINDS = (
    ("RGB", ".jpg"),
    ("RGB", ".png"),
    ("L", ".png"),
    ("P", ".png"),
    ("RGBA", ".webp"),
    ("I;16", ".png"),
    ("CMYK", ".tif"),
    ("1", ".bmp"),
)


def write_mixed(folder: Path, count: int, *, broken: int, seed: int = 0) -> None:
    """Write so many pictures in three folders, and so many broken files among them."""
    random = np.random.default_rng(seed)
    for number in range(count):
        mode, suffix = KINDS[number % len(KINDS)]
        width, height = SIZES[number % len(SIZES)]
        low = random.integers(0, 256, (4, 5, 3), np.uint8)
        picture = Image.fromarray(low).resize((width, height), Image.Resampling.BICUBIC)
        if mode == "I;16":
            picture = Image.fromarray(np.asarray(picture.convert("L"), np.uint16) * 200)
        path = folder / f"part{number % 3}" / f"{number}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        (picture if mode == "I;16" else picture.convert(mode)).save(path)
    whole = Image.fromarray(random.integers(0, 256, (64, 64, 3), np.uint8))
    for number in range(broken):
        _break(folder / f"part{number % 3}" / f"bad{number}", number % 10, whole)


def _break(stem: Path, way: int, whole: Image.Image) -> None:
    """Write a file that is broken in one of ten ways."""
    png, jpg = stem.with_suffix(".png"), stem.with_suffix(".jpg")
    whole.save(png)
    data = png.read_bytes()
    match way:
        case 0:
            png.write_bytes(b"")
        case 1:
            png.write_text("<!doctype html><title>404</title>")
        case 2:
            png.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
        case 3:
            png.write_bytes(data[: len(data) // 2])
        case 4:
            place = data.index(b"IDAT") + 40
            png.write_bytes(data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :])
        case 5:
            png.write_bytes(bytes(4096))
        case 6:
            png.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n")
        case 7:
            png.unlink()
            whole.save(jpg)
            jpg.write_bytes(jpg.read_bytes()[:700])
        case 8:
            png.unlink()
            png.symlink_to("nowhere.png")
        case 9:
            png.unlink()
            os.mkfifo(png)
