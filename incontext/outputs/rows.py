"""PNGs of labels, written as rows come: pictures that no memory holds."""

import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Int32

from incontext.files.atomic import write_whole
from incontext.files.drawing import make_palette

ROW_FORMATS = ("mask", "labels")
"""The formats of `Result.save` that can be written so."""
_GREY, _PALETTE = 0, 3  # colour types of PNG


def write_rows(
    bands: Iterable[Int32[np.ndarray, "rows w"]],
    paths: Mapping[str, Path],
    *,
    size: tuple[int, int],
    most: int,
) -> None:
    """Write a label map that comes in bands of rows; files appear whole or not at all.

    Args:
        bands: Consumed once.
        paths: The file of each format in `ROW_FORMATS` that is asked for.
        size: (height, width).
        most: The highest label that there can be.

    Raises:
        InputError: A file cannot be written.
    """

    def write(left: Sequence[tuple[str, Path]], files: Sequence[_RowPng]) -> None:
        if not left:
            for band in bands:
                for file in files:
                    file.add(band)
            return
        output, path = left[0]

        def write_one(part: Path) -> None:
            with part.open("wb") as stream:
                file = _RowPng(stream, size, has_palette=output == "mask", bits=bits)
                write(left[1:], (*files, file))
                file.finish()

        bits = 16 if most > 255 else 8
        write_whole(path, write_one)

    write(tuple(paths.items()), ())


class _RowPng:
    """A PNG of one channel that is being written."""

    def __init__(
        self, stream: BinaryIO, size: tuple[int, int], *, has_palette: bool, bits: int
    ) -> None:
        self._stream, self._dtype = stream, ">u2" if bits == 16 else "u1"
        self._deflate = zlib.compressobj()
        stream.write(b"\x89PNG\r\n\x1a\n")
        height, width = size
        color = _PALETTE if has_palette else _GREY
        self._write("IHDR", struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0))
        if has_palette:
            self._write("PLTE", make_palette(None).tobytes())

    def add(self, band: Int32[np.ndarray, "rows w"]) -> None:
        """Append rows, each after the number of its filter: none."""
        rows = band.astype(self._dtype)
        pixels = rows.view(np.uint8).reshape(len(rows), -1)
        filtered = np.pad(pixels, ((0, 0), (1, 0)))
        self._write("IDAT", self._deflate.compress(filtered.data))

    def finish(self) -> None:
        """Write what is left."""
        self._write("IDAT", self._deflate.flush())
        self._write("IEND", b"")

    def _write(self, kind: str, data: bytes) -> None:
        named = kind.encode() + data
        if data or kind == "IEND":
            self._stream.write(struct.pack(">I", len(data)) + named)
            self._stream.write(struct.pack(">I", zlib.crc32(named)))
