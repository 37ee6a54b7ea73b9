"""Masks as run lengths: column by column, as COCO counts them, beginning with background."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64

from seggpt.errors import InputError

_MOST_BITS = 40  # of a count


@dataclass(frozen=True, eq=False)
class RunLengths:
    """A mask of `size` (height, width); `counts` are runs of background and mask in turn."""

    size: tuple[int, int]
    counts: Int64[np.ndarray, " runs"]

    @property
    def area(self) -> int:
        """Number of pixels in the mask."""
        return int(self.counts[1::2].sum())

    def to_dict(self) -> dict[str, object]:
        """Return what SAM and COCO's tools call uncompressed run lengths."""
        return {"size": list(self.size), "counts": self.counts.tolist()}

    def to_coco(self) -> dict[str, object]:
        """Return COCO's compressed run lengths, with counts as text that JSON can hold."""
        return {"size": list(self.size), "counts": _compress(self.counts.tolist())}


def encode(
    mask: Bool[np.ndarray, "h w"],
    *,
    origin: tuple[int, int] = (0, 0),
    size: tuple[int, int] | None = None,
) -> RunLengths:
    """Count the runs of a mask, or of one that lies at `origin` (x, y) in a picture of `size`.

    Only the rectangle that the mask fills is looked at.
    """
    height, width = size or mask.shape
    x0, y0, x1, y1 = bounding_box(mask)
    part = mask[y0 : y1 + 1, x0 : x1 + 1]
    columns = np.zeros((part.shape[1], height), bool)
    top = origin[1] + y0
    columns[:, top : top + part.shape[0]] = part.T
    flat = np.concatenate([[False], columns.reshape(-1), [False]])
    borders = np.flatnonzero(flat[1:] != flat[:-1]) + (origin[0] + x0) * height
    ends = np.concatenate([[0], borders, [height * width]])
    counts = np.diff(ends)
    # A mask that fills the last pixel ends with itself, not with a run of nothing.
    counts = counts[:-1] if counts[-1] == 0 and len(counts) > 1 else counts
    return RunLengths((height, width), counts.astype(np.int64))


def decode(runs: RunLengths) -> Bool[np.ndarray, "h w"]:
    """Undo `encode`.

    Raises:
        InputError: The runs do not fill the picture.
    """
    height, width = runs.size
    if runs.counts.min(initial=0) < 0 or runs.counts.sum() != height * width:
        raise InputError(
            f"run lengths of {int(runs.counts.sum())} pixels for a mask of {width}x{height}"
        )
    values = np.arange(len(runs.counts)) % 2 == 1
    return np.repeat(values, runs.counts).reshape(width, height).T


def from_coco(size: tuple[int, int], text: str) -> RunLengths:
    """Read COCO's compressed run lengths of a mask of `size` (height, width).

    Raises:
        InputError: The text is none, or a run is longer than the mask.
    """
    counts = _expand(text)
    height, width = size
    for count in counts:
        if not 0 <= count <= height * width:
            raise InputError(f"a run of {count} pixels in a mask of {width}x{height}")
    return RunLengths(size, np.array(counts, np.int64))


def bounding_box(mask: Bool[np.ndarray, "h w"]) -> tuple[int, int, int, int]:
    """Return the first and last column and row with a pixel: x0, y0, x1, y1; zeros if none has."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(columns):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def _compress(counts: list[int]) -> str:
    """Spell counts as COCO's tools do (maskApi.c, `rleToString`).

    From the fourth on a count is its difference from the one before the last. Five bits a
    character, lowest first; the sixth bit says that more follow, and 48 is added.
    """
    letters: list[str] = []
    for index, count in enumerate(counts):
        value = count - counts[index - 2] if index > 2 else count
        more = True
        while more:
            bits = value & 31
            value >>= 5
            more = value != (-1 if bits & 16 else 0)
            letters.append(chr(48 + bits + 32 * more))
    return "".join(letters)


def _expand(text: str) -> list[int]:
    """Undo `_compress`.

    Raises:
        InputError: The text ends inside a number, or has a letter or a number that cannot be.
    """
    counts: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > _MOST_BITS:
            raise InputError(f"no compressed run lengths ({letter!r} at {len(counts) + 1})")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        raise InputError("compressed run lengths end inside a number")
    return counts
