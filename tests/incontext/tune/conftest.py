"""The smallest model, and pictures whose bright part is marked."""

import numpy as np
import pytest

from incontext import Example
from tests.tiny_models import tiny_segmenter


def make_example(seed, *, label=1, size=(20, 30), bright=True):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 90, (*size, 3)).astype(np.uint8)
    mask = np.zeros(size, np.int32)
    top, left = rng.integers(0, size[0] // 2), rng.integers(0, size[1] // 2)
    if bright:
        image[top : top + 9, left : left + 12] += 150
        mask[top : top + 9, left : left + 12] = label
    return Example(image, mask, kind="labels")


@pytest.fixture(scope="session")
def segmenter():
    return tiny_segmenter()


@pytest.fixture(scope="session")
def mutual():
    return tiny_segmenter("mutual")


@pytest.fixture(scope="session")
def examples():
    return [make_example(seed) for seed in range(8)]


@pytest.fixture(scope="session")
def two_labels():
    return [make_example(seed, label=3 + seed % 2) for seed in range(8)]


@pytest.fixture(scope="session")
def models():
    """Make segmenters of the same size with other weights."""
    return tiny_segmenter


@pytest.fixture(scope="session")
def example():
    """Make one example from a seed."""
    return make_example
