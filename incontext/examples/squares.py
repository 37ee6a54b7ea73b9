"""SegGPT's squares: an image of any aspect, and several examples tiled to one (spatial ensemble).

The feature ensemble needs no code here: `mutual` models average the query over the examples, and
`prefix` models let it see them all.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Int32, UInt8
from PIL import Image

from incontext.examples.context import LoadedExample


def to_square(image: UInt8[np.ndarray, "h w 3"], size: int) -> Float32[np.ndarray, "s s 3"]:
    """Resize a picture (bicubic, antialiased) and return RGB in 0..1."""
    resized = Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(resized, np.float32) / 255


def labels_to_square(labels: Int32[np.ndarray, "h w"], size: int) -> Int32[np.ndarray, "s s"]:
    """Resize a label map (nearest)."""
    image = Image.fromarray(labels.astype(np.int32), mode="I")
    return np.asarray(image.resize((size, size), Image.Resampling.NEAREST), np.int32)


def tile_examples(examples: Sequence[LoadedExample], size: int) -> LoadedExample:
    """Tile examples to an n x n grid of about `size` pixels a side, n = ceil(sqrt(count)).

    Free cells repeat examples from the first on (SegGPT paper, section 3.3).
    """
    n = math.ceil(math.sqrt(len(examples)))
    cell = -(-size // n)
    chosen = [examples[i % len(examples)] for i in range(n * n)]
    images = [(to_square(e.image, cell) * 255).round().astype(np.uint8) for e in chosen]
    labels = [labels_to_square(e.labels, cell) for e in chosen]
    rows = range(0, n * n, n)
    return LoadedExample(
        np.concatenate([np.concatenate(images[r : r + n], axis=1) for r in rows]),
        np.concatenate([np.concatenate(labels[r : r + n], axis=1) for r in rows]),
    )
