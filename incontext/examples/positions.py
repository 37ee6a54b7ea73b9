"""The directions of positions of an encoder: found once, then kept beside the compiled programs."""

from contextlib import suppress
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from incontext.device import make_cache_folder
from incontext.files.atomic import write_whole
from seggpt.errors import InputError
from seggpt.in_context.positions import DIRECTIONS, position_directions
from seggpt.weights.encoder import LoadedEncoder


def find_directions(encoder: LoadedEncoder) -> Float32[np.ndarray, "t k d"]:
    """Return the directions of all layers of an encoder; a file that is damaged is made again."""
    config = encoder.config
    shape = (len(config.taps), DIRECTIONS, config.width)
    try:
        path = make_cache_folder().parent / f"positions-{encoder.sha256}.npy"
    except InputError:  # nothing can be kept
        return _compute(encoder)
    try:
        known = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        known = None
    if known is not None and known.shape == shape and known.dtype == np.float32:
        return known
    found = _compute(encoder)
    with suppress(InputError):  # such as a full disk
        write_whole(path, lambda part: _save(part, found))
    return found


def _compute(encoder: LoadedEncoder) -> Float32[np.ndarray, "t k d"]:
    found = position_directions(encoder.config, encoder.params)
    return np.stack([np.asarray(layer, np.float32) for layer in found])


def _save(path: Path, directions: np.ndarray) -> None:
    with path.open("wb") as file:
        np.save(file, directions)
