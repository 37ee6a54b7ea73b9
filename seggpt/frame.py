"""The mapping between an image and what a promptable model sees: sizes, coordinates, masks."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Float32

from seggpt.resize import bilinear_matrix


@dataclass(frozen=True)
class Frame:
    """How a picture lies in what a model sees; all sizes are (height, width) in pixels.

    Attributes:
        size: Of the picture.
        inner: What it is resized to; it lies in the upper left corner.
        outer: What the model sees; beyond `inner` it is empty.
        centred: Whether a whole (x, y) is the centre of a pixel. SAM's users know it as a corner,
            which is the same up to half a pixel of what the model sees.
    """

    size: tuple[int, int]
    inner: tuple[int, int]
    outer: tuple[int, int]
    centred: bool = False

    @classmethod
    def in_square(cls, size: tuple[int, int], side: int, *, squeeze: bool = False) -> "Frame":
        """Let the longer side fill a square (segment_anything/utils/transforms.py), or both."""
        if squeeze:
            return cls(size, (side, side), (side, side))
        scale = side / max(size)
        height, width = (max(1, int(extent * scale + 0.5)) for extent in size)
        return cls(size, (height, width), (side, side))

    @classmethod
    def filled(cls, size: tuple[int, int], outer: tuple[int, int]) -> "Frame":
        """Let the picture fill all that the model sees."""
        return cls(size, outer, outer, centred=True)

    def place(self, xy: Float[np.ndarray, "*b 2"]) -> Float32[np.ndarray, "*b 2"]:
        """Bring (x, y) in pixels of the picture to pixels of what the model sees."""
        (height, width), (inner_height, inner_width) = self.size, self.inner
        return (xy * (inner_width / width, inner_height / height)).astype(np.float32)

    def place_pixels(self, xy: Float[np.ndarray, "*b 2"]) -> Float32[np.ndarray, "*b 2"]:
        """Bring whole pixels (x, y) to what the model sees."""
        return self.place(xy + 0.5) - np.float32(0.5) if self.centred else self.place(xy)

    def upsampling(
        self, mask_shape: tuple[int, int]
    ) -> tuple[Float32[np.ndarray, "h m"], Float32[np.ndarray, "w n"]]:
        """Return the matrices that bring a mask of `outer` to the picture's rows and columns.

        A mask is first resized to `outer`, cut to the picture, then resized to its size (`Sam.
        postprocess_masks`). Both steps are linear in rows and in columns, so one matrix does both.
        """
        rows, cols = (
            _upsampling(*axis)
            for axis in zip(mask_shape, self.outer, self.inner, self.size, strict=True)
        )
        return rows, cols


@lru_cache(maxsize=4)  # of the last pictures, for one click after the other
def _upsampling(
    mask_extent: int, outer: int, inner: int, extent: int
) -> Float32[np.ndarray, "extent mask_extent"]:
    """Return the matrix of one axis of `Frame.upsampling`; it is read-only."""
    to_outer = bilinear_matrix(mask_extent, outer)
    matrix = (bilinear_matrix(inner, extent) @ to_outer[:inner]).astype(np.float32)
    matrix.flags.writeable = False
    return matrix
