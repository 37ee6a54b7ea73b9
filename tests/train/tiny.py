"""The smallest models, recipes and batches that training tests can use."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from data.config import DataConfig, PairsConfig
from data.folder import open_folders
from data.pairs import Sampler, collate
from data.pictures import FolderSource, open_sources
from seggpt.config import Attention, SegGPTConfig
from tests.data.drawn import write_drawn_dataset
from tests.tiny_models import SIDE, tiny_seggpt
from train.config import OptimConfig, TrainConfig

SIZE = SIDE


def tiny_model(attention: Attention = "prefix", **changes: Any) -> SegGPTConfig:
    return tiny_seggpt(attention, **({"width": 32, "heads": 2} | changes))


def tiny_config(model: SegGPTConfig | None = None, **changes: Any) -> TrainConfig:
    fields = {"model": model or tiny_model(), "steps": 4, "batch_size": 4}
    fields["data"] = DataConfig(pack_size=SIZE, sprites=0, pairs=PairsConfig(min_area=0.01))
    fields["optim"] = OptimConfig(warmup=0)
    return TrainConfig(**(fields | changes))


def tiny_sources(root: Path, *, split: str = "train") -> list[FolderSource]:
    if not (root / "drawn").exists():
        write_drawn_dataset(root, name="drawn", pictures=8, size=32)
    return open_sources(open_folders(root), split=split)


def tiny_batch(sources: Sequence[FolderSource], config: TrainConfig) -> dict[str, jax.Array]:
    sampler, rng = Sampler(sources, config.pictures.pairs), np.random.default_rng(0)
    drawn = [sampler.draw(rng, progress=0.0) for _ in range(config.batch_size)]
    batch = collate([sampler.load(sample, config.pictures.pack_size) for sample in drawn])
    return {name: jnp.asarray(array) for name, array in batch.items()}


def named(tree: object) -> dict[str, np.ndarray]:
    """Return a tree's leaves by their path."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(p, simple=True, separator="/"): np.asarray(a) for p, a in leaves}
