"""What tasks on cached encoder features share."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import PyTree

from data.config import FeaturesConfig, PromptsConfig
from data.feature_cache import (
    FeatureCache,
    cache_name,
    count_views,
    is_cache,
    make_encode,
    open_cache,
    write_cache,
)
from data.folder import open_folders
from data.prefetch import prefetch
from data.records import PREPARED
from data.views.plan import Plan, PlanConfig
from seggpt.config import InContextConfig
from seggpt.errors import CheckpointError
from seggpt.in_context.model import InContextModel
from seggpt.pretrained import find_encoder, find_weights
from seggpt.weights import load_weights, save_weights
from seggpt.weights.encoder import LoadedEncoder, load_encoder
from seggpt.weights.graft import graft
from seggpt.weights.keys import Keys
from train.config import TrainConfig
from train.tasks.encoders import name_encoder

logger = logging.getLogger(__name__)

Batch = TypeVar("Batch")


class CachedTask:
    """An in-context model, its encoder, and the caches that it learns from."""

    def __init__(self, config: TrainConfig, mesh: jax.sharding.Mesh) -> None:
        """Open the caches.

        Raises:
            ValueError: if there is none, or one of another encoder than the recipe's.
        """
        del mesh  # features stay on the disk
        assert isinstance(config.model, InContextConfig)
        assert isinstance(config.data, FeaturesConfig | PromptsConfig)
        self.config, self.model = config, config.model
        data = config.data
        views = data.views if isinstance(data, FeaturesConfig) else None
        if config.remat and not config.train_encoder:
            raise ValueError("remat: only an encoder that learns is computed twice; leave it False")
        if len(data.path) != 1:
            more = " or of data sets" if views else " (data.feature_cache)"
            raise ValueError(f"--data: pass the folder of one feature cache{more}")
        self.encoder_path = find_encoder(data.encoder)
        self.encoder = load_encoder(self.encoder_path)
        if self.encoder.config != self.model.encoder:
            raise ValueError(f"data.encoder {data.encoder}: not the recipe's model.encoder")
        self.cache = self._open(find_cache(data.path[0], views, self.encoder_path, self.encoder))
        held_out: str | Path | None = data.held_out
        if views and not held_out:
            held_out = find_val_cache(data.path[0], views, self.encoder_path, self.encoder)
        self.held_out_cache = self._open(held_out) if held_out else None
        self.sets = sorted({name.source for name in self.cache.names if name.kind == "photo"})
        self.depth = self.model.depth
        self.graphdef, self.shapes = split_in_context(self.model)
        self.trained_before: set[str] = set()  # the data sets of `init`

    def _open(self, path: str | Path) -> FeatureCache:
        opened = open_cache(path)
        if opened.encoder != self.encoder.sha256:
            raise ValueError(
                f"{path}: features of the encoder with SHA-256 {opened.encoder}, and data.encoder "
                f"{self.encoder_path} has {self.encoder.sha256}; set encoder to that one, or give "
                "the data sets or a cache of this one (data.feature_cache --encoder)"
            )
        return opened

    def _check_rows(self, rows: set[int]) -> None:
        """Look whether batches of so many samples can be taken in parts and split over devices.

        Raises:
            ValueError: if `accumulate` does not divide them.
        """
        parts, devices = self.config.accumulate, jax.device_count()
        if wrong := sorted(count for count in rows if count % parts):
            raise ValueError(f"accumulate {parts} does not divide a batch of {wrong[0]} samples")
        if whole := sorted(count for count in rows if count % devices):
            logger.warning(
                "batches of %s samples do not divide among %d devices: each computes all of them",
                ", ".join(map(str, whole)),
                devices,
            )

    def read_init(self) -> dict[str, Any]:
        """Return the arrays of `init`, shipped weights by name or a file.

        Raises:
            CheckpointError: if there are none, or they cannot be read.
        """
        loaded = load_weights(find_weights(self.config.init))
        self.trained_before = {*filter(None, loaded.metadata.get("train_sets", "").split(","))}
        return dict(loaded.params)

    def graft(self, params: PyTree) -> PyTree:
        """Return loaded weights as the model's.

        Raises:
            CheckpointError: if their arrays are not the model's.
        """
        try:
            grafted = graft(self.shapes, params)
        except CheckpointError as error:
            raise CheckpointError(f"{self.config.init}: {error}") from error
        # A weakly typed one would become a strong one in the first step, and the second compile
        # anew.
        return jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), grafted)

    def save(self, path: Path, params: PyTree, metadata: dict[str, str]) -> None:
        """Write the weights; the encoder is named by its checksum, and linked beside them."""
        metadata = metadata | {
            "encoder": name_encoder(self.encoder_path, path.parent),
            "encoder_sha256": self.encoder.sha256,
        }
        metadata["train_sets"] = ",".join(sorted(self.trained_before.union(self.sets)))
        save_weights(path, params, config=self.model.to_dict(), metadata=metadata)


def find_cache(
    path: str | Path, views: PlanConfig | None, encoder_path: Path, encoder: LoadedEncoder
) -> Path:
    """Return the cache at a path, or that of the data sets there, which is written if need be.

    Raises:
        ValueError: if there is neither a cache nor a data set.
    """
    path = Path(path)
    if views is None or is_cache(path):
        return path
    folders = open_folders(path)
    target = path / PREPARED / cache_name(folders, views, encoder=encoder.sha256)
    plan = Plan(folders, views)
    if count_views(target) < len(plan.names):
        encode, checksum = make_encode(str(encoder_path))
        write_cache(target, plan, encode=encode, encoder=checksum)
    return target


def find_val_cache(
    path: str | Path, views: PlanConfig, encoder_path: Path, encoder: LoadedEncoder
) -> Path | None:
    """Return the cache of the data sets' split val, written if need be, if all have one."""
    if is_cache(path) or not all("val" in f.info.get("splits", {}) for f in open_folders(path)):
        return None
    return find_cache(path, replace(views, split="val", least=0), encoder_path, encoder)


def split_in_context(config: InContextConfig) -> tuple[nnx.GraphDef[InContextModel], PyTree]:
    """Return a model's structure and the shapes of its weights, without making them."""
    abstract = nnx.eval_shape(lambda: InContextModel(config, rngs=Keys(0)))
    graphdef, shapes = nnx.split(abstract, nnx.Param)
    return graphdef, nnx.as_pure(shapes)


class CachedBatches(Generic[Batch]):
    """The batches of a run in order, drawn ahead by a thread; a step's depends on it alone."""

    def __init__(self, draw: Callable[[int], Batch], *, steps: int) -> None:
        self.draw, self.steps, self.position = draw, steps, 0
        self.stream: Iterator[Batch] | None = None

    def __next__(self) -> Batch:
        if self.stream is None:
            self.stream = prefetch(self.draw, range(self.position, self.steps))
        batch = next(self.stream)
        self.position += 1
        return batch

    def get_state(self) -> dict[str, int]:
        """Return the step to draw next."""
        return {"step": self.position}

    def set_state(self, state: dict[str, int], /) -> None:
        """Go on from a step."""
        self.position, self.stream = state["step"], None
