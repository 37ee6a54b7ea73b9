import numpy as np

from incontext.examples.squeeze import squeeze_image, squeeze_labels


def test_pictures_become_squares_in_zero_to_one() -> None:
    image = np.zeros((40, 20, 3), np.uint8)
    image[:20] = 255
    square = squeeze_image(image, 8)
    assert square.shape == (8, 8, 3)
    assert square[0, 0, 0] == 1
    assert square[-1, -1, 0] == 0


def test_labels_are_never_mixed() -> None:
    labels = np.random.default_rng(0).choice([0, 3, 70_000], (50, 31)).astype(np.int32)
    square = squeeze_labels(labels, 16)
    assert set(np.unique(square)) <= {0, 3, 70_000}
    np.testing.assert_array_equal(squeeze_labels(np.eye(6, dtype=np.int32), 6), np.eye(6))
