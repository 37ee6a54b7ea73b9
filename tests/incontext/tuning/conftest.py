"""The smallest model, and pictures whose bright part is marked."""

import dataclasses

import numpy as np
import pytest
from flax import nnx

from incontext import Example, Segmenter
from seggpt.config import SegGPTConfig
from seggpt.model import SegGPT

CONFIG = SegGPTConfig(
    image_size=16,
    patch_size=4,
    width=24,
    depth=2,
    heads=3,
    pos_grid=(8, 4),
    merge_block=0,
    taps=(0, 1),
    attention="prefix",
    decoder_width=4,
)


def make_segmenter(attention="prefix", seed=0, **changes):
    changes = {"attention": attention, "lookup": attention == "prefix", **changes}
    config = dataclasses.replace(CONFIG, **changes)
    model = SegGPT(config, rngs=nnx.Rngs(seed))
    return Segmenter(config, nnx.as_pure(nnx.state(model, nnx.Param)))


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
    return make_segmenter()


@pytest.fixture(scope="session")
def mutual():
    return make_segmenter("mutual")


@pytest.fixture(scope="session")
def examples():
    return [make_example(seed) for seed in range(8)]


@pytest.fixture(scope="session")
def two_labels():
    return [make_example(seed, label=3 + seed % 2) for seed in range(8)]


@pytest.fixture(scope="session")
def models():
    """Make segmenters of the same size with other weights."""
    return make_segmenter


@pytest.fixture(scope="session")
def example():
    """Make one example from a seed."""
    return make_example
