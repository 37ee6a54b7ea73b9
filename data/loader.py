"""Batches of samples: grain draws, decodes, shards by host and remembers where it stands."""

import grain
import jax
import numpy as np

from data.pairs import Loaded, Sample, Sampler, collate

AHEAD = 4  # batches that are made before they are asked for


class _Draw(grain.transforms.RandomMap):
    """Turn a position in the endless stream into a sample."""

    def __init__(self, sampler: Sampler, total: int) -> None:
        self.sampler = sampler
        self.total = total

    def random_map(  # pyright: ignore[reportIncompatibleMethodOverride]: grain's returns nothing
        self, element: int, rng: np.random.Generator
    ) -> Sample:
        """Draw the sample at a position; the mixture moves with it."""
        return self.sampler.draw(rng, progress=min(1.0, element / self.total))


class _Load(grain.transforms.Map):
    """Decode a sample's pictures."""

    def __init__(self, sampler: Sampler, size: int) -> None:
        self.sampler = sampler
        self.size = size

    def map(  # pyright: ignore[reportIncompatibleMethodOverride]: grain's returns nothing
        self, element: Sample
    ) -> Loaded:
        """Decode them."""
        return self.sampler.load(element, self.size)


def make_loader(
    sampler: Sampler, *, size: int, batch_size: int, steps: int, seed: int, threads: int
) -> grain.DatasetIterator:
    """Return a checkpointable iterator over `steps` batches of this host's share.

    Pictures are decoded to squares of `size` by threads, a few batches ahead.

    Raises:
        ValueError: if the batch does not divide among the hosts.
    """
    hosts, host = jax.process_count(), jax.process_index()
    if batch_size % hosts:
        raise ValueError(f"batch_size {batch_size} is not a multiple of the {hosts} hosts")
    total = steps * batch_size
    stream = grain.MapDataset.range(total).seed(seed).random_map(_Draw(sampler, total))
    # Of every `batch_size` samples each host takes those that lie side by side.
    stream = stream.map(_Load(sampler, size)).batch(batch_size // hosts, batch_fn=collate)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(AHEAD, threads))
    return iter(stream[host::hosts].to_iter_dataset(options))
