"""The mean of runs' weights."""

import numpy as np
import pytest

from seggpt.weights.files import load_weights, save_weights
from train.average import main

CONFIG = {"model": "seggpt", "width": 4}


def write(path, value, *, config=CONFIG, shape=(2, 3), sets="a", dtype=None):
    params = {"part": {"kernel": np.full(shape, value, np.float32)}}
    metadata = {"train_sets": sets, "step": str(int(value))}
    save_weights(path, params, config=config, metadata=metadata, dtype=dtype)
    return str(path)


def test_every_array_is_the_mean_whatever_the_files_hold(tmp_path):
    one = write(tmp_path / "one.safetensors", 1.0, sets="a,b")
    other = write(tmp_path / "other.safetensors", 4.0, sets="b,c", dtype="bfloat16")
    out = tmp_path / "mean.safetensors"
    assert main([one, other, "-o", str(out)]) == 0
    mean = load_weights(out)
    kernel = mean.params["part"]["kernel"]
    assert kernel.dtype == np.float32
    np.testing.assert_array_equal(kernel, np.full((2, 3), 2.5))
    assert mean.config == CONFIG
    assert mean.metadata == {"train_sets": "a,b,c", "step": "4"}


@pytest.mark.parametrize("change", [{"config": CONFIG | {"width": 5}}, {"shape": (3, 2)}])
def test_another_architecture_is_refused_by_name(tmp_path, capsys, change):
    one = write(tmp_path / "one.safetensors", 1.0)
    other = write(tmp_path / "other.safetensors", 2.0, **change)
    assert main([one, other, "-o", str(tmp_path / "mean.safetensors")]) == 2
    assert "other.safetensors: of another architecture than" in capsys.readouterr().err
    assert not (tmp_path / "mean.safetensors").exists()


def test_a_missing_file_is_one_line(tmp_path, capsys):
    assert main([str(tmp_path / "none.safetensors"), "-o", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("average: error: ")
