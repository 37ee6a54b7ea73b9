import dataclasses
import hashlib
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data import feature_cache
from data.feature_cache import main, make_encode, open_cache, write_cache
from tests.data.drawn_cache import (
    CONFIG,
    GRID,
    PATCH,
    SIZE,
    drawn_plan,
    encode,
    write_drawn_cache,
)
from tests.tiny_encoder import save_tiny_encoder

FILES = ("jobs.json", "features.npy", "pixels.npy", "classes.npy", "instances.npy", "done")


class StoppedError(Exception):
    pass


def encode_some(count):
    """Return an encoder that stops after so many batches; the first tells the shape."""
    left = [count]

    def stopping(images):
        left[0] -= 1
        if left[0] < 0:
            raise StoppedError
        return encode(images)

    return stopping


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    return drawn_plan(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_drawn_cache(tmp_path_factory.mktemp("written"))


def test_a_cache_holds_every_view_and_its_features(plan, written):
    cache = open_cache(written)
    assert list(cache.names) == plan.names
    assert (cache.grid, cache.patch, cache.encoder) == (GRID, PATCH, "a")
    assert cache.features.dtype == np.float16
    for index in range(0, len(plan.names), 5):
        view = plan.make(index)
        np.testing.assert_array_equal(cache.pixels[index], view.image)
        np.testing.assert_array_equal(cache.classes[index], view.classes)
        np.testing.assert_array_equal(cache.instances[index], view.instances)
    features = encode(np.asarray(cache.pixels)).astype(np.float16)
    np.testing.assert_array_equal(cache.features, features)


@pytest.mark.parametrize("batches", [1, 2, 6])
def test_a_cache_that_was_stopped_goes_on_to_the_same_bytes(
    plan, written, tmp_path, monkeypatch, batches
):
    monkeypatch.setattr(feature_cache, "SAVE_EVERY", 2)
    for _ in range(2):
        with pytest.raises(StoppedError):
            write_cache(tmp_path, plan, encode=encode_some(batches), encoder="a")
    if batches == 6:  # what was there when it was stopped can be read
        # The first run asked for the shape, too.
        assert len(open_cache(tmp_path).names) == 4 * (5 + 6)
    write_cache(tmp_path, plan, encode=encode, encoder="a")
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (written / name).read_bytes()


def test_what_was_not_saved_is_made_again(plan, written, tmp_path):
    for name in FILES:
        (tmp_path / name).write_bytes((written / name).read_bytes())
    pixels = np.load(tmp_path / "pixels.npy", mmap_mode="r+")
    pixels[8:] = 0
    pixels.flush()
    (tmp_path / "done").write_text("8")
    write_cache(tmp_path, plan, encode=encode, encoder="a")
    assert (tmp_path / "pixels.npy").read_bytes() == (written / "pixels.npy").read_bytes()


def test_a_whole_cache_is_left_alone(plan, written):
    before = (written / "features.npy").stat().st_mtime_ns
    write_cache(written, plan, encode=encode_some(0), encoder="a")
    assert (written / "features.npy").stat().st_mtime_ns == before


def test_batches_are_always_full(plan, tmp_path):
    sizes = set()

    def watched(images):
        sizes.add(len(images))
        return encode(images)

    assert len(plan.names) % 5
    write_cache(tmp_path, plan, encode=watched, encoder="a", batch=5)
    assert sizes == {5}


def test_another_encoder_or_other_settings_are_refused(plan, written, tmp_path):
    with pytest.raises(ValueError, match=r"cache of another encoder a, not b; choose another"):
        write_cache(written, plan, encode=encode, encoder="b")
    other = dataclasses.replace(CONFIG, seed=7)
    with pytest.raises(ValueError, match=r"cache of another seed 0, not 7; choose another"):
        write_cache(written, drawn_plan(tmp_path / "seed", other), encode=encode, encoder="a")
    other = dataclasses.replace(CONFIG, drawn_strength=0.5)
    with pytest.raises(ValueError, match=r"cache of another plan; choose another"):
        write_cache(written, drawn_plan(tmp_path / "plan", other), encode=encode, encoder="a")


def test_tokens_that_make_no_grid_are_refused(plan, tmp_path):
    with pytest.raises(ValueError, match="15 tokens are no grid on 56 x 56 pixels"):
        write_cache(tmp_path, plan, encode=lambda images: encode(images)[:, 1:], encoder="a")


def test_a_disk_without_room_is_told_before_anything_is_written(plan, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(feature_cache.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ValueError, match=r"GB are needed and 0\.0 GB free"):
        write_cache(tmp_path, plan, encode=encode, encoder="a")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_cache_is_told(written, tmp_path):
    with pytest.raises(ValueError, match="no feature cache"):
        open_cache(tmp_path)
    (tmp_path / "jobs.json").write_text((written / "jobs.json").read_text())
    with pytest.raises(ValueError, match="has no views yet"):
        open_cache(tmp_path)
    text = (written / "jobs.json").read_text().replace('"format": 1', '"format": 99')
    (tmp_path / "jobs.json").write_text(text)
    with pytest.raises(ValueError, match="format 99, not 1"):
        open_cache(tmp_path)


def test_progress_is_logged(plan, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    write_cache(tmp_path, plan, encode=encode, encoder="a")
    count = len(plan.names)
    assert f"0 of {count} views are there" in caplog.text
    assert f"{count} of {count} views" in caplog.text
    assert "0 min left" in caplog.text


def test_features_are_the_tapped_layers_side_by_side(tmp_path):
    path = tmp_path / "encoder.safetensors"
    encoder = save_tiny_encoder(path)
    tell, checksum = make_encode(str(path))
    images = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)
    layers = jax.jit(encoder)(jnp.asarray(images, jnp.float32) / 255).layers
    found = tell(images)
    np.testing.assert_allclose(found, np.concatenate(layers, axis=-1), rtol=1e-5, atol=1e-5)
    assert found.shape == (2, GRID**2, 3 * 32)
    assert checksum == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_tool_tells_what_is_wrong_in_one_line(tmp_path, capsys):
    absent = str(tmp_path / "absent")
    assert main(["--data", absent, "--encoder", absent, "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith(f"feature_cache: error: {absent}: no such folder")


def test_the_tool_writes_a_cache(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(feature_cache, "make_encode", lambda path: (tokens, f"sum of {path}"))
    root = str(plan.folders["things"].root.parent)
    arguments = ["--data", root, "--encoder", "weights", "--out"]
    arguments += [str(tmp_path / "out"), "--views", "1", "--pasted", "0", "--drawn", "1"]
    assert main(arguments) == 0
    cache = open_cache(tmp_path / "out")
    assert cache.encoder == "sum of weights"
    assert cache.pixels.shape[1:] == (336, 336, 3)
    assert len(cache.names) == 2 * 12 + 5


def tokens(images):
    return np.zeros((len(images), 24**2, 2), np.float32)
