"""SegGPT's own task: in-context samples of decoded pictures."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PyTree
from PIL import Image

from seggpt.config import ENCODER_MODEL
from seggpt.weights.encoder import load_encoder
from seggpt.weights.files import is_own_file, load_weights, save_weights
from seggpt.weights.sniff import sniff
from train.config import TrainConfig
from train.state import graft_encoder, init_params, load_params, match_queries_keys
from train.step import make_train_step
from train.tasks.pictures import PicturesTask
from train.tasks.probe import make_painter, make_probe
from train.tasks.task import Step


class PairsTask(PicturesTask):
    """Examples with their colours, and queries."""

    def __init__(self, config: TrainConfig, mesh: jax.sharding.Mesh) -> None:
        super().__init__(config, mesh)
        self.model = config.seggpt
        self.probe, self.look = make_probe(self.held_out, config), make_painter(config)
        self.depth = self.model.depth
        self._compiled = cache(self._compile)

    def init(self) -> PyTree:
        """Return the first weights: random ones, or those of `init`."""
        return start_params(self.config)

    def step(self, number: int, optimizer: optax.GradientTransformation) -> Step:
        """Return the update for a step, compiled for its number of examples."""
        return self._compiled(draw_shots(self.config, number), optimizer)

    def _compile(self, shots: int, optimizer: optax.GradientTransformation) -> Any:
        return jax.jit(make_train_step(self.config, optimizer, examples=shots), donate_argnums=0)

    def evaluate(self, params: PyTree) -> tuple[dict[str, float], Callable[[], Image.Image]]:
        """Score the held-out samples."""
        seen: Any = self.look(params, self.probe)  # pyright: ignore[reportArgumentType]
        return self.probe.score(seen), lambda: self.probe.sheet(seen)

    def save(self, path: Path, params: PyTree, metadata: dict[str, str]) -> None:
        """Write the weights."""
        save_weights(path, params, config=self.model.to_dict(), metadata=metadata)


def start_params(config: TrainConfig) -> PyTree:
    """Return the first weights: random ones, or those of `init`, a model or an encoder.

    Raises:
        CheckpointError: if `init` is neither, or has other shapes than the model.
    """
    model = config.seggpt
    if config.init and is_model(config.init):
        params = load_params(model, Path(config.init))
    else:
        params = init_params(model, jax.random.key(config.seed))
        if config.match_init:
            params = match_queries_keys(params)
        if config.init:
            params = graft_encoder(params, load_encoder(config.init), model)
    # A weakly typed one would become a strong one in the first step, and the second compile anew.
    return jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), params)


def is_model(path: str) -> bool:
    """Tell a whole model's file from encoders, which are files, folders and names."""
    if not Path(path).is_file() or sniff(path) != "safetensors" or not is_own_file(path):
        return False
    return load_weights(path).config.get("model") != ENCODER_MODEL


def draw_shots(config: TrainConfig, step: int) -> int:
    """Return how many examples the samples of a step have."""
    shots, shares = zip(*config.shots, strict=True)
    rng = np.random.default_rng((config.seed, step))
    return int(rng.choice(shots, p=np.asarray(shares) / sum(shares)))
