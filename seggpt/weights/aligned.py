"""Arrays that JAX takes over as they are on a CPU: others it copies, and both stay in memory."""

import math

import numpy as np

ALIGNMENT = 64  # bytes; what jaxlib 0.10 asks of a buffer that it shares with numpy


def empty_aligned(shape: tuple[int, ...], dtype: np.dtype | type) -> np.ndarray:
    """Return an array of any content whose first byte is aligned."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    block = np.empty(size + ALIGNMENT, np.uint8)
    start = -block.ctypes.data % ALIGNMENT
    return block[start : start + size].view(dtype).reshape(shape)


def copy_aligned(array: np.ndarray, dtype: np.dtype | type) -> np.ndarray:
    """Return an aligned copy in C order."""
    copied = empty_aligned(array.shape, dtype)
    copied[...] = array
    return copied
