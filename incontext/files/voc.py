"""The colours of PASCAL VOC's label files."""

import numpy as np
from jaxtyping import UInt8


def _make_voc_palette() -> UInt8[np.ndarray, "256 3"]:
    """Interleave the bits of the index: bit 3i goes to red, 3i + 1 to green, 3i + 2 to blue."""
    index = np.arange(256)[:, None]
    palette = np.zeros((256, 3), np.uint8)
    for i in range(8):
        bits = index >> (3 * i + np.arange(3)) & 1
        palette |= (bits << (7 - i)).astype(np.uint8)
    palette.flags.writeable = False
    return palette


VOC_PALETTE = _make_voc_palette()
"""The colours of the PASCAL VOC and DAVIS label files (VOCdevkit's VOClabelcolormap)."""
