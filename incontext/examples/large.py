"""Pictures that no memory holds: found in a row of tiles at a time, and blended."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Float32, UInt8

from incontext.examples.tiles import resize_channels, spread
from incontext.files.regions import Regions
from incontext.result import rows_at_a_time

Find = Callable[[Sequence[UInt8[np.ndarray, "_ _ 3"]]], Iterable[Float32[np.ndarray, "k _ _"]]]


def count_tiles(picture: Regions, side: int) -> int:
    """Return how many tiles of a side cover a picture."""
    height, width = picture.shape
    return len(spread(height, side)) * len(spread(width, side))


def find_in_bands(
    picture: Regions, find: Find, *, channels: int, side: int
) -> Iterator[Float32[np.ndarray, "k rows w"]]:
    """Yield the probabilities of a picture from its top down, a few rows at a time.

    A band is overwritten when the next one is asked for.

    Args:
        picture: Open.
        find: Returns the probabilities of tiles, on grids of any size.
        channels: How many probabilities a pixel has.
        side: Pixels of a tile along a side; of the whole picture where that is less.
    """
    height, width = picture.shape
    rows, columns = spread(height, side), spread(width, side)
    total = np.zeros((channels, min(side, height), width), np.float32)
    step = rows_at_a_time(channels, width)
    for number, (span, down) in enumerate(rows):
        band = picture.read(span.start, span.stop)
        tiles = find([band[:, column] for column, _ in columns])
        for (column, across), tile in zip(columns, tiles, strict=True):
            weights = np.outer(down, across)
            total[:, :, column] += weights * resize_channels(tile, weights.shape)
        is_last = number + 1 == len(rows)
        final = (span.stop if is_last else rows[number + 1][0].start) - span.start
        for top in range(0, final, step):
            yield total[:, top : min(top + step, final)]
        kept = total.shape[1] - final
        total[:, :kept] = total[:, final:].copy()
        total[:, kept:] = 0
