"""Upsampling of many coarse masks to the size of their image, with exact stability."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int, UInt8

from seggpt.frame import Frame

_VALUES = 1 << 24  # pixels at a time: as many bytes
_MOST = 16  # masks at a time
_STEP_PX = 256  # sizes are rounded up to it, so that few programs serve all pictures
_STEP_PATCHES = 4  # likewise


class Enlarger:
    """Brings logits of what a model sees to the picture that fills it, or part of it.

    `cell` and `patch` are the sides of a patch in pixels of a mask and of what the model sees.

    Attributes:
        shape: Rows and columns of patches that the picture depends on.
        inner: (height, width) of the picture in pixels of a coarse mask.
    """

    def __init__(self, frame: Frame, *, cell: int, patch: int) -> None:
        self._size = frame.size
        grid = frame.outer[0] // patch, frame.outer[1] // patch
        rows, cols = frame.upsampling((cell * grid[0], cell * grid[1]))
        self.shape = _patches(rows, grid[0], cell), _patches(cols, grid[1], cell)
        self.inner = np.ceil(np.asarray(frame.inner) * cell / patch).astype(int)
        # Rounded up: what lies beyond the picture is cut off.
        rows, cols = (
            np.pad(a[:, : cell * count], ((0, -len(a) % _STEP_PX), (0, 0)))
            for a, count in zip((rows, cols), self.shape, strict=True)
        )
        self._rows = tuple(map(jnp.asarray, _taps(rows)))
        self._cols = jnp.asarray(cols)
        fits = max(1, _VALUES // (len(rows) * len(cols)))
        self._chunk = min(_MOST, 1 << (fits.bit_length() - 1))

    def masks(
        self,
        low: Float[Array, "p c h w"],
        prompts: Int[np.ndarray, " k"],
        which: Int[np.ndarray, " k"],
        *,
        offset: float,
    ) -> Iterator[tuple[Bool[np.ndarray, "h w"], float]]:
        """Yield the masks at `prompts` and `which` of `low`, each with its stability."""
        height, width = self._size
        for start in range(0, len(prompts), self._chunk):
            # A short last chunk is filled up, so that one compiled program serves all.
            part = slice(start, start + self._chunk)
            picked = [np.resize(a[part], self._chunk) for a in (prompts, which)]
            levels = np.asarray(_levels(low, *picked, *self._rows, self._cols, offset))
            for level in levels[: len(prompts) - start, :height, :width]:
                around = np.count_nonzero(level)
                yield level >= 2, np.count_nonzero(level == 3) / around if around else 0.0


def _patches(matrix: Float32[np.ndarray, "n m"], grid: int, cell: int) -> int:
    """Return how many patches a resizing matrix reads, rounded up."""
    pixels = int(np.flatnonzero(matrix.any(axis=0))[-1]) + 1
    return min(grid, -(-pixels // (cell * _STEP_PATCHES)) * _STEP_PATCHES)


def _taps(
    matrix: Float32[np.ndarray, "n m"],
) -> tuple[Int[np.ndarray, " n"], Float32[np.ndarray, "n taps"]]:
    """Return a resizing matrix as the first of the neighbours that each row reads, and weights."""
    first = (matrix != 0).argmax(axis=1)
    last = matrix.shape[1] - 1 - (matrix[:, ::-1] != 0).argmax(axis=1)
    last[~matrix.any(axis=1)] = 0
    # Two bilinear steps read three where patches have four pixels or more, and seldom only two.
    count = min(max(3, int((last - first).max()) + 1), matrix.shape[1])
    first = np.minimum(first, matrix.shape[1] - count)
    return first, np.take_along_axis(matrix, first[:, None] + np.arange(count), axis=1)


@jax.jit
def _levels(
    low: Float[Array, "p c h w"],
    prompts: Int[Array, " k"],
    which: Int[Array, " k"],
    first: Int[Array, " height"],
    weights: Float[Array, "height taps"],
    cols: Float[Array, "width w"],
    offset: Float[Array, ""] | float,
) -> UInt8[Array, "k height width"]:
    """Tell for each pixel how many of -offset, 0 and offset its logit exceeds.

    One mask at a time, which stays in a processor's cache; a byte a pixel is all that is written.
    """

    def enlarge(mask: Float[Array, "h w"]) -> UInt8[Array, "height width"]:
        wide = mask @ cols.T
        logits = jnp.zeros((len(first), len(cols)))
        for tap in range(weights.shape[1]):
            logits += wide[first + tap] * weights[:, tap, None]
        levels = jnp.zeros(logits.shape, jnp.uint8)
        for edge in (-offset, 0.0, offset):
            levels += (logits > edge).astype(jnp.uint8)
        return levels

    return jax.lax.map(enlarge, low[prompts, which])
