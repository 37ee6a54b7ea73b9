"""Numbers that Pillow loses: colour of 16 bits, and TIFFs of kinds that it does not know."""

import io
import logging
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt16
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from seggpt.errors import InputError

# Pillow keeps the high byte of each 16-bit colour. The unpacker of the other byte order takes the
# low one from the same bytes.
_OTHER_BYTE = {
    "RGB;16B": "RGB;16L",
    "RGB;16L": "RGB;16B",
    "RGB;16N": "RGB;16B",
    "RGBA;16B": "RGBA;16L",
    "RGBA;16L": "RGBA;16B",
    "RGBA;16N": "RGBA;16B",
}
_MOST_BANDS = 512
_MOST_BYTES = 4 << 30  # of all bands: a packed file of a few bytes may declare any number
_ORIENTATION, _WIDTH, _HEIGHT, _BITS, _SAMPLES, _PLANAR, _FORMAT = 274, 256, 257, 258, 277, 284, 339
_FORMATS = {1: "unsigned", 2: "signed", 3: "float", 5: "complex", 6: "complex"}
# How to turn an array of an orientation upright: quarter turns, then whether to mirror it.
_TURNS = {2: (0, 1), 3: (2, 0), 4: (2, 1), 5: (3, 1), 6: (3, 0), 7: (1, 1), 8: (1, 0)}

logger = logging.getLogger(__name__)


def color_reader(
    image: Image.Image, again: Callable[[], Image.Image]
) -> Callable[[], UInt16[np.ndarray, "h w c"]] | None:
    """Return what reads all 16 bits of a colour picture, as stored; None where it has 8.

    Args:
        image: The picture, opened and not yet loaded.
        again: Opens it once more.
    """
    rawmode = _rawmode(image)
    if rawmode == "LA;16B":
        return lambda: _grey_alpha(again())
    other = _OTHER_BYTE.get(rawmode)
    if other is None:
        return None

    def read() -> UInt16[np.ndarray, "h w c"]:
        low = again()
        _set_rawmode(low, other)
        high = np.asarray(again()).astype(np.uint16)
        return high << 8 | np.asarray(low)

    return read


def turn(values: np.ndarray, orientation: int) -> np.ndarray:
    """Turn an array upright by an EXIF orientation."""
    quarters, is_mirrored = _TURNS.get(orientation, (0, 0))
    turned = np.rot90(values, quarters)
    return turned[:, ::-1] if is_mirrored else turned


class OddTiff:
    """The first page of a TIFF that Pillow does not read right; its pixels are read on demand."""

    def __init__(self, data: bytes, *, name: str) -> None:
        self.data, self.name = data, name
        self.mode = ""
        self.tag_v2: Any = ImageFileDirectory_v2(data[:16] if data[2:3] == b"+" else data[:8])
        file = io.BytesIO(data)
        file.seek(self.tag_v2.next)
        self.tag_v2.load(file)
        self.size = (int(self.tag_v2[_WIDTH]), int(self.tag_v2[_HEIGHT]))
        self.samples = int(self.tag_v2.get(_SAMPLES, 1))
        self.orientation = int(self.tag_v2.get(_ORIENTATION, 1))

    @property
    def is_scrambled(self) -> bool:
        """Whether Pillow opens it and mixes its bands up."""
        bits = self.tag_v2.get(_BITS, (1,))
        return self.tag_v2.get(_PLANAR) == 2 and self.samples > 1 and bits[0] != 8

    @property
    def kind(self) -> str:
        """What a pixel is, in words."""
        bits = self.tag_v2.get(_BITS, (1,))[0]
        number = _FORMATS.get(self.tag_v2.get(_FORMAT, (1,))[0], "unknown")
        bands = "1 band" if self.samples == 1 else f"{self.samples} bands"
        return f"{bands} of {bits}-bit {number} numbers"

    def read(self) -> Shaped[np.ndarray, "h w *c"]:
        """Read the page upright.

        Raises:
            InputError: tifffile is not there, or cannot read it either.
        """
        try:
            # Optional dependency: Pillow reads the TIFFs of cameras, scanners and most tools.
            import tifffile
        except ImportError as error:
            raise InputError(
                f"{self.name}: a TIFF with {self.kind} needs "
                '`pip install "seggpt-jax[tiff]"`; or save it with 8 or 16 bits as PNG'
            ) from error
        if self.samples > _MOST_BANDS:
            raise InputError(f"{self.name}: {self.samples} bands; {_MOST_BANDS} are the most")
        bits = self.tag_v2.get(_BITS, (1,))[0]
        if (size := math.prod(self.size) * self.samples * bits // 8) > _MOST_BYTES:
            raise InputError(
                f"{self.name}: {size >> 20} MiB of numbers in {self.kind}, and "
                f"{_MOST_BYTES >> 20} MiB are the most; crop it, or save fewer bands"
            )
        try:
            with tifffile.TiffFile(io.BytesIO(self.data)) as file:
                page: Any = file.pages[0]
                axes, values = page.axes, np.asarray(page.asarray())
        # It lets out nearly any exception on damaged data, and on codecs that it lacks.
        except Exception as error:
            words = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"{self.name}: cannot read this TIFF with {self.kind} ({words}); save it as "
                "PNG, or as TIFF without compression"
            ) from error
        width, height = self.size
        if values.ndim != len(axes):
            raise InputError(f"{self.name}: corrupt TIFF; copy or download it again")
        if axes == "SYX":
            values = np.moveaxis(values, 0, 2)
        elif axes not in ("YX", "YXS"):
            raise InputError(f"{self.name}: TIFF with axes {axes}; save one plane of it")
        if values.shape[:2] != (height, width):
            raise InputError(f"{self.name}: corrupt TIFF; copy or download it again")
        return turn(values, self.orientation)


def _rawmode(image: Image.Image) -> str:
    tile: Any = getattr(image, "tile", None)
    if not tile:
        return ""
    args = tile[0][3]
    return str(args[0] if isinstance(args, tuple) else args)


def _set_rawmode(image: Any, rawmode: str) -> None:
    image.tile = [
        part._replace(args=(rawmode, *part.args[1:]) if isinstance(part.args, tuple) else rawmode)
        for part in image.tile
    ]


def _grey_alpha(image: Any) -> UInt16[np.ndarray, "h w 4"]:
    """Read 16-bit grey with alpha as RGBA: its four bytes a pixel are those of 8-bit RGBA."""
    image._mode = "RGBA"
    _set_rawmode(image, "RGBA")
    pairs = np.asarray(image).astype(np.uint16)
    grey, alpha = pairs[..., 0] << 8 | pairs[..., 1], pairs[..., 2] << 8 | pairs[..., 3]
    return np.stack([grey, grey, grey, alpha], axis=2)
