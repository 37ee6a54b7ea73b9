"""Rows of a TIFF that is too large for memory, read when they are asked for."""

import logging
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from incontext.files.decode import MAX_BYTES, MAX_PIXELS, check_size
from incontext.options import Alpha
from seggpt.errors import InputError, one_line

_MOST_BYTES = 1 << 24  # of a strip or tile, which is decoded at once
_COMPRESSIONS = (1, 5, 8, 32773, 32946)  # none, LZW, deflate, PackBits, deflate's old number
_GREY, _RGB = 1, 2
_UNSPECIFIED, _PREMULTIPLIED = 0, 1  # what a fourth band may be besides alpha
MEND = "save it as a tiled TIFF of 8-bit grey, RGB or RGBA"

logger = logging.getLogger(__name__)


class Regions:
    """The first page of a TIFF, open.

    Attributes:
        name: The file, in words fit for a message.
        shape: (height, width).
    """

    def __init__(self, path: Path, *, alpha: Alpha = "white") -> None:
        self.name = one_line(path)
        try:
            # Optional dependency: Pillow reads all other pictures, but always as a whole.
            import tifffile
        except ImportError as error:
            raise InputError(
                f'{self.name}: so large a TIFF needs `pip install "seggpt-jax[tiff]"`'
            ) from error
        with ExitStack() as undo:
            try:
                self._file = undo.enter_context(tifffile.TiffFile(path))
                self._page: Any = self._file.pages[0]
                obstacle, count = _find_obstacle(self._page), len(self._file.pages)
                size = (int(self._page.imagewidth), int(self._page.imagelength))
            # It lets out nearly any exception on damaged data.
            except Exception as error:
                raise self._unreadable(error) from error
            if obstacle:
                raise InputError(f"{self.name}: cannot be read in parts ({obstacle}); {MEND}")
            check_size(size, name=self.name, max_pixels=None)
            self.shape = (size[1], size[0])
            is_opaque = self._page.extrasamples == (_UNSPECIFIED,)
            self._alpha: Alpha = "ignore" if is_opaque else alpha
            self.read(0, 1)  # a codec may be missing
            undo.pop_all()
        if count > 1:
            logger.warning("%s: using frame 1 of %d", self.name, count)

    def read(self, top: int, bottom: int) -> UInt8[np.ndarray, "h w 3"]:
        """Read the rows from `top` up to, and without, `bottom` as RGB.

        Raises:
            InputError: They are damaged, or a codec is missing.
        """
        page, (height, width) = self._page, self.shape
        length, across = page.chunks[0], -(-width // page.chunks[1])
        rows = np.zeros((bottom - top, width, 3), np.uint8)
        for index in range(top // length * across, -(-bottom // length) * across):
            try:
                self._file.filehandle.seek(page.dataoffsets[index])
                data = self._file.filehandle.read(page.databytecounts[index])
                segment, (_, _, y, x, _), _ = page.decode(data or None, index)
            except Exception as error:
                raise self._unreadable(error) from error
            if segment is None:  # a hole, which has no bytes
                continue
            first, last = max(top, y), min(bottom, y + segment.shape[1], height)
            piece = segment[0, first - y : last - y, : width - x]
            target = rows[first - top : last - top, x : x + piece.shape[1]]
            target[...] = _flatten(piece, self._alpha)
        return rows

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _unreadable(self, error: Exception) -> InputError:
        words = (str(error).splitlines() or [type(error).__name__])[0]
        return InputError(f"{self.name}: cannot read this TIFF ({words}); {MEND} without codecs")


def open_large(
    path: str | os.PathLike[str], *, max_pixels: int | None = None, alpha: Alpha = "white"
) -> Regions | None:
    """Open a TIFF that has more pixels or bytes than is read as a whole; None for all else.

    Raises:
        InputError: It is one, and cannot be read in parts.
    """
    path = Path(path)
    try:
        if not path.is_file():  # opening a FIFO would wait for a writer
            return None
        with TiffImageFile(path) as image:
            width, height = image.size
        is_large = width * height > (max_pixels or MAX_PIXELS) or path.stat().st_size > MAX_BYTES
    # No TIFF, or damaged: reading it as any other picture says what is wrong.
    except Exception:
        return None
    return Regions(path, alpha=alpha) if is_large else None


def _find_obstacle(page: Any) -> str:
    """Say why a page is not read in parts; "" if it is."""
    samples, orientation = page.samplesperpixel, page.tags.get(274)
    if page.bitspersample != 8 or page.sampleformat != 1:
        return f"{page.bitspersample} bits of sample format {int(page.sampleformat)}"
    if samples not in (1, 3, 4) or page.photometric != (_GREY if samples == 1 else _RGB):
        return f"{samples} bands, {page.photometric!s}"
    if page.planarconfig != 1 and samples > 1:
        return "planar"
    if _PREMULTIPLIED in page.extrasamples:
        return "premultiplied alpha"
    if page.compression not in _COMPRESSIONS:
        return f"compression {page.compression!s}"
    if orientation is not None and orientation.value != 1:
        return "stored turned"
    if page.imagedepth != 1:
        return "a volume"
    length, width = page.chunks[:2]
    # Sizes that the header claims: nothing has been read.
    if max(length * width * samples, *page.databytecounts) > _MOST_BYTES:
        return f"strips or tiles of {width}x{length}"
    return ""


def _flatten(piece: UInt8[np.ndarray, "h w c"], alpha: Alpha) -> UInt8[np.ndarray, "h w _"]:
    if piece.shape[2] < 4 or alpha == "ignore":
        return piece[..., :3]
    backdrop = Image.new("RGBA", piece.shape[1::-1], alpha)
    picture = Image.alpha_composite(backdrop, Image.fromarray(np.ascontiguousarray(piece)))
    return np.asarray(picture.convert("RGB"))
