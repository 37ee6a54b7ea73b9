"""From any picture to the square that a promptable model sees, and back."""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from jaxtyping import Float, Float32


@dataclass(frozen=True)
class Frame:
    """How a picture of `size` (height, width) lies in a square of `side` pixels.

    Its longer side fills the square, it lies in the upper left corner, and the rest is empty
    (segment_anything/utils/transforms.py). With `squeeze` it fills the square, whatever its aspect;
    `corners` says that points are known by their pixels' corners even then.
    """

    size: tuple[int, int]
    side: int
    squeeze: bool = False
    corners: bool = False

    @cached_property
    def inner(self) -> tuple[int, int]:
        """The height and width that the picture is resized to."""
        if self.squeeze:
            return self.side, self.side
        scale = self.side / max(self.size)
        height, width = (max(1, int(extent * scale + 0.5)) for extent in self.size)
        return height, width

    def place(self, xy: Float[np.ndarray, "*b 2"]) -> Float32[np.ndarray, "*b 2"]:
        """Bring (x, y) in pixels of the picture to pixels of the square."""
        (height, width), (inner_height, inner_width) = self.size, self.inner
        return (xy * (inner_width / width, inner_height / height)).astype(np.float32)

    def place_pixels(self, xy: Float[np.ndarray, "*b 2"]) -> Float32[np.ndarray, "*b 2"]:
        """Bring whole pixels (x, y) to the square; what is squeezed keeps their centres.

        SAM's users know them as corners, which is the same up to half a pixel of the square.
        """
        if self.corners or not self.squeeze:
            return self.place(xy)
        (height, width), (inner_height, inner_width) = self.size, self.inner
        scale = np.array([inner_width / width, inner_height / height])
        return ((xy + 0.5) * scale - 0.5).astype(np.float32)

    def upsampling(
        self, mask_size: int
    ) -> tuple[Float32[np.ndarray, "h m"], Float32[np.ndarray, "w m"]]:
        """Return the matrices that bring a mask of the square to the picture's rows and columns.

        A mask is first resized to the square, cut to the picture, then resized to its size (`Sam.
        postprocess_masks`). Both steps are linear in rows and in columns, so one matrix does both.
        """
        rows, cols = (
            _upsampling(mask_size, self.side, inner, extent)
            for inner, extent in zip(self.inner, self.size, strict=True)
        )
        return rows, cols


@lru_cache(maxsize=4)  # of the last pictures, for one click after the other
def _upsampling(
    mask_size: int, side: int, inner: int, extent: int
) -> Float32[np.ndarray, "extent mask_size"]:
    """Return the matrix of one axis of `Frame.upsampling`; it is read-only."""
    to_square = bilinear_matrix(mask_size, side)
    matrix = (bilinear_matrix(inner, extent) @ to_square[:inner]).astype(np.float32)
    matrix.flags.writeable = False
    return matrix


def bilinear_matrix(old: int, new: int) -> Float[np.ndarray, "new old"]:
    """Return the matrix that resizes an axis as torch's bilinear `interpolate` does.

    Half-pixel centres, and two neighbours even where the axis shrinks: nothing is smoothed.
    """
    source = np.maximum((np.arange(new) + 0.5) * old / new - 0.5, 0.0)
    left = np.minimum(source.astype(int), old - 1)
    right = np.minimum(left + 1, old - 1)
    matrix = np.zeros((new, old))
    np.add.at(matrix, (np.arange(new), left), 1.0 - (source - left))
    np.add.at(matrix, (np.arange(new), right), source - left)
    return matrix
