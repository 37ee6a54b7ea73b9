import hashlib
import json
import os
import random
import re
import struct

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file

from seggpt.errors import CheckpointError
from seggpt.weights import file_sha256, load_weights, save_weights
from tests.damage import SEEDS, change_bytes, change_json, change_text, refusal

CONFIG = {"width": 8, "taps": [1, 2], "attention": "prefix"}


def make_params():
    rng = np.random.default_rng(0)
    blocks = {i: {"kernel": rng.standard_normal((3, 5)).astype(np.float32)} for i in range(11)}
    return {
        "vit": {"blocks": blocks, "pos_embed": rng.standard_normal((2, 2, 3)).astype(np.float32)},
        "scale": np.array(2.0, np.float32),
        "empty": np.zeros((0, 4), np.float32),
        "ids": np.arange(5, dtype=np.int32),
    }


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "small.safetensors"
    save_weights(path, make_params(), config=CONFIG, metadata={"source": "random"})
    return path


def test_what_is_saved_is_loaded(saved):
    weights, params = load_weights(saved), make_params()
    assert weights.config == CONFIG
    assert weights.metadata == {"source": "random"}
    assert list(weights.params["vit"]["blocks"]) == list(range(11))
    for i in range(11):
        kernel = weights.params["vit"]["blocks"][i]["kernel"]
        np.testing.assert_array_equal(kernel, params["vit"]["blocks"][i]["kernel"])
    for name in ("scale", "empty", "ids"):
        np.testing.assert_array_equal(weights.params[name], params[name])
        assert weights.params[name].dtype == params[name].dtype


def test_bfloat16_is_half_the_size_and_comes_back_as_rounded_float32(tmp_path):
    params = {"kernel": np.linspace(-3, 3, 5000, dtype=np.float32), "ids": np.arange(3, dtype="i4")}
    for dtype in ("float32", "bfloat16"):
        save_weights(tmp_path / dtype, params, config={}, dtype=dtype)
    loaded = load_weights(tmp_path / "bfloat16").params
    rounded = params["kernel"].astype(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(loaded["kernel"], rounded)
    assert loaded["kernel"].dtype == np.float32
    np.testing.assert_array_equal(loaded["ids"], params["ids"])
    sizes = [(tmp_path / dtype).stat().st_size for dtype in ("float32", "bfloat16")]
    assert sizes[0] - sizes[1] == 2 * 5000


def test_jax_arrays_of_both_types_can_be_saved(tmp_path):
    params = {"a": jnp.arange(6.0).reshape(2, 3).T, "b": jnp.ones(3, jnp.bfloat16)}
    save_weights(tmp_path / "x", params, config={})
    loaded = load_weights(tmp_path / "x").params
    np.testing.assert_array_equal(loaded["a"], np.arange(6.0, dtype=np.float32).reshape(2, 3).T)
    np.testing.assert_array_equal(loaded["b"], np.ones(3, np.float32))


def test_the_same_weights_give_the_same_bytes(tmp_path, saved):
    again = tmp_path / "again.safetensors"
    weights = load_weights(saved)
    save_weights(again, weights.params, config=weights.config, metadata=weights.metadata)
    assert again.read_bytes() == saved.read_bytes()


def test_the_library_reads_our_files_and_the_checksum_can_be_told_by_hand(saved):
    with safe_open(str(saved), framework="np") as file:
        metadata = file.metadata()
        np.testing.assert_array_equal(file.get_tensor("ids"), np.arange(5))
    assert json.loads(metadata["config"]) == CONFIG
    blank = saved.read_bytes().replace(metadata["sha256"].encode(), b"0" * 64)
    assert hashlib.sha256(blank).hexdigest() == metadata["sha256"]


def test_tensors_are_aligned_to_their_types(tmp_path):
    params = {
        "a": np.zeros(3, np.uint8),
        "b": np.zeros(3, np.float32),
        "c": np.zeros(3, np.float16),
    }
    save_weights(tmp_path / "x", params, config={})
    data = (tmp_path / "x").read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    assert size % 8 == 0
    assert [header[name]["data_offsets"][0] for name in "bca"] == [0, 12, 18]


def test_a_failed_save_leaves_the_old_file_and_no_other(tmp_path, saved):
    before = saved.read_bytes()

    class Unreadable:
        shape, dtype = (3,), np.dtype(np.float32)

        def __array__(self, *_, **__):
            raise RuntimeError("device lost")

    with pytest.raises(RuntimeError, match="device lost"):
        save_weights(saved, {"a": np.zeros(3, np.float32), "b": Unreadable()}, config={})
    assert saved.read_bytes() == before
    assert os.listdir(tmp_path) == [saved.name]


def test_saving_into_a_missing_folder_is_a_checkpoint_error(tmp_path):
    with pytest.raises(CheckpointError, match=r"no.x: cannot be written \(No such file"):
        save_weights(tmp_path / "no" / "x", {"a": np.zeros(1, np.float32)}, config={})


def test_what_the_file_cannot_hold_is_a_value_error(tmp_path):
    with pytest.raises(ValueError, match="a has type float64"):
        save_weights(tmp_path / "x", {"a": np.zeros(1)}, config={})
    with pytest.raises(ValueError, match=r"metadata may not name \['sha256'\]"):
        save_weights(tmp_path / "x", {"a": np.zeros(1, "f4")}, config={}, metadata={"sha256": "0"})
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "run git lfs pull"),
        (b"<!DOCTYPE html><html></html>", "a web page"),
        (b"\x80\x04N.", "a bare pickle"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"not weights at all", "not a weights file"),
        (b"\xff" * 64, "not a weights file"),
        (struct.pack("<Q", 10**12) + b"{}", "not a weights file"),
        (struct.pack("<Q", 2) + b"{}", "no seggpt_format"),
        (struct.pack("<Q", 8) + b"{" * 8, "damaged safetensors"),
        (struct.pack("<Q", 40000) + b'{"a":' * 8000, "damaged safetensors"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path, data, message):
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_weights(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_missing_folder_and_pipe_are_refused_without_waiting(tmp_path):
    with pytest.raises(CheckpointError, match="No such file"):
        load_weights(tmp_path / "none")
    with pytest.raises(CheckpointError, match="a folder"):
        load_weights(tmp_path)
    with pytest.raises(CheckpointError, match="cannot be opened"):
        load_weights("a\0b")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="not a regular file"):
        load_weights(tmp_path / "pipe")


def test_a_truncated_file_is_refused(saved):
    data = saved.read_bytes()
    for size in (9, 100, len(data) // 2, len(data) - 1):
        saved.write_bytes(data[:size])
        with pytest.raises(CheckpointError):
            load_weights(saved)


def test_a_file_of_a_newer_version_asks_for_an_upgrade(saved):
    newer = saved.read_bytes().replace(b'"seggpt_format":"1"', b'"seggpt_format":"2"')
    saved.write_bytes(newer)
    with pytest.raises(CheckpointError, match=r"format '2'.*upgrade"):
        load_weights(saved)


def test_a_foreign_file_points_to_convert(tmp_path):
    save_file({"a": np.zeros(2, np.float32)}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="seggpt convert"):
        load_weights(tmp_path / "x.safetensors")


@given(data=st.data())
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_changed_byte_is_noticed(saved_bytes, data):
    path, original = saved_bytes
    changed = bytearray(original)
    position = data.draw(st.integers(0, len(original) - 1))
    changed[position] ^= data.draw(st.integers(1, 255))
    path.write_bytes(changed)
    with pytest.raises(CheckpointError):
        load_weights(path)


def reseal(header: bytes, tensors: bytes) -> bytes:
    """Return a file whose checksum is right."""
    header = re.sub(rb'"sha256": ?"[^"]*"', b'"sha256":"' + b"0" * 64 + b'"', header)
    blank = struct.pack("<Q", len(header)) + header + tensors
    return blank.replace(b"0" * 64, hashlib.sha256(blank).hexdigest().encode(), 1)


def assert_damage_is_refused_or_read(path, original, seed):
    """Damage a file, or its header and what stands behind it in a file that is sealed anew."""
    rng = random.Random(seed)
    if rng.random() < 0.3:
        path.write_bytes(change_bytes(original, rng))
    else:
        end = 8 + struct.unpack("<Q", original[:8])[0]
        header, tensors = original[8:end], original[end:]
        header = rng.choice((change_json, change_text))(header, rng)
        path.write_bytes(reseal(header, tensors + rng.choice((b"", b"", b"more"))))
    said = refusal(lambda: load_weights(path), CheckpointError)
    assert not said or path.name in said


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(SEEDS)
def test_damage_is_refused_or_read(saved_bytes, seed):
    path, original = saved_bytes
    assert_damage_is_refused_or_read(path, original, seed)


@pytest.mark.slow
def test_much_damage_is_refused_or_read(saved_bytes):
    path, original = saved_bytes
    for seed in range(10_000):
        assert_damage_is_refused_or_read(path, original, seed)


def test_a_file_that_is_sealed_anew_is_read(saved_bytes):
    path, original = saved_bytes
    end = 8 + struct.unpack("<Q", original[:8])[0]
    assert reseal(original[8:end], original[end:]) == original
    path.write_bytes(reseal(original[8:end].replace(b"random", b"sealed"), original[end:]))
    assert load_weights(path).metadata == {"source": "sealed"}


@pytest.fixture(scope="module")
def saved_bytes(tmp_path_factory):
    path = tmp_path_factory.mktemp("changed") / "small.safetensors"
    save_weights(path, make_params(), config=CONFIG, metadata={"source": "random"})
    return path, path.read_bytes()


def test_file_sha256_is_the_one_of_other_tools(saved):
    assert file_sha256(saved) == hashlib.sha256(saved.read_bytes()).hexdigest()
    assert re.fullmatch("[0-9a-f]{64}", file_sha256(saved))
    with pytest.raises(CheckpointError, match="cannot be read"):
        file_sha256(saved.parent / "none")
