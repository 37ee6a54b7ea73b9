import numpy as np
import pytest

from incontext.examples.context import LoadedExample
from incontext.examples.squares import labels_to_square, tile_examples, to_square


def test_pictures_become_squares_in_zero_to_one() -> None:
    image = np.zeros((40, 20, 3), np.uint8)
    image[:20] = 255
    square = to_square(image, 8)
    assert square.shape == (8, 8, 3)
    assert square[0, 0, 0] == 1
    assert square[-1, -1, 0] == 0


def test_labels_are_never_mixed() -> None:
    labels = np.random.default_rng(0).choice([0, 3, 70_000], (50, 31)).astype(np.int32)
    square = labels_to_square(labels, 16)
    assert set(np.unique(square)) <= {0, 3, 70_000}
    np.testing.assert_array_equal(labels_to_square(np.eye(6, dtype=np.int32), 6), np.eye(6))


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
