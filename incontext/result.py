"""The result of one image: probabilities on a coarse grid, and all that is made of them.

A `Result` keeps the coarse grid and computes full-size arrays when asked, a band of rows at a time:
a 24-megapixel picture needs its label map and little else.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from os import PathLike
from pathlib import Path, PurePath

import numpy as np
from jaxtyping import Bool, Float32, Int32, UInt8

from incontext.files.mask_rules import Color
from incontext.outputs.formats import (
    NEED_IMAGE,
    OUTPUT_SUFFIXES,
    Drawing,
    check_labels,
    write_output,
)
from seggpt.errors import InputError, one_line

# Full-size float values held at a time while a result is computed: 16 MiB.
_BAND_VALUES = 1 << 22


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Result:
    """The segmentation of one picture.

    With one label, a pixel has the label where its probability p exceeds `threshold`. With more,
    the most probable of background and labels wins, where the background's probability counts
    `threshold / (1 - threshold)` fold; ties go to the background, then to the earlier label. Both
    are one rule, and 0.5 is the plain argmax.

    Attributes:
        probabilities_lowres: Probabilities of background and labels on a coarse grid; each pixel
            sums to 1.
        labels: The label of each further channel of `probabilities_lowres`, positive and distinct.
        size: (height, width) of the upright picture.
        image: The picture, for overlays and cutouts.
        names: What labels are called.
        colors: RGB of labels that shall not have VOC's colours.
        source: The file that the picture came from.
        threshold: 0..1.
    """

    probabilities_lowres: Float32[np.ndarray, "k gh gw"]
    labels: tuple[int, ...]
    size: tuple[int, int]
    image: UInt8[np.ndarray, "h w 3"] | None = None
    names: Mapping[int, str] | None = None
    colors: Mapping[int, Color] | None = None
    source: str | None = None
    threshold: float = 0.5

    def __post_init__(self) -> None:
        channels = len(self.probabilities_lowres)
        if channels != len(self.labels) + 1:
            raise ValueError(f"{channels} channels for background and {len(self.labels)} labels")
        if len(set(self.labels)) != len(self.labels) or min(self.labels, default=1) < 1:
            raise ValueError(f"labels {self.labels} must be positive and distinct")
        if self.image is not None and self.image.shape[:2] != self.size:
            raise ValueError(f"image {self.image.shape} does not have the size {self.size}")
        if not 0 <= self.threshold <= 1:
            raise InputError(f"threshold {self.threshold} is not in 0..1")

    @classmethod
    def from_logits(
        cls,
        logits: Float32[np.ndarray, "labels h w"],
        labels: tuple[int, ...],
        image: UInt8[np.ndarray, "h w 3"],
    ) -> "Result":
        """Give each pixel the label with the highest logit, if that is above 0.

        The probability of the background is what the strongest label leaves, then all are scaled
        to sum to 1.
        """
        found = 0.5 * (1.0 + np.tanh(0.5 * logits))
        both = np.concatenate([1.0 - found.max(axis=0, keepdims=True), found])
        return cls(
            probabilities_lowres=(both / both.sum(axis=0)).astype(np.float32),
            labels=labels,
            size=image.shape[:2],
            image=image,
        )

    def __repr__(self) -> str:
        height, width = self.size
        return f"Result({width}x{height}, labels={self.labels}, source={self.source!r})"

    @property
    def label_map(self) -> Int32[np.ndarray, "h w"]:
        """The label of every pixel, 0 for background; computed once, read-only."""
        return self._solution[0]

    @property
    def scores(self) -> dict[int, float]:
        """The mean probability of each label inside its region; 0.0 where it has none."""
        return dict(self._solution[1])

    @property
    def masks(self) -> Bool[np.ndarray, "labels h w"]:
        """One mask for each label, in the order of `labels`."""
        label_map = self.label_map
        masks = np.empty((len(self.labels), *self.size), bool)
        for mask, label in zip(masks, self.labels, strict=True):
            np.equal(label_map, label, out=mask)
        return masks

    def probabilities(self) -> Float32[np.ndarray, "k h w"]:
        """Compute the probabilities of background and labels in the size of the picture.

        The coarse grid is interpolated bilinearly with half-pixel centres. The array takes
        4 * (labels + 1) bytes a pixel and is made anew by each call.
        """
        full = np.empty((len(self.labels) + 1, *self.size), np.float32)
        for rows, band in self._bands():
            full[:, rows] = band
        return full

    def save(
        self,
        out_dir: str | PathLike[str],
        formats: str | Sequence[str] = ("mask",),
        *,
        name: str | PathLike[str] | None = None,
        instances: bool = False,
    ) -> list[Path]:
        """Write files of the result into a folder, and return their paths.

        | format | file | |
        |---|---|---|
        | mask | `NAME.png` | 8-bit palette PNG whose values are the labels |
        | labels | `NAME.labels.png` | grey PNG of the labels, 8 bits, or 16 where they need it |
        | binary | `NAME.binary/LABEL.png` | 0 and 255, a file for each label |
        | overlay | `NAME.overlay.png` | the picture with tinted regions |
        | cutout | `NAME.cutout.png` | the picture with transparent background |
        | probabilities | `NAME.npz` | `probabilities` (labels + 1, h, w) in float16, and `labels` |
        | labelme | `NAME.json` | polygons |
        | yolo | `NAME.txt` | polygons in 0..1; the class is the label's place, from 0 |
        | geojson | `NAME.geojson` | polygons with holes, in pixels, as QuPath reads them |

        Metadata of the picture (EXIF, GPS) is never copied, an existing file is replaced, and a
        file is never seen half-written.

        Args:
            out_dir: Made if absent.
            formats: One or more of these.
            name: Path below `out_dir` without suffix; the stem of `source` by default. A result
                without a source file is `result`, or `result-2`, ... where that is taken.
            instances: Count connected components (8-connectivity) as things of their own: `labels`
                numbers them, `labelme` and `geojson` have an entry for each.

        Raises:
            InputError: The format or the name is impossible, a label does not fit, the result has
                no picture to draw on, or a file cannot be written.
        """
        formats = (formats,) if isinstance(formats, str) else formats
        self._check_formats(formats)
        stem = self._stem(name)
        if name is None and self._file is None:
            stem = _free_stem(Path(out_dir), stem, formats)
        drawing = Drawing(
            label_map=self.label_map,
            labels=self.labels,
            image=self.image,
            source=self.source,
            names=self.names or {},
            colors=self.colors,
            probabilities=self.probabilities,
            instances=instances,
        )
        paths = [Path(out_dir, stem.parent, stem.name + OUTPUT_SUFFIXES[o]) for o in formats]
        for output, path in zip(formats, paths, strict=True):
            write_output(drawing, output, path)
        return paths

    @property
    def _file(self) -> str | None:
        # "<bytes>" and the like are no files.
        return None if (self.source or "<").startswith("<") else self.source

    def _stem(self, name: str | PathLike[str] | None) -> PurePath:
        if name is None:
            name = PurePath(self._file or "result").stem
        stem = PurePath(name)
        if stem.is_absolute() or ".." in stem.parts or not stem.name:
            raise InputError(f"name {one_line(name)!r} does not stay below the output folder")
        return stem

    def _check_formats(self, formats: Sequence[str]) -> None:
        for output in formats:
            if output not in OUTPUT_SUFFIXES:
                known = ", ".join(OUTPUT_SUFFIXES)
                raise InputError(f"unknown format {output!r}; choose from {known}")
            if output in NEED_IMAGE and self.image is None:
                raise InputError(f"{output} needs the picture; make the Result with image=...")
            check_labels(self.labels, output)

    @cached_property
    def _solution(self) -> tuple[Int32[np.ndarray, "h w"], Mapping[int, float]]:
        """Decide every pixel and score every label in one pass."""
        label_map = np.empty(self.size, np.int32)
        decider = Decider(self.labels, self.threshold)
        for rows, band in self._bands():
            label_map[rows] = decider.decide(band)
        label_map.flags.writeable = False
        return label_map, decider.scores

    def _bands(self) -> Iterator[tuple[slice, Float32[np.ndarray, "k h w"]]]:
        """Yield the full-size probabilities in bands of rows."""
        height, width = self.size
        channels, *grid = self.probabilities_lowres.shape
        step = rows_at_a_time(channels, width)
        bands = [slice(top, min(top + step, height)) for top in range(0, height, step)]
        if grid == [height, width]:
            yield from ((rows, self.probabilities_lowres[:, rows]) for rows in bands)
            return
        down = _bilinear_weights(grid[0], height)
        across = _bilinear_weights(grid[1], width).T
        for rows in bands:
            yield rows, down[rows] @ self.probabilities_lowres @ across


class Decider:
    """Decides pixels and scores labels as `Result` does, a band of rows after the other."""

    def __init__(self, labels: tuple[int, ...], threshold: float) -> None:
        self.labels, self.threshold = labels, threshold
        self._values = np.array((0, *labels), np.int32)
        self._sums, self._counts = np.zeros(len(self._values)), np.zeros(len(self._values))

    def decide(self, band: Float32[np.ndarray, "k h w"]) -> Int32[np.ndarray, "h w"]:
        """Return the label of each pixel."""
        winner = self._win(band)
        won = np.take_along_axis(band, winner[None], axis=0)
        self._sums += np.bincount(winner.ravel(), won.ravel(), minlength=len(self._values))
        self._counts += np.bincount(winner.ravel(), minlength=len(self._values))
        return self._values[winner]

    @property
    def scores(self) -> dict[int, float]:
        """The mean probability of each label inside its region, of all bands so far."""
        means = (self._sums / np.maximum(self._counts, 1))[1:]
        return {
            label: min(float(mean), 1.0) for label, mean in zip(self.labels, means, strict=True)
        }

    def _win(self, band: Float32[np.ndarray, "k h w"]) -> np.ndarray:
        if len(self.labels) == 1:
            return (band[1] > self.threshold).astype(np.intp)
        weighted = band * np.float32(1 - self.threshold)
        weighted[0] = band[0] * np.float32(self.threshold)
        return weighted.argmax(axis=0)


def rows_at_a_time(channels: int, width: int) -> int:
    """Return how many rows of full-size probabilities are held at a time."""
    return max(1, _BAND_VALUES // (channels * width))


def _free_stem(folder: Path, stem: PurePath, formats: Sequence[str]) -> PurePath:
    """Number a name that has been taken, as by the result before in a loop over arrays."""
    suffixes = [OUTPUT_SUFFIXES[output] for output in formats]
    for number in count(1):
        name = stem.name if number == 1 else f"{stem.name}-{number}"
        if not any((folder / stem.parent / (name + suffix)).exists() for suffix in suffixes):
            return stem.with_name(name)
    raise AssertionError("numbers end")


def _bilinear_weights(size_in: int, size_out: int) -> Float32[np.ndarray, "out in"]:
    """Return the matrix that resizes one axis, with half-pixel centres and repeated ends.

    Where the axis shrinks, the triangle widens so that no input is skipped, as in jax.image.resize.
    """
    scale = size_in / size_out
    centers = (np.arange(size_out) + 0.5) * scale
    distance = abs(np.arange(size_in) + 0.5 - centers[:, None]) / max(scale, 1.0)
    weights = np.maximum(0.0, 1.0 - distance)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
