"""Pictures in: any source becomes upright 8-bit RGB, and any target becomes a list of files.

`load_image` is the one way in which pixels enter the package. Where Pillow's own conversion to RGB
would lose the picture (16-bit and float pictures become white or black, transparent pixels show
hidden colours), the rules here take its place.
"""

import glob
import logging
import os
import re
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from incontext.files.decode import (
    MAX_BYTES,
    MAX_PIXELS,
    ArrayLike,
    Decoded,
    FileSource,
    array_name,
    as_array,
    check_size,
    decode,
)
from incontext.files.scaling import scale, scale_dark_color, warn_of_alpha
from incontext.options import Alpha, check_reading
from incontext.wording import option
from seggpt.errors import InputError, one_line

ImageSource = FileSource | Image.Image | np.ndarray | ArrayLike
"""A picture: a path, encoded bytes, an open binary file, a PIL image, or a uint8 array."""

IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".heic", ".heif"),
    *(".jpe", ".jfif", ".mpo", ".dib", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
)
"""Suffixes, in lower case, of the files that count as pictures inside folders and patterns."""

Suffixes = tuple[str, ...]

logger = logging.getLogger(__name__)


class PictureOptions(TypedDict, total=False):
    """How pictures are read: arguments of `load_image`."""

    max_pixels: int | None
    alpha: Alpha
    bands: tuple[int, int, int] | None


def load_image(
    source: ImageSource,
    *,
    max_pixels: int | None = None,
    max_bytes: int = MAX_BYTES,
    alpha: Alpha = "white",
    bands: tuple[int, int, int] | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
    """Read a picture as upright sRGB bytes.

    Files are turned by their EXIF orientation, so the size may be the file's own with its sides
    swapped. Only the first frame of an animation or a multi-page file is read (a warning says so).
    16-bit, 32-bit and float greys are stretched between two percentiles and logged at level info,
    and so is colour of 16 bits that uses less than a quarter of its range.

    Args:
        source: The picture. An array is (h, w) grey, (h, w, 3) RGB or (h, w, 4) RGBA, uint8; an RGB
            array is returned as it is, without a copy.
        max_pixels: Largest width x height, checked before any pixel is decoded: by default
            `MAX_PIXELS` for a file, and any for an array.
        max_bytes: Largest size of the encoded file.
        alpha: What lies behind transparent pixels; "ignore" keeps the colours hidden there.
        bands: Which bands of a file are red, green and blue, counted from 1; the others are left
            out, and so is alpha.

    Raises:
        InputError: The picture is missing, unreadable, damaged, too large, too thin or empty.
        PromptError: An option makes no sense.
    """
    check_reading(max_pixels, alpha, bands)
    given: Any = as_array(source)
    if isinstance(given, np.ndarray):
        array = _checked_array(given, max_pixels=max_pixels)
        if array.ndim == 3 and array.shape[2] == 3:
            return np.ascontiguousarray(array)
        given = Image.fromarray(array)
        max_pixels = given.width * given.height
    decoded = decode(
        given,
        max_pixels=MAX_PIXELS if max_pixels is None else max_pixels,
        max_bytes=max_bytes,
        all_bands=bands is not None,
    )
    numbers = _numbers(decoded, bands=bands)
    if numbers is not None:
        return scale(numbers, name=decoded.name, facts=decoded.facts)
    return _flatten(decoded, alpha=alpha)


def _flatten(decoded: Decoded, *, alpha: Alpha) -> UInt8[np.ndarray, "h w 3"]:
    """Return a picture's colours, laid on a backdrop where they are transparent."""
    image, scaled = decoded.image, scale_dark_color(decoded)
    if image.has_transparency_data and alpha != "ignore":
        image = image.convert("RGBA")
        channel = image.getchannel("A")
        warn_of_alpha(channel, name=decoded.name, backdrop=alpha)
        if scaled is not None:
            image = Image.fromarray(scaled).convert("RGBA")
            image.putalpha(channel)
        image = Image.alpha_composite(Image.new("RGBA", image.size, alpha), image)
    elif scaled is not None:
        return scaled
    try:
        return np.array(image.convert("RGB"))
    except ValueError as error:
        raise InputError(
            f"{decoded.name}: mode {image.mode} does not convert to RGB; save it as RGB"
        ) from error


def _numbers(decoded: Decoded, *, bands: tuple[int, int, int] | None) -> np.ndarray | None:
    """Return the numbers of a picture that is no plain 8-bit one, grey or three bands.

    Raises:
        InputError: It has other numbers of bands, or not those asked for.
    """
    image = decoded.image
    is_deep = image.mode in ("I", "F") or image.mode.startswith("I;")
    if decoded.is_odd:
        assert decoded.deep is not None  # of what is odd
        values = decoded.deep()
    elif is_deep or bands is not None:
        values = np.asarray(image)
    else:
        return None
    count = 1 if values.ndim == 2 else values.shape[2]
    if bands is not None:
        if max(bands) > count:
            raise InputError(
                f"{decoded.name}: {option('bands', tuple(bands))}, and there are {count} bands, "
                f"counted from 1"
            )
        return values[..., [band - 1 for band in bands]] if values.ndim == 3 else values
    if count not in (1, 3):
        raise InputError(
            f"{decoded.name}: {count} bands of {values.dtype}; {option('bands', (1, 2, 3))} takes "
            "three of them for red, green and blue"
        )
    return values[..., 0] if values.ndim == 3 and count == 1 else values


def find_images(
    targets: Sequence[str | os.PathLike[str]],
    *,
    recursive: bool = True,
    suffixes: Sequence[str] = IMAGE_SUFFIXES,
) -> list[tuple[Path, Path]]:
    """List the pictures that targets name, each with the relative stem of what is made from it.

    A file is taken whatever its suffix and gives its bare stem. A folder gives every picture below
    it, by its suffix, with the stem relative to the folder, so that a tree stays a tree. A
    pattern (`*.jpg`, `shots/**/*.png`) gives the pictures it matches, relative to its part before
    the first wildcard. Targets keep their order; inside each one the order is natural (2 before
    10). Folders and patterns leave out what is hidden and enter a linked folder once.

    Args:
        targets: Files, folders and patterns. A name that exists is never read as a pattern.
        recursive: Whether to enter the folders inside a folder.
        suffixes: Of the files that count, in lower case.

    Raises:
        InputError: A target does not exist or holds no picture, or there is no target.
    """
    if not targets:
        raise InputError("no target; name a picture, a folder or a pattern")
    found: dict[tuple[str, Path], tuple[Path, Path]] = {}
    for target in targets:
        for file, stem in _find(os.fspath(target), recursive, tuple(suffixes)):
            found.setdefault((os.path.abspath(file), stem), (file, stem))
    return list(found.values())


def check_unique_outputs(
    found: Sequence[tuple[Path, Path]], *, suffixes: Sequence[str] = (".png",)
) -> None:
    """Make sure that no two pictures would be written to one name.

    Names that differ only in case or in Unicode form are one name where the usual file system says
    so (macOS, Windows).

    Args:
        found: Files and relative stems, as from `find_images`.
        suffixes: What is appended to the stem, one for each output.

    Raises:
        InputError: Two pictures share an output; the message names both.
    """
    owners: dict[str, Path] = {}
    for file, stem in found:
        for suffix in suffixes:
            output = f"{stem}{suffix}"
            owner = owners.setdefault(_file_system_key(output), file)
            if owner != file:
                raise InputError(
                    f"{one_line(owner)} and {one_line(file)} would both write {one_line(output)}; "
                    "rename one or give each its own output folder"
                )


def _checked_array(array: np.ndarray, *, max_pixels: int | None) -> UInt8[np.ndarray, "h w ..."]:
    name = array_name(array)
    if array.dtype != np.uint8:
        raise InputError(f"{name}: pixels must be uint8 in 0..255; scale and cast the array")
    if array.ndim == 3 and array.shape[2] not in (1, 3, 4) and array.shape[0] in (1, 3, 4):
        raise InputError(f"{name}: channels come first; use array.transpose(1, 2, 0)")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise InputError(f"{name}: must be (h, w), (h, w, 3) or (h, w, 4)")
    check_size((array.shape[1], array.shape[0]), name=name, max_pixels=max_pixels)
    return array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array


def _find(target: str, recursive: bool, suffixes: Suffixes) -> list[tuple[Path, Path]]:
    path = Path(target)
    # A dangling link is a file: reading it says what is wrong. lexists also survives a NUL.
    if target and os.path.isdir(path):
        files = sorted(_walk(path, recursive, suffixes), key=_natural)
        if not files:
            looked = " ".join(suffixes)
            raise InputError(f"no images under {one_line(path)} (looked for {looked})")
        return [(file, _stem(file.relative_to(path))) for file in files]
    if target and os.path.lexists(path):
        return [(path, _stem(Path(path.name)))]
    if not glob.has_magic(target):
        raise InputError(f"no such file: {one_line(target)}")
    base = _fixed_part(path)
    files = sorted(_match(path, base, suffixes), key=_natural)
    if not files:
        looked = " ".join(suffixes)
        raise InputError(f"no images match {one_line(target)} (looked for {looked})")
    return [(file, _stem(Path(os.path.relpath(file, base)))) for file in files]


def _match(pattern: Path, base: Path, suffixes: Suffixes) -> Iterator[Path]:
    wanted = pattern.parts[len(base.parts) :]
    if "**" not in wanted:
        # A folder that exists may have brackets in its name.
        matches = map(Path, glob.iglob(os.path.join(glob.escape(str(base)), *wanted)))
        yield from (match for match in matches if _counts(match, suffixes) and not match.is_dir())
        return
    # glob's own `**` follows links without end where two of them lead back to their folder.
    for file in _walk(base, True, suffixes):
        if fits_pattern(file.parts[len(base.parts) :], wanted):
            yield file


def fits_pattern(parts: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
    """Say whether a path fits a pattern, part by part; `**` is any number of folders."""
    if not wanted:
        return not parts
    if wanted[0] == "**":
        return fits_pattern(parts, wanted[1:]) or (bool(parts) and fits_pattern(parts[1:], wanted))
    return bool(parts) and fnmatch(parts[0], wanted[0]) and fits_pattern(parts[1:], wanted[1:])


def _walk(folder: Path, recursive: bool, suffixes: Suffixes) -> Iterator[Path]:
    """Yield the pictures below a folder; links to folders wait until the real ones are done.

    A folder is entered once, whatever links lead to it, and a link that leads up is left out.
    """
    pending = [folder]
    visited: set[str] = set()
    root = os.path.realpath(folder)
    while pending:
        for top, folders, names in os.walk(pending.pop(0), onerror=_warn_unreadable):
            real = os.path.realpath(top)
            if real in visited:
                folders.clear()
                continue
            visited.add(real)
            here = Path(top)
            yield from (here / name for name in names if _counts(here / name, suffixes))
            folders[:] = [name for name in sorted(folders) if recursive and name[0] != "."]
            # os.walk lists links to folders but does not enter them.
            links = (here / name for name in folders if (here / name).is_symlink())
            pending.extend(link for link in links if not _is_above(os.path.realpath(link), root))


def _is_above(folder: str, other: str) -> bool:
    return Path(other).is_relative_to(folder)


def _warn_unreadable(error: OSError) -> None:
    logger.warning("%s: left out: %s", one_line(error.filename or "a folder"), error.strerror)


def _counts(path: Path, suffixes: Suffixes) -> bool:
    return not path.name.startswith(".") and path.suffix.lower() in suffixes


def _fixed_part(pattern: Path) -> Path:
    """Return the folder in which a pattern looks; brackets in names that exist are no wildcards."""
    base = Path()
    for part in pattern.parts[:-1]:
        if glob.has_magic(part) and not os.path.lexists(base / part):
            break
        base /= part
    return base


def _stem(relative: Path) -> Path:
    """Drop the suffix; a path that would climb out of the output folder keeps its name only."""
    if ".." in relative.parts or relative.is_absolute():
        relative = Path(relative.name)
    bare = relative.name.removesuffix(relative.suffix)
    return relative.with_name(bare) if bare.strip(".") else relative


def _natural(path: Path) -> list[list[tuple[int, int, str]]]:
    """Sort numbers inside names by value: shot2 before shot10."""
    return [
        [
            (0, int(piece), piece) if piece.isdigit() and piece.isascii() else (1, 0, piece)
            for piece in re.split(r"([0-9]+)", part)
        ]
        for part in path.parts
    ]


def _file_system_key(name: str) -> str:
    name = os.path.normpath(name)
    if sys.platform in ("darwin", "win32"):
        return unicodedata.normalize("NFC", name).casefold()
    return name
