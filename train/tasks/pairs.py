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

from data.config import DataConfig
from data.folder import open_folders
from data.loader import make_loader
from data.pairs import Sampler
from data.pictures import Source, open_sources
from data.synthetic import PastedSource, sprite_classes
from seggpt.weights.files import save_weights
from train.config import TrainConfig
from train.state import init_params, load_params, match_queries_keys
from train.step import make_train_step
from train.tasks.probe import make_painter, make_probe
from train.tasks.task import Batches, Step


class PairsTask:
    """Samples of pictures that are decoded when their turn comes."""

    def __init__(self, config: TrainConfig, mesh: jax.sharding.Mesh) -> None:
        self.config, self.model = config, config.seggpt
        del mesh  # a batch is split over the devices by the loop
        sources, held_out = find_sources(config.pictures, seed=config.seed)
        self.sets = [source.name for source in sources]
        self.sampler = Sampler(sources, config.pictures.pairs)
        self.probe, self.look = make_probe(held_out, config), make_painter(config)
        self.depth = self.model.depth
        self._compiled = cache(self._compile)

    def init(self) -> PyTree:
        """Return the first weights: random ones, or those of `init`."""
        return start_params(self.config)

    def batches(self) -> Batches:
        """Return this host's share of the samples."""
        config = self.config
        return make_loader(
            self.sampler,
            size=config.pictures.pack_size,
            batch_size=config.batch_size,
            steps=config.steps,
            seed=config.seed,
            threads=config.pictures.threads,
        )

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


def find_sources(data: DataConfig, *, seed: int) -> tuple[list[Source], list[Source]]:
    """Return the pictures to train on, with pasted sprites, and the held-out ones.

    Raises:
        ValueError: if there is no data set, or not one of `names`, or it lacks a split.
    """
    folders = [folder for path in data.path for folder in open_folders(path)]
    if not folders:
        raise ValueError("no data: pass folders or zips of data sets with --data")
    if missing := sorted(set(data.names) - {folder.name for folder in folders}):
        raise ValueError(f"--data: no data set named {missing} in {', '.join(data.path)}")
    if data.names:
        folders = [folder for folder in folders if folder.name in data.names]
    sources: list[Source] = [*open_sources(folders)]
    held_out: list[Source] = [*open_sources(folders, split="val")]
    classes = sprite_classes(folders)
    if classes and data.sprites:
        sources.append(PastedSource(classes, tuple(sources), count=data.sprites, seed=seed))
    return sources, held_out


def start_params(config: TrainConfig) -> PyTree:
    """Return the first weights: random ones, or those of `init`."""
    model = config.seggpt
    if config.init:
        params = load_params(model, Path(config.init))
    else:
        params = jax.jit(lambda key: init_params(model, key))(jax.random.key(config.seed))
        if config.match_init:
            params = match_queries_keys(params)
    # A weakly typed one would become a strong one in the first step, and the second compile anew.
    return jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), params)


def draw_shots(config: TrainConfig, step: int) -> int:
    """Return how many examples the samples of a step have."""
    shots, shares = zip(*config.shots, strict=True)
    rng = np.random.default_rng((config.seed, step))
    return int(rng.choice(shots, p=np.asarray(shares) / sum(shares)))
