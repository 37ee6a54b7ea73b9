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
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Shaped
from PIL import Image, ImageOps
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import jpeg_factory
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from incontext.files.deep import OddTiff, color_reader, turn
from incontext.files.facts import Facts, find_orientation, read_facts
from incontext.files.signatures import HEIC_BRANDS, describe_damage, readable, what_it_is
from incontext.wording import option
from seggpt.errors import InputError, TooLargeError, one_line


@runtime_checkable
class BinaryReader(Protocol):
    """Anything open for reading bytes: a file, an io.BytesIO, an upload."""

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes from where it stands, all of them when `size` is negative."""
        ...


@runtime_checkable
class ArrayLike(Protocol):
    """An array of any library, such as jax: what `numpy.asarray` takes."""

    def __array__(self, dtype: Any = None, /) -> np.ndarray:
        """Return it as numpy's."""
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

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Decoded:
    """A picture in memory: the first frame, upright, in the mode that its file has.

    Attributes:
        image: The pixels; `image.load()` has been called.
        name: The source in words fit for a message.
        format: Pillow's name of the file format, "" when the source was not a file.
        facts: What the header says of the pixels.
        deep: Reads the numbers of the file where Pillow keeps 8 bits of them or none; upright.
        is_odd: Whether Pillow does not know them at all: then `image` is blank.
    """

    image: Image.Image
    name: str
    format: str
    facts: Facts = field(default_factory=Facts)
    deep: Callable[[], Shaped[np.ndarray, "h w *c"]] | None = None
    is_odd: bool = False


def decode(
    source: FileSource | Image.Image,
    *,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
    all_bands: bool = False,
) -> Decoded:
    """Decode the first frame of a picture and turn it upright by its EXIF orientation.

    An open file is read from where it stands. A Pillow image is taken at its current frame and is
    not changed. With `all_bands` a TIFF of more than four is read in full.

    Raises:
        InputError: The source is missing, not a regular file, too large, not of an accepted format,
            truncated, corrupt, empty, or thinner than `MAX_ASPECT`.
    """
    name = source_name(source)
    if isinstance(source, Image.Image):
        check_size(source.size, name=name, max_pixels=max_pixels)
        facts = read_facts(source)
        _load(source, name=name, file_format=source.format or "")
        return Decoded(_upright(source, name=name), name, source.format or "", facts)
    data = _read(source, name=name, max_bytes=max_bytes)
    if odd := _odd_tiff(data, name=name, all_bands=all_bands):
        check_size(odd.size, name=name, max_pixels=max_pixels)
        facts = read_facts(odd)
        return Decoded(Image.new("1", odd.size), name, "TIFF", facts, odd.read, is_odd=True)
    image, file_format = _open(data, name=name)
    check_size(image.size, name=name, max_pixels=max_pixels)
    _warn_of_frames(image, name=name)
    facts = read_facts(image)
    read = color_reader(image, lambda: _open(data, name=name)[0])
    _load(image, name=name, file_format=file_format)
    facts = replace(facts, orientation=find_orientation(image))
    deep = (lambda: turn(read(), facts.orientation)) if read else None
    return Decoded(_upright(image, name=name), name, file_format, facts, deep)


def _load(image: Image.Image, *, name: str, file_format: str) -> None:
    try:
        image.load()
    # Pillow's decoders let out nearly any exception on damaged data, so catch all of them here.
    except Exception as error:
        raise InputError(f"{name}: {describe_damage(error, file_format)}") from error


def _odd_tiff(data: bytes, *, name: str, all_bands: bool) -> OddTiff | None:
    """Return a TIFF that Pillow would refuse or mix up; None for all other files."""
    signature, opener = _OPENERS["TIFF"]
    if not signature.match(data):
        return None
    try:
        odd = OddTiff(data, name=name)
    # Damaged tags let out nearly any exception; Pillow then says what is wrong.
    except Exception:
        return None
    if odd.is_scrambled or (all_bands and odd.samples > 4):
        return odd
    try:
        opener(io.BytesIO(data), "")
    except SyntaxError as error:
        return odd if "unknown pixel mode" in str(error) else None
    except Exception:
        return None
    return None


def as_array(source: object) -> Any:
    """Turn arrays of other libraries, such as jax's, into numpy's; return all else as it is."""
    is_array = hasattr(source, "__array__") and not isinstance(source, Image.Image)
    return np.asarray(source) if is_array else source


def array_name(array: np.ndarray) -> str:
    """Return the words for an array in a message."""
    return f"<array {'x'.join(map(str, array.shape))} {array.dtype}>"


def find_facts(source: object) -> Facts | None:
    """Read the header of a picture; None where it is an array, was read before, or is damaged."""
    if isinstance(source, Image.Image):
        return read_facts(source)
    try:
        if isinstance(source, bytes):
            return read_facts(_open(source, name="")[0])
        if isinstance(source, str | os.PathLike):
            data = _read_path(Path(source), name="", max_bytes=MAX_BYTES)
            return read_facts(_open(data, name="")[0])
    except InputError:
        pass
    return None


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


def check_size(size: tuple[int, int], *, name: str, max_pixels: int | None = MAX_PIXELS) -> None:
    """Refuse a picture of (width, height) that is empty, too large or too thin.

    Raises:
        InputError: It is one of these.
    """
    width, height = size
    if width < 1 or height < 1:
        raise InputError(f"{name}: {width}x{height} has no pixels")
    if max_pixels is not None and width * height > max_pixels:
        raise TooLargeError(
            f"{name}: {width}x{height} is {width * height / 1e6:.0f} Mpx and exceeds "
            f"{option('max_pixels')} ({max_pixels / 1e6:.0f}M); shrink the picture or raise "
            f"{option('max_pixels')}"
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise InputError(f"{name}: {width}x{height} is too thin (aspect > {MAX_ASPECT}); crop it")


def _read(source: FileSource, *, name: str, max_bytes: int) -> bytes:
    if isinstance(source, bytes):
        data = source
    elif isinstance(source, str | os.PathLike):
        data = _read_path(Path(source), name=name, max_bytes=max_bytes)
    elif isinstance(source, BinaryReader):
        try:
            data = source.read(max_bytes + 1)
        except (OSError, ValueError) as error:  # ValueError: it is closed
            raise InputError(f"{name}: cannot read: {error}") from error
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
            raise TooLargeError(
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
            image = opener(io.BytesIO(readable(data)), "")
        except Exception as error:
            # Text may begin with a short signature ("P3 ..." or "BM ...").
            words = what_it_is(data) or describe_damage(error, file_format)
            raise InputError(f"{name}: {words}") from error
        return image, image.format or file_format
    if data[4:8] == b"ftyp" and data[8:12] in HEIC_BRANDS:
        return _open_heic(data, name=name), "HEIF"
    words = what_it_is(data) or "not an image that we know"
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
        raise InputError(f"{name}: {describe_damage(error, 'HEIC')}") from error


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
