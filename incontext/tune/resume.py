"""The saved state of an unfinished tuning run."""

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path

import jax
import numpy as np

from incontext.tune.config import TuneConfig
from incontext.tune.loop import RunState
from incontext.tune.pictures import Pictures
from seggpt.errors import PromptError
from seggpt.weights import load_weights, save_weights

FORMAT = "seggpt-tuning-2"
# What may differ between a run and its continuation.
_FREE = ("minutes",)


def state_path(prompt: str | os.PathLike[str]) -> Path:
    """Return where the run that writes a prompt keeps its state."""
    path = Path(prompt)
    return path.with_name(f"{path.name}.state")


def run_key(config: TuneConfig, pictures: Pictures, model: str) -> str:
    """Return what tells a run from others: settings, pictures and model."""
    settings = {name: value for name, value in asdict(config).items() if name not in _FREE}
    digest = hashlib.sha256(json.dumps([settings, model, pictures.labels]).encode())
    for array in (*pictures.images, *pictures.class_ids):
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]


def save_state(path: Path, state: RunState, *, key: str) -> None:
    """Write a run's state, whole or not at all."""
    about = {
        "format": FORMAT,
        "key": key,
        "round": state.round,
        "best_score": state.best_score,
        "best_round": state.best_round,
        "history": state.history,
    }
    leaves = jax.tree.leaves((state.learned, state.moments, state.average, state.best))
    arrays = {f"array_{i:04d}": np.asarray(leaf) for i, leaf in enumerate(leaves)}
    save_weights(path, arrays, config=about)


def load_state(path: Path, fresh: RunState, *, key: str) -> RunState:
    """Read a run's state into the form of a fresh one.

    Raises:
        CheckpointError: if the file is damaged.
        PromptError: if it is of another run.
    """
    loaded = load_weights(path)
    about = loaded.config
    if about.get("format") != FORMAT or about.get("key") != key:
        raise PromptError(
            f"{path}: left by a run with other pictures, settings or weights; "
            "repeat its command, or remove the file"
        )
    shape = jax.tree.structure((fresh.learned, fresh.moments, fresh.average, fresh.best))
    leaves = [jax.numpy.asarray(loaded.params[name]) for name in sorted(loaded.params)]
    learned, moments, average, best = jax.tree.unflatten(shape, leaves)
    return RunState(
        learned=learned,
        moments=moments,
        average=average,
        best=best,
        round=about["round"],
        best_score=about["best_score"],
        best_round=about["best_round"],
        history=[(int(step), loss, score) for step, loss, score in about["history"]],
    )
