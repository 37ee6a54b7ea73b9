"""Removal of small holes and islands of a mask."""

import numpy as np
import scipy.ndimage
from jaxtyping import Bool

_EIGHT = np.ones((3, 3), bool)  # pixels that touch by a corner belong together


def fill_holes(
    mask: Bool[np.ndarray, "h w"], *, min_area: int
) -> tuple[Bool[np.ndarray, "h w"], bool]:
    """Fill background regions of fewer pixels; also tell whether there were any."""
    regions, areas = _regions(~mask)
    small = areas < min_area
    return mask | np.append(False, small)[regions], bool(small.any())


def drop_islands(
    mask: Bool[np.ndarray, "h w"], *, min_area: int
) -> tuple[Bool[np.ndarray, "h w"], bool]:
    """Drop regions of fewer pixels, but for the largest; also tell whether there were any."""
    regions, areas = _regions(mask)
    small = areas < min_area
    if not small.any():
        return mask, False
    if small.all():
        small[areas.argmax()] = False
    return np.append(False, ~small)[regions], True


def _regions(mask: Bool[np.ndarray, "h w"]) -> tuple[np.ndarray, np.ndarray]:
    regions = np.empty(mask.shape, np.int32)
    count = scipy.ndimage.label(mask, structure=_EIGHT, output=regions)
    return regions, np.bincount(regions.reshape(-1), minlength=int(count) + 1)[1:]  # pyright: ignore[reportArgumentType] (with `output`, only the count comes back)
