"""The weights that the package ships, each a safetensors file with its model card beside it."""

import os
from pathlib import Path

from seggpt.errors import CheckpointError

DEFAULT = "seggpt-small"
MATCHING = "matching"  # no weights of its own: an encoder's features, matched
ENCODER = Path(__file__).parent / "dinov2-small.safetensors"  # no model: what one stands on


def shipped_weights() -> dict[str, Path]:
    """Return the shipped models' files by name."""
    files = sorted(Path(__file__).parent.glob("*.safetensors"))
    return {path.stem: path for path in files if path != ENCODER}


def find_encoder(name_or_path: str | os.PathLike[str] | None = None) -> Path:
    """Return the file of the shipped encoder, by name or without one, or the path that was given.

    Raises:
        CheckpointError: if it is neither.
    """
    path = Path(name_or_path or ENCODER.stem)
    if str(path) == ENCODER.stem and ENCODER.exists():
        return ENCODER
    if path.exists():
        return path
    raise CheckpointError(f"{path}: no such file, and no shipped encoder of that name")


def find_weights(name_or_path: str | Path | None = None) -> Path:
    """Return the file of shipped weights, by name or the default ones, or the path that was given.

    Raises:
        CheckpointError: if it is neither.
    """
    shipped = shipped_weights()
    name = str(name_or_path or DEFAULT)
    if name in shipped:
        return shipped[name]
    if Path(name).exists():
        return Path(name)
    known = ", ".join(shipped) or "none in this copy of the package"
    raise CheckpointError(f"{name}: no such file, and no shipped weights of that name ({known})")
