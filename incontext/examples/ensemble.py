"""Several examples as one: the spatial ensemble.

The feature ensemble needs no code here: `mutual` models average the query over the examples, and
`prefix` models let it see them all.
"""

import math
from collections.abc import Sequence

import numpy as np

from incontext.examples.context import LoadedExample
from incontext.examples.squeeze import squeeze_image, squeeze_labels


def tile_examples(examples: Sequence[LoadedExample], size: int) -> LoadedExample:
    """Tile examples to an n x n grid of about `size` pixels a side, n = ceil(sqrt(count)).

    Free cells repeat examples from the first on (SegGPT paper, section 3.3).
    """
    n = math.ceil(math.sqrt(len(examples)))
    cell = -(-size // n)
    chosen = [examples[i % len(examples)] for i in range(n * n)]
    images = [(squeeze_image(e.image, cell) * 255).round().astype(np.uint8) for e in chosen]
    labels = [squeeze_labels(e.labels, cell) for e in chosen]
    rows = range(0, n * n, n)
    return LoadedExample(
        np.concatenate([np.concatenate(images[r : r + n], axis=1) for r in rows]),
        np.concatenate([np.concatenate(labels[r : r + n], axis=1) for r in rows]),
    )
