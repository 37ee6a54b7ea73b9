"""Directions of positions are found once."""

from pathlib import Path

import numpy as np
import pytest

from incontext.examples import positions
from incontext.examples.positions import find_directions
from seggpt.in_context.positions import DIRECTIONS
from seggpt.weights.encoder import LoadedEncoder, load_encoder
from tests.tiny_encoder import save_tiny_encoder


@pytest.fixture
def encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoadedEncoder:
    """An encoder whose directions are zeros, then ones, and a cache of its own."""
    save_tiny_encoder(tmp_path / "encoder.safetensors")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    told = iter([0.0, 1.0])
    monkeypatch.setattr(
        positions,
        "position_directions",
        lambda config, params: list(np.full((3, DIRECTIONS, config.width), next(told))),
    )
    return load_encoder(tmp_path / "encoder.safetensors")


def test_they_are_kept(encoder: LoadedEncoder) -> None:
    assert find_directions(encoder).shape == (3, DIRECTIONS, 32)
    assert not find_directions(encoder).any()


def test_a_damaged_file_is_made_again(encoder: LoadedEncoder, tmp_path: Path) -> None:
    find_directions(encoder)
    [kept] = (tmp_path / "cache").rglob("positions-*.npy")
    kept.write_bytes(kept.read_bytes()[:200])
    assert find_directions(encoder).all()
    assert find_directions(encoder).all()


def test_a_folder_that_cannot_be_made_is_no_failure(encoder: LoadedEncoder, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    assert not find_directions(encoder).any()
    assert find_directions(encoder).all()
