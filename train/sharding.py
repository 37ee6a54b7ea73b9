"""Placement of arrays: batches split over devices, large parameters too (FSDP)."""

from functools import partial
from typing import TypeVar

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

MIN_SPLIT = 2**18  # numbers; smaller parameters are kept whole on every device


def make_mesh() -> Mesh:
    """Return a mesh of all devices along one axis, `data`."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def shard_params(tree: PyTree, mesh: Mesh) -> PyTree:
    """Return the sharding of every leaf: its longest divisible axis is split if it is large."""

    def rule(leaf: jax.Array | jax.ShapeDtypeStruct) -> NamedSharding:
        size = mesh.shape["data"]
        axes = [i for i, n in enumerate(leaf.shape) if n % size == 0]
        if size == 1 or leaf.size < MIN_SPLIT or not axes:
            return NamedSharding(mesh, PartitionSpec())
        longest = max(axes, key=lambda i: leaf.shape[i])
        return NamedSharding(mesh, PartitionSpec(*(None,) * longest, "data"))

    return jax.tree.map(rule, tree)


Batch = TypeVar("Batch")  # a pytree of arrays with samples first


def put_batch(batch: Batch, mesh: Mesh) -> Batch:
    """Put this host's share of a batch on its devices, split along the first axis.

    Raises:
        ValueError: if the global batch does not divide among the devices.
    """
    rows = len(jax.tree.leaves(batch)[0]) * jax.process_count()
    if rows % mesh.shape["data"]:
        raise ValueError(f"batch_size {rows} is not a multiple of the {mesh.size} devices")
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    return jax.tree.map(partial(jax.make_array_from_process_local_data, sharding), batch)


def replicate(array: jax.Array | np.ndarray, mesh: Mesh) -> jax.Array:
    """Put a whole array on every device."""
    return jax.device_put(array, NamedSharding(mesh, PartitionSpec()))
