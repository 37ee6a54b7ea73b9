"""What tasks on decoded pictures share."""

import jax
import numpy as np

from data.config import DataConfig
from data.folder import open_folders
from data.loader import make_loader
from data.pairs import Sampler
from data.pictures import Source, open_sources
from data.synthetic import PastedSource, sprite_classes
from train.config import TrainConfig
from train.tasks.task import Batches


class PicturesTask:
    """Samples of pictures that are decoded when their turn comes."""

    def __init__(self, config: TrainConfig, mesh: jax.sharding.Mesh) -> None:
        """Find the pictures.

        Raises:
            ValueError: if there are none, or the batch does not fit the devices.
        """
        self.config = config
        if config.batch_size % mesh.size:
            raise ValueError(
                f"batch_size {config.batch_size} is not a multiple of the {mesh.size} devices"
            )
        sources, self.held_out = find_sources(config.pictures, seed=config.seed)
        self.sets = [source.name for source in sources]
        self.sampler = Sampler(sources, config.pictures.pairs)

    def rows(self, number: int) -> int:
        """Return how many samples a step has."""
        del number
        return self.config.batch_size

    def names(self, number: int, batch: dict[str, np.ndarray]) -> list[str]:
        """Say of every sample which pictures of its source it shows, counted from 0."""
        del number
        names = []
        for pictures in batch["pictures"]:
            found = [self.sampler.find(int(picture)) for picture in pictures]
            names.append(f"{found[0][0].name} {[place for _, place in found]}")
        return names

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
