"""What tasks on decoded pictures share."""

import jax
import numpy as np

from data.config import DataConfig
from data.folder import open_folders
from data.loader import make_loader
from data.pack import Pack, join, pack_folders
from data.pairs import Sampler
from data.synthetic import paste_sprites, sprite_classes
from train.config import TrainConfig
from train.sharding import replicate
from train.tasks.task import Batches


class PicturesTask:
    """Samples drawn from pictures in memory."""

    def __init__(self, config: TrainConfig, mesh: jax.sharding.Mesh) -> None:
        """Decode the pictures.

        Raises:
            ValueError: if there are none, or the batch does not fit the devices.
        """
        self.config = config
        if config.batch_size % mesh.size:
            raise ValueError(
                f"batch_size {config.batch_size} is not a multiple of the {mesh.size} devices"
            )
        pack, self.held_out = load_packs(config.pictures, seed=config.seed)
        self.sets = [source.name for source in pack.sources]
        self.sources, self.sampler = pack.sources, Sampler(pack, config.pictures.pairs)
        self.images, self.ids = replicate(pack.images, mesh), replicate(pack.ids, mesh)

    def rows(self, number: int) -> int:
        """Return how many samples a step has."""
        del number
        return self.config.batch_size

    def names(self, number: int, batch: dict[str, np.ndarray]) -> list[str]:
        """Say of every sample which pictures of its source it shows, counted from 0."""
        del number
        names = []
        for pictures in batch["pictures"]:
            source = next(s for s in reversed(self.sources) if s.start <= pictures[0])
            names.append(f"{source.name} {(pictures - source.start).tolist()}")
        return names

    def batches(self) -> Batches:
        """Return this host's share of the samples."""
        config = self.config
        return make_loader(
            self.sampler, batch_size=config.batch_size, steps=config.steps, seed=config.seed
        )


def load_packs(data: DataConfig, *, seed: int) -> tuple[Pack, Pack]:
    """Decode the training pictures, with pasted sprites, and the held-out ones.

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
    pack = pack_folders(folders, size=data.pack_size)
    held_out = pack_folders(folders, size=data.pack_size, split="val")
    classes = sprite_classes(folders)
    if classes and data.sprites:
        pasted = paste_sprites(classes, pack.images, count=data.sprites, seed=seed)
        pack = join([pack, pasted])
    return pack, held_out
