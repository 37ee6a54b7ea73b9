"""Bad inputs 1 to 19 of the list in the product's specification: pictures."""

import os
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.incontext.cli.bad_inputs.conftest import encoded

pytestmark = pytest.mark.usefixtures("segmenter")
PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8))
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"


def png(width, height, *, broken=False):
    """Return a PNG of a size that has no pixels, or one with a wrong checksum."""

    def chunk(kind, body):
        checksum = zlib.crc32(kind + body) ^ broken
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(width + 1) * min(height, 2))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def wrong_checksum():
    data = bytearray(encoded(PHOTO))
    data[data.index(b"IDAT") + 40] ^= 255
    return bytes(data)


BAD = {
    "3 zero bytes": (b"", "empty file"),
    "4 text": (b"hello, this is no picture", "looks like text"),
    "4 HTML": (b"<!doctype html><html>", "looks like HTML"),
    "5 Git-LFS pointer": (LFS, "git lfs pull"),
    "6 truncated JPEG": (encoded(PHOTO, "JPEG")[:-700], "truncated image"),
    "6 truncated PNG": (encoded(PHOTO)[:-2000], "truncated image"),
    "7 checksum": (wrong_checksum(), "corrupt PNG (checksum"),
    "8 a bomb": (png(16000, 16000), ("256 Mpx", "--max-pixels")),
    "9 144 Mpx": (png(12000, 12000), ("144 Mpx", "--max-pixels")),
    "10 EPS": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "EPS is not accepted"),
    "10 WMF": (b"\xd7\xcd\xc6\x9a" + bytes(40), "WMF is not accepted"),
    "10 HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(40), "HDF5 is not accepted"),
    "11 SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG is not accepted"),
    "11 PDF": (b"%PDF-1.7\n", "PDF is not accepted"),
    "11 DICOM": (bytes(128) + b"DICM" + bytes(20), "DICOM is not accepted"),
    "11 raw": (b"FUJIFILMCCD-RAW 0201" + bytes(range(256)), "not an image that we know"),
    "19 too thin": (encoded(Image.new("L", (1, 6500))), "too thin (aspect > 100)"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_picture_is_one_line_and_the_others_are_done(case, seggpt):
    data, gist = BAD[case]
    Path("bad.jpg").write_bytes(data)
    seggpt.fails(1, ["bad.jpg", *([gist] if isinstance(gist, str) else gist)], *asked("bad.jpg"))
    seggpt.picture(Path("good.png"))
    seggpt.fails(3, "bad.jpg", *asked("bad.jpg", "good.png"))
    assert "good.png" in seggpt.written()


def asked(*pictures):
    return ["segment", *pictures, "-e", "example.png", "mask.png", "-o", "out"]


def test_1_a_path_that_does_not_exist(seggpt):
    seggpt.fails(1, "no such file: x.jpg", *asked("x.jpg"))
    seggpt.picture(Path("good.png"))
    seggpt.fails(3, "no such file: x.jpg", *asked("x.jpg", "good.png"))


def test_2_a_folder_or_a_pattern_without_pictures(seggpt):
    Path("empty").mkdir()
    seggpt.fails(1, ("no images under empty", ".png .jpg"), *asked("empty"))
    seggpt.fails(1, "no images match *.webp", *asked("*.webp"))


def test_12_heic_names_the_extra(seggpt, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif.as_plugin", None)
    Path("a.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    seggpt.fails(1, 'HEIC needs `pip install "seggpt-jax[heif]"`', *asked("a.heic"))


def deep():
    return Image.fromarray(np.linspace(900, 4000, 480).reshape(20, 24).astype(np.uint16))


def shares():
    return Image.fromarray(np.linspace(0, 1, 480, dtype=np.float32).reshape(20, 24))


def palette_with_transparency():
    image = PHOTO.quantize(8)
    image.info["transparency"] = 3
    return image


def hidden_colours():
    image = PHOTO.convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


TAKEN = {
    "13 grey of 16 bits": ("a.png", encoded(deep()), "scaled"),
    "14 float": ("a.tif", encoded(shares(), "TIFF"), "scaled"),
    "15 CMYK": ("a.jpg", encoded(PHOTO.convert("CMYK"), "JPEG"), ""),
    "15 palette with transparency": ("a.png", encoded(palette_with_transparency()), ""),
    "15 grey with transparency": ("a.png", encoded(PHOTO.convert("LA")), ""),
    "15 one bit": ("a.png", encoded(PHOTO.convert("1")), ""),
    "16 hidden colours": ("a.png", encoded(hidden_colours()), ""),
    "18 GIF": (
        "a.gif",
        encoded(PHOTO.convert("P"), "GIF", save_all=True, append_images=[Image.new("P", (48, 40))]),
        "using frame 1 of 2",
    ),
    "18 TIFF": (
        "a.tif",
        encoded(PHOTO, "TIFF", save_all=True, append_images=[PHOTO]),
        "using frame 1 of 2",
    ),
    "19 one pixel": ("a.png", encoded(Image.new("RGB", (1, 1))), ""),
}


@pytest.mark.parametrize("case", TAKEN)
def test_an_odd_picture_is_taken_and_what_was_done_is_said(case, seggpt):
    name, data, note = TAKEN[case]
    Path(name).write_bytes(data)
    assert note in seggpt.works(*asked(name), "-v")
    assert "a.png" in seggpt.written()


def test_17_a_turned_photo_has_an_upright_mask(seggpt):
    exif = Image.Exif()
    exif[0x0112] = 6
    PHOTO.save("a.jpg", exif=exif)
    seggpt.works(*asked("a.jpg"))
    with Image.open("out/a.png") as mask:
        assert mask.size == (40, 48)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_23_what_is_no_regular_file(seggpt):
    os.mkfifo("pipe.png")
    Path("dangling.png").symlink_to("nowhere.png")
    Path("loop.png").symlink_to("loop.png")
    Path("folder.png").mkdir()
    seggpt.picture(Path("good.png"))
    for name, gist in (
        ("pipe.png", "not a regular file"),
        ("dangling.png", "dangling link"),
        ("loop.png", "cannot read"),
        ("folder.png", "no images under folder.png"),
    ):
        seggpt.fails(3, (name, gist), *asked(name, "good.png"), "--overwrite")


def test_23_a_picture_without_permission(seggpt, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    seggpt.picture(Path("good.png"))
    seggpt.picture(Path("shut.png"))
    opened = Path.open
    monkeypatch.setattr(
        Path, "open", lambda p, *a, **k: (refuse if p.name == "shut.png" else opened)(p, *a, **k)
    )
    seggpt.fails(3, "shut.png: cannot read: Permission denied", *asked("shut.png", "good.png"))


@pytest.mark.parametrize(
    "name",
    [b"caf\xe9.png", b"n" * 251 + b".png", b"two\nlines.png", b"-dash.png", b"con.png"],
)
def test_24_strange_names(name, seggpt):
    path = Path(os.fsdecode(name))
    try:
        seggpt.picture(path)
    except OSError:
        pytest.skip("not a name on this file system")
    Path("in").mkdir()
    path.rename(Path("in") / path)
    seggpt.works(*asked("in"))
    assert seggpt.records()[0]["status"] == "done"
    (Path("in") / path).write_bytes(b"")
    seggpt.fails(1, "empty file", *asked("in"), "--overwrite")
