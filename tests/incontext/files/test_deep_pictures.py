"""Pictures of more than 8 bits, of odd TIFFs, with alpha or large comments: their right colours."""

import logging
import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from incontext.files.images import load_image
from seggpt.errors import InputError

from .scenes import LABELS, encode, tiff

GREY = np.linspace(0, 1, 120 * 160).reshape(120, 160)
RAMP = np.stack([GREY, GREY[::-1], 0.5 * GREY[:, ::-1]], axis=2)
TWELVE = (RAMP * 4095).astype(np.uint16)
EIGHT = (RAMP * 255).astype(np.uint8)


def png16(values, color_type):
    def chunk(kind, body):
        crc = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + crc

    height, width = values.shape[:2]
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def warnings(caplog):
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    "data",
    [
        png16(TWELVE, 2),
        tiff(TWELVE, photometric="rgb"),
        tiff(TWELVE, photometric="rgb", compression="zlib"),
        tiff(TWELVE, photometric="rgb", byteorder=">"),
        tiff(np.moveaxis(TWELVE, 2, 0).copy(), photometric="rgb", planarconfig="separate"),
        tiff(TWELVE.astype(np.uint32), photometric="rgb"),
        tiff(RAMP.astype(np.float32), photometric="rgb"),
    ],
)
def test_deep_colour_is_scaled_as_grey_is_and_keeps_its_proportions(data, caplog):
    with caplog.at_level(logging.INFO):
        loaded = load_image(data)
    np.testing.assert_allclose(loaded, EIGHT, atol=4)  # the cut of 0.5 % at both ends
    assert "colour scaled to 8 bits" in caplog.text


@pytest.mark.parametrize("top", [65535, 30000])
def test_colour_that_uses_its_16_bits_stays_as_it_is(top):
    values = (RAMP * top).astype(np.uint16)
    np.testing.assert_array_equal(load_image(png16(values, 2)), values >> 8)


def test_12_bits_with_alpha_are_scaled_and_laid_on_the_backdrop():
    alpha = np.where(LABELS > 0, 65535, 0).astype(np.uint16)
    grey = (GREY * 4095).astype(np.uint16)
    for data in (
        png16(np.dstack([grey, alpha]), 4),
        png16(np.dstack([grey, grey, grey, alpha]), 6),
    ):
        loaded = load_image(data)
        np.testing.assert_allclose(
            loaded[LABELS > 0], 255 * GREY[LABELS > 0, None] + [0] * 3, atol=4
        )
        assert (loaded[LABELS == 0] == 255).all()


def test_planar_grey_of_two_bands_is_refused_by_what_it_is():
    data = tiff(TWELVE[..., :2].copy(), photometric="minisblack", planarconfig="contig")
    with pytest.raises(InputError, match=r"2 bands of uint16|corrupt TIFF"):
        load_image(data)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_white_stored_as_0_is_turned_the_right_way(dtype):
    top = np.iinfo(dtype).max
    stored = (top - GREY * top).astype(dtype)
    loaded = load_image(tiff(stored, photometric="miniswhite"))[..., 0]
    np.testing.assert_allclose(loaded, GREY * 255, atol=4)


@pytest.mark.parametrize(
    ("values", "hole", "options"),
    [
        (GREY.astype(np.float32), -9999, {}),
        (GREY.astype(np.float32), -3.4028235e38, {}),
        ((GREY * 4095).astype(np.uint16), 65535, {}),
        ((GREY * 1000 + 9).astype(np.int16), -1, {"extratags": [(42113, "s", 0, "-1", True)]}),
    ],
)
def test_pixels_without_data_do_not_take_the_contrast(values, hole, options, caplog):
    values = values.copy()
    values[:20] = hole
    loaded = load_image(tiff(values, **options))[..., 0]
    assert not loaded[:20].any()
    rest = GREY[20:]
    expected = (rest - rest.min()) / (rest.max() - rest.min()) * 255
    np.testing.assert_allclose(loaded[20:], expected, atol=4)
    [line] = warnings(caplog)
    assert "without data" in line


def test_a_dark_rim_is_data():
    values = (GREY * 1000 + 100).astype(np.uint16)
    values[:20] = 0
    assert load_image(encode(Image.fromarray(values))).max() == 255


def rgba(alpha):
    return encode(np.dstack([EIGHT, np.broadcast_to(np.uint8(alpha), GREY.shape)]))


@pytest.mark.parametrize("alpha", [0, 60, 200, LABELS * 80])
def test_alpha_that_hides_or_whitens_a_picture_is_said_and_can_be_ignored(alpha, caplog):
    load_image(rgba(alpha))
    [line] = warnings(caplog)
    assert "alpha='ignore'" in line
    np.testing.assert_array_equal(load_image(rgba(alpha), alpha="ignore"), EIGHT)
    assert len(warnings(caplog)) == 1


@pytest.mark.parametrize("alpha", [255, np.where(LABELS > 0, 255, 0)])
def test_alpha_of_a_cutout_needs_no_word(alpha, caplog):
    load_image(rgba(alpha))
    assert not warnings(caplog)


FIVE = np.stack([EIGHT[..., i % 3] // (1 + i // 3) for i in range(5)], axis=2)


def test_five_bands_are_refused_and_three_of_them_taken():
    for values in (FIVE, FIVE.astype(np.uint16) * 16):
        data = tiff(values, photometric="minisblack", planarconfig="contig")
        with pytest.raises(InputError, match=r"5 bands of uint.*bands=\(1, 2, 3\)"):
            load_image(data)
    data = tiff(FIVE, photometric="minisblack", planarconfig="contig")
    np.testing.assert_array_equal(load_image(data, bands=(3, 2, 5)), FIVE[..., [2, 1, 4]])
    with pytest.raises(InputError, match=r"bands=\(1, 2, 6\), and there are 5 bands"):
        load_image(data, bands=(1, 2, 6))


def test_more_numbers_than_memory_should_hold_are_refused_before_they_are_read(monkeypatch):
    monkeypatch.setattr("incontext.files.deep._MOST_BYTES", 1 << 20)
    values = np.zeros((200, 200, 30), np.uint8)
    data = tiff(values, photometric="minisblack", planarconfig="contig", compression="zlib")
    with pytest.raises(InputError, match=r"1 MiB of numbers in 30 bands of 8-bit .*fewer bands"):
        load_image(data, bands=(1, 2, 3))


def test_bands_of_common_files_can_be_chosen_too():
    np.testing.assert_array_equal(load_image(encode(EIGHT), bands=(3, 2, 1)), EIGHT[..., ::-1])
    np.testing.assert_array_equal(
        load_image(rgba(7), bands=(4, 1, 1))[..., 0], np.full(GREY.shape, 7)
    )


@pytest.mark.parametrize("kind", ["text", "packed text", "packed xmp"])
def test_large_comments_of_a_png_do_not_matter(kind):
    info = PngInfo()
    if kind == "packed xmp":
        info.add_itxt("XML:com.adobe.xmp", "y" * 2_000_000, zip=True)
    else:
        info.add_text("prompt", "y" * 2_000_000, zip=kind == "packed text")
    info.add_text("small", "kept")
    np.testing.assert_array_equal(load_image(encode(EIGHT, pnginfo=info)), EIGHT)


def test_an_odd_tiff_without_tifffile_says_what_it_is_and_what_it_needs(monkeypatch):
    data = tiff(LABELS.astype(np.int64))
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(InputError, match=r"1 band of 64-bit signed numbers.*seggpt-jax\[tiff\]"):
        load_image(data)


def test_a_limit_can_be_raised_and_arrays_have_none():
    data = encode(np.zeros((10000, 9000), np.uint8))
    with pytest.raises(InputError, match="90 Mpx and exceeds max_pixels"):
        load_image(data)
    assert load_image(data, max_pixels=100_000_000).shape == (10000, 9000, 3)
    assert load_image(np.zeros((10000, 9000, 3), np.uint8)).shape == (10000, 9000, 3)
