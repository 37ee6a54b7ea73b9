"""What a weights file says of itself, from its header alone."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seggpt.config import ENCODER_MODEL, IN_CONTEXT_MODEL
from seggpt.pretrained import ENCODER
from seggpt.weights.encoder import load_encoder
from seggpt.weights.files import file_sha256, is_own_file, load_weights, open_safetensors
from seggpt.weights.published import load_published

IN_CONTEXT_SIZE = 448  # `incontext.examples.in_context_engine.SIZE`, which imports jax


@dataclass(frozen=True)
class ShippedModel:
    """One line of `seggpt models`; what the file does not tell is "-" or 0."""

    name: str
    parameters: int
    attention: str
    size_px: int
    licence: str
    score: str
    path: str


def read_model(name: str, path: Path) -> ShippedModel:
    """Describe a weights file without reading its tensors.

    Raises:
        CheckpointError: if the file is missing or damaged.
    """
    with open_safetensors(path) as file:
        metadata: dict[str, str] = file.metadata() or {}
        shapes = [file.get_slice(key).get_shape() for key in file.offset_keys()]
    config = json.loads(metadata.get("config", "{}"))
    is_in_context = config.get("model") in (IN_CONTEXT_MODEL, ENCODER_MODEL)
    return ShippedModel(
        name=name,
        parameters=sum(int(np.prod(shape, dtype=np.int64)) for shape in shapes),
        attention="prefix" if is_in_context else config.get("attention", "-"),
        size_px=IN_CONTEXT_SIZE if is_in_context else config.get("image_size", 0),
        licence=metadata.get("licence", "-").partition(" (")[0],
        score=metadata.get("score", "-"),
        path=str(path),
    )


def verify_model(path: Path) -> str:
    """Check a weights file, ours or published, and return the SHA-256 of the whole file.

    Ours, the encoder too, hold a checksum of every byte. In a published one, names, shapes and
    what the container says of its bytes are checked.

    Raises:
        CheckpointError: if the file is damaged, or of no model that we know.
    """
    if path == ENCODER:
        load_encoder(path)
    elif is_own_file(path):
        load_weights(path)
    else:
        load_published(path, family="any")
    return file_sha256(path)
