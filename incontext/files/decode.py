"""Open files that strangers made: one decoded upright picture, or `InputError`.

Pillow decodes. This module decides what Pillow may see: regular files of a bounded size, a short
list of formats, a bounded number of pixels (checked after the header, before any pixel is decoded).
No global setting of Pillow is changed, so a program around us keeps its own. The decoders of TIFF
and WebP may obey `PIL.Image.MAX_IMAGE_PIXELS` besides our limit: there 179 Mpx is the most.
"""

import errno
import io
import logging
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol, runtime_checkable

from PIL import Image, ImageOps
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import jpeg_factory
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from seggpt.errors import InputError, one_line


@runtime_checkable
class BinaryReader(Protocol):
    """Anything open for reading bytes: a file, an io.BytesIO, an upload."""

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes from where it stands, all of them when `size` is negative."""
        ...


FileSource = str | os.PathLike[str] | bytes | BinaryReader
"""Where an encoded picture may come from: a path, the bytes themselves, or an open binary file."""

_Opener = Callable[[IO[bytes], str], Image.Image]

# The formats that Pillow may decode for us, by their first bytes. `Image.open` is not used: it
# applies Pillow's global pixel limit, hides why a plugin refused a file, and knows formats that
# start other programs (EPS starts Ghostscript).
_OPENERS: dict[str, tuple[re.Pattern[bytes], _Opener]] = {
    "PNG": (re.compile(rb"\x89PNG\r\n\x1a\n"), PngImageFile),
    # Returns an MpoImageFile for a JPEG that holds several pictures, as many phones write them.
    "JPEG": (re.compile(rb"\xff\xd8\xff"), jpeg_factory),
    "WEBP": (re.compile(rb"RIFF....WEBP", re.DOTALL), WebPImageFile),
    "BMP": (re.compile(rb"BM"), BmpImageFile),
    "TIFF": (re.compile(rb"II[*+]\0|MM\0[*+]"), TiffImageFile),
    "GIF": (re.compile(rb"GIF8[79]a"), GifImageFile),
    "PPM": (re.compile(rb"P[1-6f]\s"), PpmImageFile),
}

MAX_PIXELS = 89_478_485
"""Default cap on width x height: the number above which Pillow warns of a decompression bomb."""

MAX_BYTES = 1 << 30
"""Default cap on the size of a file. 1 GiB holds `MAX_PIXELS` of uncompressed 16-bit RGBA."""

MAX_ASPECT = 100
"""Longest side over shortest side; beyond it nothing is left of a picture on a square canvas."""

_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")

# (offset, bytes, what it is) of files that people mistake for pictures.
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"%PDF", "PDF is not accepted; convert the page to PNG first"),
    (0, b"%!PS", "EPS is not accepted; convert it to PNG first"),
    (0, b"\xc5\xd0\xd3\xc6", "EPS is not accepted; convert it to PNG first"),
    (0, b"\xd7\xcd\xc6\x9a", "WMF is not accepted; convert it to PNG first"),
    (0, b"\x89HDF\r\n\x1a\n", "HDF5 is not accepted; export the picture as PNG or TIFF first"),
    (0, b"\x93NUMPY", "this is a numpy file; read it with numpy.load and pass the array"),
    (0, b"8BPS", "PSD is not accepted; export it as PNG first"),
    (0, b"\x00\x00\x00\x0cjP  ", "JPEG 2000 is not accepted; convert it to PNG first"),
    (0, b"\x00\x00\x00\x0cJXL ", "JPEG XL is not accepted; convert it to PNG first"),
    (0, b"\xff\x0a", "JPEG XL is not accepted; convert it to PNG first"),
    (128, b"DICM", "DICOM is not accepted; convert the slice to PNG or 16-bit TIFF first"),
    (0, b"PK\x03\x04", "this is a zip archive; unpack it first"),
    (0, b"\x1f\x8b", "this is a gzip archive; unpack it first"),
    (4, b"ftypavi", "AVIF is not accepted; convert it to PNG or JPEG first"),
    (4, b"ftyp", "this is a video file, not a picture"),
    (0, b"\x1aE\xdf\xa3", "this is a video file, not a picture"),
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Decoded:
    """A picture in memory: the first frame, upright, in the mode that its file has.

    Attributes:
        image: The pixels; `image.load()` has been called.
        name: The source in words fit for a message.
        format: Pillow's name of the file format, "" when the source was not a file.
    """

    image: Image.Image
    name: str
    format: str


def decode(
    source: FileSource | Image.Image, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES
) -> Decoded:
    """Decode the first frame of a picture and turn it upright by its EXIF orientation.

    An open file is read from where it stands. A Pillow image is taken at its current frame and is
    not changed.

    Raises:
        InputError: The source is missing, not a regular file, too large, not of an accepted format,
            truncated, corrupt, empty, or thinner than `MAX_ASPECT`.
    """
    name = source_name(source)
    if isinstance(source, Image.Image):
        image, file_format = source, source.format or ""
    else:
        data = _read(source, name=name, max_bytes=max_bytes)
        image, file_format = _open(data, name=name)
    check_size(image.size, name=name, max_pixels=max_pixels)
    if not isinstance(source, Image.Image):
        _warn_of_frames(image, name=name)
    try:
        image.load()
    # Pillow's decoders let out nearly any exception on damaged data, so catch all of them here.
    except Exception as error:
        raise InputError(f"{name}: {_damage(error, file_format)}") from error
    return Decoded(_upright(image, name=name), name, file_format)


def source_name(source: object) -> str:
    """Return the words for a source in a message: its path, or its kind in angle brackets."""
    if isinstance(source, str | os.PathLike):
        return one_line(source)
    if isinstance(source, bytes):
        return "<bytes>"
    named = getattr(source, "filename", None) or getattr(source, "name", None)
    if isinstance(named, str | os.PathLike) and os.fspath(named):
        return one_line(named)
    return f"<{type(source).__name__}>"


def check_size(size: tuple[int, int], *, name: str, max_pixels: int = MAX_PIXELS) -> None:
    """Refuse a picture of (width, height) that is empty, too large or too thin.

    Raises:
        InputError: It is one of these.
    """
    width, height = size
    if width < 1 or height < 1:
        raise InputError(f"{name}: {width}x{height} has no pixels")
    if width * height > max_pixels:
        raise InputError(
            f"{name}: {width}x{height} is {width * height / 1e6:.0f} Mpx and exceeds --max-pixels "
            f"({max_pixels / 1e6:.0f}M); shrink the picture or raise --max-pixels"
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise InputError(f"{name}: {width}x{height} is too thin (aspect > {MAX_ASPECT}); crop it")


def _read(source: FileSource, *, name: str, max_bytes: int) -> bytes:
    if isinstance(source, bytes):
        data = source
    elif isinstance(source, str | os.PathLike):
        data = _read_path(Path(source), name=name, max_bytes=max_bytes)
    elif isinstance(source, BinaryReader):
        data = source.read(max_bytes + 1)
        if not isinstance(data, bytes):
            raise InputError(f'{name}: opened as text; open it with mode "rb"')
    else:
        raise InputError(
            f"{name}: not a picture; pass a path, bytes, a binary file, a PIL image or an array"
        )
    if len(data) > max_bytes:
        raise InputError(f"{name}: more than {max_bytes >> 20} MiB; shrink the picture")
    if not data:
        mend = (
            "write the picture again" if isinstance(source, str | os.PathLike) else "seek(0) first?"
        )
        raise InputError(f"{name}: empty file; {mend}")
    return data


def _read_path(path: Path, *, name: str, max_bytes: int) -> bytes:
    try:
        status = path.stat()
        # Opening a FIFO would wait for a writer for ever, and a device may have no end.
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{name}: not a regular file; pass a picture file")
        if status.st_size > max_bytes:
            raise InputError(
                f"{name}: {status.st_size >> 20} MiB exceeds {max_bytes >> 20} MiB; shrink it"
            )
        with path.open("rb") as file:
            return file.read(max_bytes + 1)
    except InputError:
        raise
    # ValueError: a NUL in the path.
    except (OSError, ValueError) as error:
        raise InputError(_unreadable(path, error, name=name)) from error


def _unreadable(path: Path, error: OSError | ValueError, *, name: str) -> str:
    if isinstance(error, OSError) and error.errno == errno.ENOENT:
        if path.is_symlink():
            return f"{name}: dangling link; restore the file it points to"
        if "://" in name or name.startswith(("http:/", "https:/")):
            return f"no such file: {name}; download it first"
        return f"no such file: {name}"
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return f"{name}: cannot read: {reason}"


def _open(data: bytes, *, name: str) -> tuple[Image.Image, str]:
    """Parse the header only; the pixels are decoded by `Image.load`."""
    for file_format, (signature, opener) in _OPENERS.items():
        if not signature.match(data):
            continue
        try:
            image = opener(io.BytesIO(data), "")
        except Exception as error:
            # Text may begin with a short signature ("P3 ..." or "BM ...").
            words = _what_it_is(data) or _damage(error, file_format)
            raise InputError(f"{name}: {words}") from error
        return image, image.format or file_format
    if data[4:8] == b"ftyp" and data[8:12] in _HEIC_BRANDS:
        return _open_heic(data, name=name), "HEIF"
    words = _what_it_is(data) or "not an image that we know"
    raise InputError(f"{name}: {words} (accepted: {', '.join(_OPENERS)})")


def _open_heic(data: bytes, *, name: str) -> Image.Image:
    try:
        # Optional dependency: most pictures are not HEIC.
        from pillow_heif.as_plugin import (  # pyright: ignore[reportMissingImports]
            HeifImageFile,
        )
    except ImportError as error:
        raise InputError(
            f'{name}: HEIC needs `pip install "seggpt-jax[heif]"`; or convert it to JPEG'
        ) from error
    opener: _Opener = HeifImageFile
    try:
        return opener(io.BytesIO(data), "")
    except Exception as error:
        raise InputError(f"{name}: {_damage(error, 'HEIC')}") from error


def _what_it_is(data: bytes) -> str:
    """Say in words what a file is that is no picture; "" when its first bytes tell nothing."""
    head = data[:512]
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"version https://git-lfs"):
        return "Git-LFS pointer, not the picture itself; run git lfs pull"
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "not an image (looks like HTML); was it a download that failed?"
    if text.startswith(b"<svg") or (text.startswith(b"<?xml") and b"<svg" in text):
        return "SVG is not accepted; convert it to PNG first"
    for offset, magic, words in _SIGNATURES:
        if head[offset:].startswith(magic):
            return words
    if not head.strip(b"\0"):
        return "only zero bytes; copy or download the picture again"
    try:
        # The cut at 512 may fall inside a character.
        is_text = head[:-4].decode("utf-8").replace("\n", "").replace("\r", "").replace("\t", "")
    except UnicodeDecodeError:
        return ""
    return "not an image (looks like text)" if is_text.isprintable() and len(head) > 4 else ""


def _damage(error: Exception, file_format: str) -> str:
    words = (str(error).splitlines() or [""])[0]
    lowered = words.lower()
    if isinstance(error, Image.DecompressionBombError):
        return "more pixels than Pillow decodes in this format; shrink it or convert it to PNG"
    if "truncated" in lowered or "unexpected end" in lowered or isinstance(error, EOFError):
        return "truncated image; copy or download it again"
    if "checksum" in lowered or "broken" in lowered:
        return f"corrupt {file_format} (checksum or data stream); copy or download it again"
    if isinstance(error, MemoryError):
        return "not enough memory to decode the picture; shrink it"
    return f"corrupt {file_format} ({words or type(error).__name__}); copy or download it again"


def _warn_of_frames(image: Image.Image, *, name: str) -> None:
    try:
        count = getattr(image, "n_frames", 1)
    # Counting parses the later frames, and damage there does not hurt the first one.
    except Exception:
        logger.warning("%s: using frame 1; the later frames are damaged", name)
        return
    if count > 1:
        logger.warning("%s: using frame 1 of %d", name, count)


def _upright(image: Image.Image, *, name: str) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    # EXIF is a file format of its own and is often damaged; the pixels are not.
    except Exception:
        logger.warning("%s: unreadable EXIF; taken as upright", name)
        return image.copy()
