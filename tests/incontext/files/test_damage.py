"""Damaged pictures and masks of every kind: nothing but our own errors, and no large memory."""

import io
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from PIL import Image

from incontext.files.images import load_image
from incontext.files.masks import load_mask
from incontext.files.pairs import read_pairs
from seggpt.errors import InputError, PromptError
from tests.damage import SEEDS, change_bytes, refusal

from .scenes import COLORS, encode, indexed, tiff

LABELS = np.zeros((14, 19), np.uint8)
LABELS[2:7, 3:9] = 1
LABELS[8:12, 10:17] = 2
PHOTO = np.random.default_rng(0).integers(0, 256, (14, 19, 3), np.uint8)
MOST_PIXELS = 1 << 18
Files = list[tuple[str, bytes]]


def draw_files() -> Iterator[tuple[str, bytes]]:
    """Yield sound files of all kinds, by their suffix."""
    colors = np.array([(0, 0, 0), *COLORS.values()], np.uint8)[LABELS]
    alpha = np.dstack([PHOTO, 255 * (LABELS > 0).astype(np.uint8)])
    grey = Image.fromarray(100 * LABELS)
    exif = Image.Exif()
    exif[0x0112] = 6
    for image in (grey, LABELS > 0, colors, alpha, LABELS.astype(np.uint16) * 900):
        yield ".png", encode(image)
    yield ".png", encode(indexed(LABELS, [(0, 0, 0), *COLORS.values()]), bits=2)
    yield ".png", encode(PHOTO, exif=exif)
    for image in (grey, Image.fromarray(colors), grey.convert("1"), indexed(LABELS, [(9, 9, 9)])):
        yield ".bmp", encode(image, "BMP")
        yield ".gif", encode(image, "GIF", save_all=True, append_images=[image.rotate(180)])
    for packing in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits"):
        yield ".tif", encode(grey, "TIFF", compression=packing)
    yield ".tif", encode(PHOTO, "TIFF", compression="jpeg", exif=exif)
    yield ".tif", encode(grey.convert("1"), "TIFF", compression="group4")
    yield ".tif", tiff(LABELS > 0)
    yield ".tif", tiff(LABELS.astype(np.int64))
    yield ".tif", tiff(LABELS.astype(np.float32), compression="zlib")
    yield ".tif", tiff(PHOTO.astype(np.float32), photometric="rgb")
    yield (
        ".tif",
        tiff(
            np.moveaxis(PHOTO, 2, 0).astype(np.uint16), planarconfig="separate", photometric="rgb"
        ),
    )
    yield ".tif", tiff(np.dstack([PHOTO] * 2), planarconfig="contig", photometric="minisblack")
    yield ".jpg", encode(PHOTO, "JPEG", exif=exif)
    yield ".webp", encode(PHOTO, "WEBP")
    yield ".ppm", encode(grey, "PPM")
    for array in (LABELS, LABELS.astype(np.int64)[None], LABELS > 0, LABELS.astype(np.float32)):
        buffer = io.BytesIO()
        np.save(buffer, array)
        yield ".npy", buffer.getvalue()


@pytest.fixture(scope="module")
def files():
    return list(draw_files())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged")


def test_the_files_are_whole(files, folder):
    for number, (suffix, data) in enumerate(files):
        file = folder / f"whole{number}{suffix}"
        file.write_bytes(data)
        if suffix != ".npy":
            assert load_image(file, bands=(1, 1, 1)).size
    assert load_mask(folder / "whole0.png").classes == (100, 200)


def read_mask(file: Path, rng: random.Random) -> None:
    kind = rng.choice(("auto", "auto", "binary", "labels", "rgb"))
    mask = load_mask(file, kind=kind, max_pixels=MOST_PIXELS)
    assert mask.labels.size <= MOST_PIXELS


def read_pair(file: Path, rng: random.Random) -> None:
    sources = [file] * rng.choice((1, 2))
    masks = [LABELS, file] if len(sources) == 2 else [file]
    read_pairs(sources, masks, load=lambda _: PHOTO, max_pixels=MOST_PIXELS)


def read_picture(file: Path, rng: random.Random) -> None:
    bands = rng.choice((None, None, (1, 2, 3), (5, 1, 1)))
    alpha = rng.choice(("white", "black", "ignore"))
    picture = load_image(file, bands=bands, alpha=alpha, max_pixels=MOST_PIXELS)
    assert picture.size <= 3 * MOST_PIXELS


READERS = {"masks": read_mask, "pairs": read_pair, "pictures": read_picture}


def assert_refused_or_read(reader: str, seed: int, files: Files, folder: Path) -> None:
    rng = random.Random(seed)
    suffix, data = rng.choice(files)
    file = folder / f"a{suffix}"
    file.write_bytes(change_bytes(data, rng))
    said = refusal(lambda: READERS[reader](file, rng), InputError, PromptError)
    assert not said or file.name in said or "array" in said


@settings(deadline=None, max_examples=150)
@given(SEEDS)
@pytest.mark.parametrize("reader", READERS)
def test_damage_is_refused_or_read(reader, files, folder, seed):
    assert_refused_or_read(reader, seed, files, folder)


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
def test_much_damage_is_refused_or_read(reader, files, folder):
    for seed in range(10_000):
        assert_refused_or_read(reader, seed, files, folder)
