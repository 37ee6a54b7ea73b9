"""Real processes with a tiny model."""

import dataclasses
import importlib.util
from pathlib import Path

import jax
import pytest
from flax import nnx

from incontext.bench import Job, measure
from seggpt.config import SegGPTConfig
from seggpt.errors import SegGPTError
from seggpt.model import SegGPT
from seggpt.weights import save_weights


@pytest.fixture
def weights(tmp_path: Path) -> str:
    config = dataclasses.replace(
        SegGPTConfig.tiny(attention="mutual"),
        image_size=16,
        width=16,
        depth=1,
        heads=2,
        merge_block=0,
        taps=(0,),
    )
    model = SegGPT(config, rngs=nnx.Rngs(0))
    params = jax.tree.map(jax.device_get, nnx.as_pure(nnx.split(model, nnx.Param)[1]))
    save_weights(tmp_path / "weights.safetensors", params, config=config.to_dict())
    return str(tmp_path / "weights.safetensors")


def test_subjects_take_turns_and_are_measured_apart(weights: str) -> None:
    job = Job(model=weights, examples=1, device="cpu", dtype=None)
    jobs = [job, dataclasses.replace(job, dtype="bfloat16")]
    turns = []
    rows = measure(jobs, runs=2, advance=lambda: turns.append(1))
    assert len(turns) == 4
    assert [row.dtype for row in rows] == ["float32", "bfloat16"]
    for row in rows:
        assert 0 < row.picture_s < row.first_s
        assert row.peak_mib > 50
        assert row.gflop > 0
        assert row.matmul_gflops > 0


def test_what_cannot_be_loaded_is_one_line(tmp_path: Path) -> None:
    job = Job(model=str(tmp_path / "none.safetensors"), examples=1, device=None, dtype=None)
    with pytest.raises(SegGPTError, match=r"none\.safetensors") as caught:
        measure([job], runs=1, advance=lambda: None)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="torch is installed")
def test_a_peer_that_is_not_installed_is_named() -> None:
    job = Job(model=None, examples=1, device=None, dtype="float32", peer=True)
    with pytest.raises(SegGPTError, match="torch"):
        measure([job], runs=1, advance=lambda: None)
