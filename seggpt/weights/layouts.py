"""Torch's array layouts to ours, one small function each."""

import numpy as np

from seggpt.weights.aligned import copy_aligned, empty_aligned
from seggpt.weights.names import Name


def convert(array: np.ndarray, *, name: Name) -> np.ndarray:
    """Return an array in our layout: float32, contiguous, aligned, and no view of the one given.

    A linear weight (out, in) becomes (in, out), a convolution (out, in, h, w) becomes (h, w, in,
    out). Patches are read as (row, column, channel). Row 0 of the position table belongs to a
    class token that the published forward pass never uses; a lattice has none. A transposed
    convolution (in, out, h, w) becomes (in, h * w * out): its pixels do not overlap.
    """
    match name.layout:
        case "token":
            array = array.reshape(-1)
        case "position":
            side = round((array.shape[1] - 1) ** 0.5)
            array = array[0, 1:].reshape(side, side, -1)
        case "lattice":
            array = array[0]
        case "upscale":
            return _copied(array.transpose(0, 2, 3, 1)).reshape(array.shape[0], -1)
        case "linear":
            return _transposed(array)
        case "pointwise":
            array = array[:, :, 0, 0].T
        case "patch":
            out = array.shape[0]
            return _copied(array.transpose(2, 3, 1, 0)).reshape(-1, out)
        case "conv":
            array = array.transpose(2, 3, 1, 0)
    return _copied(array)


def _copied(array: np.ndarray) -> np.ndarray:
    return copy_aligned(array, np.float32)


def _transposed(array: np.ndarray) -> np.ndarray:
    """Transpose a matrix by tiles, which stay in the processor's cache.

    A plain copy of the transpose takes 2 to 3 times as long at the sizes of a ViT-L.
    """
    rows, columns = array.shape
    result = empty_aligned((columns, rows), np.float32)
    tile = 256
    for row in range(0, rows, tile):
        for column in range(0, columns, tile):
            block = array[row : row + tile, column : column + tile]
            result[column : column + tile, row : row + tile] = block.T
    return result
