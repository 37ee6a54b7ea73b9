"""TIFFs that are read in parts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from incontext.files.images import load_image
from incontext.files.regions import open_large
from seggpt.errors import InputError

RNG = np.random.default_rng(0)
GREY, RGB, RGBA = (RNG.integers(0, 256, (75, 90, *c), np.uint8) for c in ((), (3,), (4,)))
TILED: dict[str, Any] = {"tile": (16, 32)}
KINDS = {
    "tiled RGB": (RGB, TILED),
    "tiled grey": (GREY, TILED),
    "tiled RGBA": (RGBA, {**TILED, "photometric": "rgb", "extrasamples": ["unassalpha"]}),
    "a fourth band": (RGBA, {**TILED, "photometric": "rgb", "extrasamples": ["unspecified"]}),
    "strips": (RGB, {"rowsperstrip": 7}),
    "deflate": (RGB, {**TILED, "compression": "zlib", "predictor": True}),
    "deflated strips": (GREY, {"rowsperstrip": 7, "compression": "zlib"}),
    "big": (RGB, {**TILED, "bigtiff": True}),
    "big-endian": (RGB, {**TILED, "byteorder": ">"}),
}


def write(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    kind: dict[str, Any] = {"photometric": "rgb" if pixels.ndim == 3 else "minisblack"}
    with tifffile.TiffWriter(
        path, bigtiff=bool(options.pop("bigtiff", False)), byteorder=options.pop("byteorder", "<")
    ) as file:
        file.write(pixels, **(kind | options))
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("alpha", ["white", "ignore"])
def test_rows_are_those_of_the_whole_picture(kind, alpha, tmp_path):
    pixels, options = KINDS[kind]
    path = write(tmp_path / "a.tif", pixels, **options)
    picture, whole = open_large(path, max_pixels=100, alpha=alpha), load_image(path, alpha=alpha)
    assert picture is not None
    assert picture.shape == whole.shape[:2]
    for top, bottom in ((0, 75), (0, 1), (13, 40), (16, 32), (60, 75)):
        np.testing.assert_array_equal(picture.read(top, bottom), whole[top:bottom])
    picture.close()


def test_what_fits_and_what_is_no_tiff_is_left_to_the_usual_way(tmp_path):
    small = write(tmp_path / "a.tif", RGB)
    Image.fromarray(RGB).save(tmp_path / "a.png")
    (tmp_path / "damaged.tif").write_bytes(small.read_bytes()[:6])
    assert open_large(small) is None
    for name in ("a.png", "damaged.tif", "missing.tif", "."):
        assert open_large(tmp_path / name, max_pixels=100) is None


def test_holes_are_black_and_later_pages_are_told(tmp_path, caplog):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        tiles = (None if number == 3 else RGB[:16, :32] for number in range(15))
        file.write(tiles, shape=(75, 90, 3), dtype=np.uint8, photometric="rgb", **TILED)
        file.write(RGB, photometric="rgb")
    picture = open_large(path, max_pixels=100)
    assert picture is not None
    rows = picture.read(10, 40)
    assert rows[6:22, :32].max() == 0
    np.testing.assert_array_equal(rows[6:22, 32:64], RGB[:16, :32])
    picture.close()
    assert "a.tif: using frame 1 of 2" in caplog.text


REFUSED = {
    "16 bits": (RGB.astype(np.uint16), TILED, "16 bits"),
    "float": (GREY.astype(np.float32), TILED, "32 bits"),
    "planar": (np.moveaxis(RGB, 2, 0), {"planarconfig": "separate"}, "planar"),
    "premultiplied": (RGBA, {"extrasamples": ["assocalpha"]}, "premultiplied"),
    "white is zero": (GREY, {"photometric": "miniswhite"}, "1 bands"),
    "turned": (RGB, {"extratags": [(274, "H", 1, 6, True)]}, "turned"),
    "one strip": (np.zeros((4500, 4500), np.uint8), {"rowsperstrip": 4500}, "strips or tiles of"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_other_tiffs_are_refused_with_the_mend(kind, tmp_path):
    pixels, options, words = REFUSED[kind]
    path = write(tmp_path / "a.tif", pixels, **options)
    with pytest.raises(InputError, match="save it as a tiled TIFF of 8-bit") as error:
        open_large(path, max_pixels=100)
    assert words in str(error.value)
    assert str(path) in str(error.value)


def test_damaged_rows_are_told(tmp_path):
    path = write(tmp_path / "a.tif", RGB, **TILED, compression="zlib")
    picture = open_large(path, max_pixels=100)
    assert picture is not None
    with tifffile.TiffFile(path) as file:
        last = file.pages[0].dataoffsets[-1]
    data = bytearray(path.read_bytes())
    data[last : last + 8] = bytes(8)
    path.write_bytes(data)
    picture.read(0, 10)
    with pytest.raises(InputError, match="cannot read this TIFF"):
        picture.read(60, 75)
    picture.close()
