import io
import logging
import os
import struct
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from incontext.files.decode import decode, source_name
from seggpt.errors import InputError, one_line


def picture(width=17, height=12):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def encode(image, file_format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def png_that_declares(width, height):
    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0"))
        + chunk(b"IEND", b"")
    )


LOSSLESS = ("PNG", "BMP", "TIFF", "PPM")
ALL_FORMATS = (*LOSSLESS, "JPEG", "WEBP", "GIF")


@pytest.mark.parametrize("file_format", LOSSLESS)
def test_every_source_of_a_picture_gives_the_same_pixels(tmp_path, file_format):
    image = picture()
    path = tmp_path / "a.bin"
    path.write_bytes(encode(image, file_format))
    with path.open("rb") as file:
        sources = [path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes()), file, image]
        decoded = [decode(source) for source in sources]
    for each in decoded:
        np.testing.assert_array_equal(np.asarray(each.image), np.asarray(image))
    assert [each.format for each in decoded] == [file_format] * 5 + [""]


@pytest.mark.parametrize("file_format", ["JPEG", "WEBP", "GIF"])
def test_other_formats_keep_the_size(file_format):
    decoded = decode(encode(picture(), file_format))
    assert decoded.image.size == (17, 12)
    assert decoded.format == file_format


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    upright = picture(16, 8)
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = decode(encode(stored, exif=exif))
    np.testing.assert_array_equal(np.asarray(decoded.image), np.asarray(upright))


def test_damaged_exif_leaves_the_picture_as_stored():
    decoded = decode(encode(picture(), exif=b"Exif\0\0MM\0*\0\0\xff\xff"))
    assert decoded.image.size == (17, 12)


def test_a_pil_image_is_not_changed():
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.open(io.BytesIO(encode(picture(), exif=exif)))
    assert decode(image).image.size == (12, 17)
    assert image.size == (17, 12)


def test_the_first_frame_of_an_animation_is_used_with_a_warning(caplog):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue", "lime")]
    for file_format in ("TIFF", "GIF", "PNG", "WEBP"):
        caplog.clear()
        data = encode(
            frames[0], file_format, save_all=True, append_images=frames[1:], lossless=True
        )
        with caplog.at_level(logging.WARNING):
            decoded = decode(data)
        assert decoded.image.convert("RGB").getpixel((0, 0)) == (255, 0, 0)
        assert "using frame 1 of 3" in caplog.text


def test_a_single_frame_gives_no_warning(caplog):
    for file_format in ALL_FORMATS:
        decode(encode(picture(), file_format))
    assert not caplog.records


BAD_BYTES = {
    "empty file": b"",
    "looks like HTML": b"<!DOCTYPE html><html><body>404</body></html>",
    "Git-LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    "looks like text": b"P3 is how this begins, but it is only a file of words.",
    "SVG": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
    "PDF": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3",
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
    "WMF": b"\xd7\xcd\xc6\x9a" + bytes(40),
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(40),
    "DICOM": bytes(128) + b"DICM" + bytes(40),
    "numpy": b"\x93NUMPY\x01\x00v\x00{'descr': '|u1'}",
    "AVIF": b"\x00\x00\x00\x20ftypavif\x00\x00\x00\x00avifmif1",
    "video": b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2",
    "zip": b"PK\x03\x04" + bytes(40),
    "zero bytes": bytes(1000),
    "not an image that we know": b"\xde\xad\xbe\xef" * 20,
}


@pytest.mark.parametrize("words", BAD_BYTES)
def test_what_is_no_picture_is_named(tmp_path, words):
    path = tmp_path / "photo.png"
    path.write_bytes(BAD_BYTES[words])
    with pytest.raises(InputError, match=words) as error:
        decode(path)
    assert str(path) in str(error.value)


def test_heic_without_its_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif.as_plugin", None)
    with pytest.raises(InputError, match=r"seggpt-jax\[heif\]"):
        decode(b"\x00\x00\x00\x1cftypheic\x00\x00\x00\x00mif1heic")


@pytest.mark.parametrize("file_format", ALL_FORMATS)
def test_half_a_picture_is_refused(file_format):
    data = encode(picture(60, 40), file_format)
    with pytest.raises(InputError, match=r"truncated|corrupt"):
        decode(data[: len(data) // 2])


def test_a_truncated_png_and_jpeg_are_called_truncated():
    for file_format in ("PNG", "JPEG"):
        data = encode(picture(60, 40), file_format)
        with pytest.raises(InputError, match="truncated image"):
            decode(data[: len(data) // 2])


def test_a_png_with_a_flipped_byte_is_called_corrupt():
    data = bytearray(encode(picture(60, 40)))
    data[data.index(b"IDAT") + 40] ^= 0xFF
    with pytest.raises(InputError, match=r"corrupt PNG \(checksum"):
        decode(bytes(data))


def test_a_pixel_bomb_is_refused_by_its_header_alone():
    with pytest.raises(InputError, match="256 Mpx and exceeds max_pixels") as error:
        decode(png_that_declares(16000, 16000))
    assert isinstance(error.value, InputError)


def test_the_pixel_limit_is_ours_and_not_pillows(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    for file_format in ("PNG", "JPEG", "BMP", "GIF", "PPM"):
        assert decode(encode(picture(), file_format)).image.size == (17, 12)
    assert Image.MAX_IMAGE_PIXELS == 10


def test_a_limit_inside_a_decoder_of_pillow_is_an_input_error(monkeypatch):
    def refuse(image):
        raise Image.DecompressionBombError("Image size exceeds limit")

    data = encode(picture(), "TIFF")
    monkeypatch.setattr("PIL.TiffImagePlugin.TiffImageFile.load", refuse)
    with pytest.raises(InputError, match="more pixels than Pillow decodes"):
        decode(data)


@pytest.mark.parametrize(("max_pixels", "is_accepted"), [(17 * 12, True), (17 * 12 - 1, False)])
def test_the_pixel_limit_is_exact(max_pixels, is_accepted):
    if is_accepted:
        decode(encode(picture()), max_pixels=max_pixels)
    else:
        with pytest.raises(InputError, match="max_pixels"):
            decode(encode(picture()), max_pixels=max_pixels)


def test_the_byte_limit_holds_for_every_source(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encode(Image.fromarray(np.zeros((800, 900, 3), np.uint8)), "BMP"))
    data = path.read_bytes()
    for source in (path, data, io.BytesIO(data)):
        with pytest.raises(InputError, match="MiB"):
            decode(source, max_bytes=1 << 20)


@pytest.mark.parametrize(("width", "height"), [(1, 101), (1010, 10)])
def test_a_thin_picture_is_refused(width, height):
    with pytest.raises(InputError, match="too thin"):
        decode(encode(Image.new("RGB", (width, height))))


def test_one_pixel_and_an_aspect_of_one_hundred_are_accepted():
    assert decode(encode(Image.new("RGB", (1, 1)))).image.size == (1, 1)
    assert decode(encode(Image.new("RGB", (100, 1)))).image.size == (100, 1)


def test_a_picture_without_area_is_refused():
    with pytest.raises(InputError, match="no pixels"):
        decode(Image.new("RGB", (0, 5)))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no such file: .*gone\.jpg"):
        decode(tmp_path / "gone.jpg")


def test_a_url_is_not_fetched():
    with pytest.raises(InputError, match="download it first"):
        decode("https://example.org/a.jpg")


def test_a_nul_in_a_path_is_an_input_error():
    with pytest.raises(InputError, match="cannot read"):
        decode("a\0b.png")


def test_a_folder_named_like_a_picture_is_refused(tmp_path):
    folder = tmp_path / "x.png"
    folder.mkdir()
    with pytest.raises(InputError, match="not a regular file"):
        decode(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs on this system")
def test_a_fifo_is_refused_without_waiting_for_a_writer(tmp_path):
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(InputError, match="not a regular file"):
        decode(tmp_path / "x.png")


def test_dangling_and_circular_links_are_refused(tmp_path):
    (tmp_path / "a.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(InputError, match="dangling link"):
        decode(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "b.png")
    with pytest.raises(InputError, match="cannot read"):
        decode(tmp_path / "b.png")


def test_a_text_mode_file_is_refused(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("words")
    with path.open() as file, pytest.raises(InputError, match='"rb"'):
        decode(file)  # pyright: ignore[reportArgumentType]  # the mistake under test


def test_names_in_messages_are_one_printable_line():
    assert one_line("a\nb\tc\x1b[31m.png") == "a\\nb\\tc\\x1b[31m.png"
    assert one_line(os.fsdecode(b"caf\xe9.png")) == "caf\\udce9.png"
    assert one_line("größe 猫.png") == "größe 猫.png"
    assert source_name(b"123") == "<bytes>"
    assert source_name(io.BytesIO()) == "<BytesIO>"


@given(st.text(max_size=30))
def test_one_line_never_breaks_a_line(name):
    assert one_line(name).isprintable()


GOLDEN = [encode(picture(), file_format) for file_format in ALL_FORMATS]


@settings(deadline=None, max_examples=150)
@given(
    data=st.sampled_from(GOLDEN),
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8),
    keep=st.floats(0, 1),
)
def test_only_input_errors_escape_from_damaged_files(data, edits, keep):
    damaged = bytearray(data)
    for place, value in edits:
        damaged[int(place**3 * len(damaged))] = value  # more often in the header
    message = ""
    try:
        decoded = decode(bytes(damaged[: int(keep * len(damaged)) + 1]), max_pixels=1 << 20)
        assert decoded.image.width * decoded.image.height <= 1 << 20
    except InputError as error:
        message = str(error)
    assert "\n" not in message
