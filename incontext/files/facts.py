"""What the header of a picture file says that its pixels, as Pillow gives them, no longer do."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

_ORIENTATION, _PHOTOMETRIC, _SOFTWARE, _NODATA = 274, 262, 305, 42113
_TURNS = {
    2: "mirrored",
    3: "turned by 180 degrees",
    4: "mirrored upside down",
    5: "turned by 90 degrees and mirrored",
    6: "turned by 90 degrees",
    7: "turned by 270 degrees and mirrored",
    8: "turned by 270 degrees",
}


@dataclass(frozen=True)
class Facts:
    """What the header says.

    Attributes:
        levels: The top value of an 8-bit grey picture in its file: 1, 3 or 15 where that has fewer
            bits, which Pillow spreads over 0..255.
        white_is_zero: Whether the file stores white as 0 (TIFF's MinIsWhite).
        software: The program that wrote it.
        orientation: Of EXIF, 1..8.
        nodata: The value of pixels without data, as GDAL notes it.
        size: (width, height) as stored, before it is turned upright.
    """

    levels: int = 255
    white_is_zero: bool = False
    software: str = ""
    orientation: int = 1
    nodata: float | None = None
    size: tuple[int, int] = (0, 0)

    @property
    def turn(self) -> str:
        """How the picture was turned upright, in words; "" where it was not."""
        return _TURNS.get(self.orientation, "")


@runtime_checkable  # tests check annotations
class Tagged(Protocol):
    """An open picture: Pillow's, or a TIFF that Pillow does not know."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        ...

    @property
    def mode(self) -> str:
        """Pillow's, or nothing."""
        ...


def read_facts(image: Tagged) -> Facts:
    """Read an image's header; `image` must not have been loaded, or less is known."""
    tags: Any = getattr(image, "tag_v2", {})
    return Facts(
        levels=_levels(image),
        white_is_zero=tags.get(_PHOTOMETRIC) == 0,
        software=str(tags.get(_SOFTWARE, "")),
        orientation=find_orientation(image),
        nodata=_number(tags.get(_NODATA)),
        size=image.size,
    )


def _levels(image: Tagged) -> int:
    """Find the bits of a grey pixel in what the decoder is told."""
    tile: Any = getattr(image, "tile", None)
    if image.mode != "L" or not tile:
        return 255
    args = tile[0][3]
    told = args if isinstance(args, tuple) else (args,)
    rawmode = str(told[0])
    if getattr(image, "format", "") == "PPM":
        top = told[1] if len(told) == 2 and isinstance(told[1], int) else 255
        return top if 0 < top < 255 else 255
    bits = rawmode.partition(";")[2][:1]
    return (1 << int(bits)) - 1 if bits in ("1", "2", "4") else 255


def find_orientation(image: Any) -> int:
    """Return the EXIF orientation, 1..8; 1 where EXIF is missing or damaged.

    A PNG may have EXIF behind its pixels: then it is known once they are loaded.
    """
    tags: Any = getattr(image, "tag_v2", {})
    try:
        # Pillow would load the pixels of a PNG here, and keep quiet about damage afterwards.
        if getattr(image, "format", "") == "PNG" and getattr(image, "tile", None):
            known = ("exif", "Raw profile type exif", "XML:com.adobe.xmp")
            if not any(name in image.info for name in known):
                return 1
        value = image.getexif().get(_ORIENTATION, 1)
    # EXIF is a file format of its own and is often damaged; the pixels are not.
    except Exception:
        value = tags.get(_ORIENTATION, 1)
    return value if value in _TURNS else 1


def _number(text: object) -> float | None:
    try:
        return float(str(text).strip("\0 "))
    except ValueError:
        return None
