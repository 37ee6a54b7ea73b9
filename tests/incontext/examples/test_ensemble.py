import numpy as np
import pytest

from incontext.examples.context import LoadedExample
from incontext.examples.ensemble import tile_examples


def plain(value: int) -> LoadedExample:
    image = np.full((10, 12, 3), value, np.uint8)
    return LoadedExample(image, np.full((10, 12), value, np.int32))


@pytest.mark.parametrize(("count", "n"), [(1, 1), (2, 2), (4, 2), (5, 3), (9, 3)])
def test_examples_fill_a_square_grid_in_reading_order(count: int, n: int) -> None:
    tiled = tile_examples([plain(value) for value in range(1, count + 1)], size=24)
    assert tiled.labels.shape == tiled.image.shape[:2] == (24, 24)
    centres = (np.arange(n) * 24 // n) + 12 // n
    seen = tiled.labels[np.ix_(centres, centres)].reshape(-1)
    np.testing.assert_array_equal(seen, np.arange(n * n) % count + 1)
    np.testing.assert_array_equal(tiled.image[..., 0], tiled.labels)
