"""Runs in processes of their own: killed, stopped, and shared between two."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.conftest import CPU_DEVICES
from tests.data.drawn import write_drawn_dataset
from tests.train.tiny import named, tiny_config
from train.__main__ import main
from train.optim import make_optimizer
from train.running.checkpoint import Checkpoints, abstract_state
from train.running.hosts import COORDINATOR, COUNT, NUMBER
from train.sharding import make_mesh, shard_params
from train.state import init_state
from train.tasks.pairs import start_params

ROOT = Path(__file__).resolve().parents[3]
RECIPE = """
from tests.train.tiny import tiny_config

def get_config():
    return tiny_config(shots=((1, 1.0),), steps=20, log_every=1, checkpoint_every=10)
"""
# Trains, and sends itself a signal once a step is done.
PROGRAM = """
import logging, os, sys
logging.basicConfig(level=logging.INFO, format="%(message)s")  # before absl does
from train.running import watch

step, number = map(int, sys.argv[1:3])
after = watch.Watch.after

def then_signal(self, done, *rest):
    after(self, done, *rest)
    if done == step:
        os.kill(os.getpid(), number)

watch.Watch.after = then_signal
from train.__main__ import main
sys.exit(main(sys.argv[3:]))
"""

pytestmark = pytest.mark.usefixtures("compiled_once")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("processes")
    write_drawn_dataset(root / "data", name="drawn", pictures=8, size=32)
    (root / "recipe.py").write_text(RECIPE)
    return root


def arguments(place, out):
    recipe, data = place / "recipe.py", place / "data"
    return ["--config", str(recipe), "--data", str(data), "--out", str(out)]


def start(place, out, *options, step, number, **variables):
    """Start a process with the devices and the compile cache of this one."""
    settings = {
        "JAX_NUM_CPU_DEVICES": str(CPU_DEVICES),
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax-tests"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    }
    environment = os.environ | settings | {"PYTHONPATH": str(ROOT)} | variables
    command = [sys.executable, "-c", PROGRAM, str(step), str(int(number))]
    command += [*arguments(place, out), *options]
    return subprocess.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def finish(process):
    _, said = process.communicate(timeout=300)
    return process.returncode, said


@pytest.fixture(scope="module")
def whole(place, tmp_path_factory):
    """Return the folder of a run of 20 steps without a break."""
    out = tmp_path_factory.mktemp("whole")
    assert main(arguments(place, out)) == 0
    return out


def losses(out):
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return {row["step"]: row["loss"] for row in rows if "loss" in row}


def last_state(out):
    config = tiny_config()
    optimizer = make_optimizer(config.optim, steps=20, depth=config.model.depth)
    state = init_state(start_params(config), optimizer)
    state = jax.device_put(state, shard_params(state, make_mesh()))
    return named(Checkpoints(out / "checkpoints", keep=2).restore(20, abstract_state(state)))


def test_a_killed_run_ends_at_the_same_bits_as_one_without_a_break(place, whole, tmp_path):
    code, said = finish(start(place, tmp_path, step=13, number=signal.SIGKILL))
    assert code == -signal.SIGKILL, said
    assert "13/20  loss" in said
    assert Checkpoints(tmp_path / "checkpoints", keep=2).steps() == [10]
    assert list(losses(tmp_path)) == list(range(1, 14))
    assert main(arguments(place, tmp_path)) == 0
    ours, theirs = last_state(tmp_path), last_state(whole)
    assert ours.keys() == theirs.keys()
    for name, leaf in ours.items():
        assert leaf.tobytes() == theirs[name].tobytes(), name
    assert losses(tmp_path) == losses(whole)
    weights = [(out / "weights.safetensors").read_bytes() for out in (tmp_path, whole)]
    assert weights[0] == weights[1]


def free_port():
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def test_two_processes_learn_what_one_does_and_stop_together(place, whole, tmp_path):
    shared = {COORDINATOR: f"localhost:{free_port()}", COUNT: "2"}
    # A signal to the second process alone stops both at one step.
    pair = [
        start(
            *(place, tmp_path, "--distributed"),
            **(shared | {NUMBER: str(number)}),
            step=12 if number else 99,
            number=signal.SIGTERM,
        )
        for number in range(2)
    ]
    for code, said in [finish(process) for process in pair]:
        assert code == 128 + signal.SIGTERM, said
    stopped = Checkpoints(tmp_path / "checkpoints", keep=2).steps()[-1]
    assert 12 < stopped < 20
    ours, theirs = losses(tmp_path), losses(whole)
    assert list(ours) == list(range(1, stopped + 1))
    for step in (1, 2, 3):  # later ones amplify the order of sums
        np.testing.assert_allclose(ours[step], theirs[step], rtol=1e-5)
    # What two processes with four devices saved is restored by one with two.
    assert jax.device_count() == CPU_DEVICES
    assert main(arguments(place, tmp_path)) == 0
    ours = losses(tmp_path)
    assert list(ours) == list(range(1, 21))
    np.testing.assert_allclose(ours[20], theirs[20], rtol=1e-3)


@pytest.mark.slow
def test_eight_devices_with_split_weights_learn_what_two_do(place, tmp_path):
    options = ["--set", "batch_size=8", "--set", "steps=4", "--set", "fsdp=4"]
    run = start(*(place, tmp_path / "eight", *options), step=99, number=0, JAX_NUM_CPU_DEVICES="8")
    code, said = finish(run)
    assert code == 0, said
    assert main([*arguments(place, tmp_path / "two"), *options[:-2]]) == 0
    ours, theirs = losses(tmp_path / "eight"), losses(tmp_path / "two")
    assert list(ours) == [1, 2, 3, 4]
    np.testing.assert_allclose([*ours.values()], [*theirs.values()], rtol=1e-4)
