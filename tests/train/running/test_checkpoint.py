import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seggpt.errors import CheckpointError
from tests.train.tiny import named
from train.running.checkpoint import MANIFEST, RUN, Checkpoints, abstract_state
from train.sharding import MIN_SPLIT, make_mesh, shard_params
from train.state import TrainState

RUN_PART = {"config": {"lr": 0.1}, "loader": {"next_index": 12}}


def make_state(step):
    """Make a state with every kind of array, one of them split over both devices."""
    rng = np.random.default_rng(step)
    params = {
        "blocks": {0: {"kernel": jnp.asarray(rng.normal(size=(3, 4)), jnp.float32)}},
        "large": jnp.asarray(rng.normal(size=(4, MIN_SPLIT // 4)), jnp.float32),
        "half": jnp.asarray(rng.normal(size=7), jnp.bfloat16),
    }
    moments = ({"count": jnp.asarray(step), "mu": jax.tree.map(lambda a: a**2, params)}, ())
    state = TrainState(jnp.asarray(step), params, jax.tree.map(lambda a: a + 1, params), moments)
    return jax.device_put(state, shard_params(state, make_mesh()))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    state = make_state(4)
    assert Checkpoints(folder, keep=2).save(state, RUN_PART) == folder / "4"
    return folder, state


@pytest.fixture
def copied(saved, tmp_path):
    shutil.copytree(saved[0], tmp_path / "run")
    return tmp_path / "run"


def test_a_state_comes_back_bit_by_bit(saved):
    folder, state = saved
    checkpoints = Checkpoints(folder, keep=2)
    assert checkpoints.steps() == [4]
    assert checkpoints.read_run(4) == RUN_PART
    restored = checkpoints.restore(4, abstract_state(make_state(0)))
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    for name, leaf in named(restored).items():
        assert leaf.dtype == named(state)[name].dtype
        assert leaf.tobytes() == named(state)[name].tobytes(), name
    for ours, theirs in zip(jax.tree.leaves(restored), jax.tree.leaves(state), strict=True):
        assert ours.sharding == theirs.sharding


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)


def test_a_flipped_bit_in_any_file_is_refused_by_its_name(copied):
    checkpoints = Checkpoints(copied, keep=2)
    folder = copied / "4"
    assert len(files(folder)) > 3
    for path in files(folder):
        before = path.read_bytes()
        data = bytearray(before)
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        with pytest.raises(CheckpointError) as caught:
            checkpoints.read_run(4)
        # A flip in the list of checksums is one that some other file does not fit any more.
        assert str(folder) in str(caught.value)
        assert path.name == MANIFEST or path.name in str(caught.value)
        path.write_bytes(before)
    assert checkpoints.read_run(4) == RUN_PART


def test_a_list_of_checksums_that_is_no_list_is_refused(copied):
    for text in ("{", "3", "[1]", "\xff"):
        (copied / "4" / MANIFEST).write_text(text, encoding="latin-1")
        with pytest.raises(CheckpointError, match=MANIFEST):
            Checkpoints(copied, keep=2).read_run(4)


@pytest.mark.parametrize("change", ["remove", "add"])
def test_missing_and_additional_files_are_refused(copied, change):
    path = copied / "4" / (RUN if change == "remove" else "extra")
    path.unlink() if change == "remove" else path.write_text("more")
    with pytest.raises(CheckpointError, match=path.name):
        Checkpoints(copied, keep=2).read_run(4)


def test_what_was_not_finished_is_ignored(copied):
    shutil.copytree(copied / "4", copied / "9.partial")
    (copied / "10").mkdir()
    (copied / "notes").mkdir()
    (copied / "notes" / MANIFEST).write_text("{}")
    assert Checkpoints(copied, keep=2).steps() == [4]
    assert Checkpoints(copied / "absent", keep=2).steps() == []


def test_the_newest_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
    small = TrainState(jnp.asarray(0), {"a": jnp.zeros(2)}, {"a": jnp.zeros(2)}, ())
    for step in (8, 9, 10):
        state = TrainState(jnp.asarray(step), small.params, small.ema, ())
        checkpoints.save(state, {"step": step})
    assert checkpoints.steps() == [9, 10]  # as numbers: "10" is less than "9"
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == ["10", "9"]
    # A step that is saved again, after a resume, replaces the old one.
    checkpoints.save(state, {"step": "again"})
    assert checkpoints.read_run(10) == {"step": "again"}
    assert checkpoints.steps() == [9, 10]
    assert json.loads((checkpoints.folder / "9" / RUN).read_text()) == {"step": 9}
