"""Placement of arrays: batches split over devices, large parameters too (FSDP)."""

from functools import partial
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

MIN_SPLIT = 2**18  # numbers; smaller parameters are kept whole on every device
ROWS = PartitionSpec(("data", "fsdp"))  # samples are split over all devices


def make_mesh(fsdp: int = 0) -> Mesh:
    """Return a mesh of all devices: `fsdp` of them share one copy of the parameters, 0 for all.

    Raises:
        ValueError: if that does not divide the devices.
    """
    devices = jax.device_count()
    fsdp = fsdp or devices
    if fsdp < 0 or devices % fsdp:
        raise ValueError(f"fsdp {fsdp} does not divide the {devices} devices")
    shape, auto = (devices // fsdp, fsdp), (AxisType.Auto, AxisType.Auto)
    return jax.make_mesh(shape, ("data", "fsdp"), axis_types=auto)


def shard_params(tree: PyTree, mesh: Mesh) -> PyTree:
    """Return the sharding of every leaf: its longest divisible axis is split if it is large."""

    def rule(leaf: jax.Array | jax.ShapeDtypeStruct) -> NamedSharding:
        size = mesh.shape["fsdp"]
        axes = [i for i, n in enumerate(leaf.shape) if n % size == 0]
        if size == 1 or leaf.size < MIN_SPLIT or not axes:
            return NamedSharding(mesh, PartitionSpec())
        longest = max(axes, key=lambda i: leaf.shape[i])
        return NamedSharding(mesh, PartitionSpec(*(None,) * longest, "fsdp"))

    return jax.tree.map(rule, tree)


def keep_sharded(tree: PyTree, mesh: Mesh) -> PyTree:
    """Inside a compiled function, have a state leave as it lies by the rule of `shard_params`."""
    if mesh.size == 1:
        return tree
    return jax.lax.with_sharding_constraint(tree, shard_params(tree, mesh))


Placed = TypeVar("Placed")  # a pytree of arrays


def place(tree: PyTree, shardings: PyTree) -> Any:
    """Put whole arrays, the same ones in every process, on devices."""

    def put(array: jax.Array | np.ndarray, sharding: NamedSharding) -> jax.Array:
        if jax.process_count() == 1:
            return jax.device_put(array, sharding)
        whole = np.asarray(array)
        return jax.make_array_from_callback(whole.shape, sharding, lambda part: whole[part])

    return jax.tree.map(put, tree, shardings)


def put_batch(batch: Placed, mesh: Mesh, *, rows: int) -> Placed:
    """Put a batch of so many samples on the devices, split along the first axis.

    A process gives its share of the samples. Where they do not divide among the devices, every
    process gives all of them, and so every device gets all.
    """
    if rows % mesh.size:
        return jax.tree.map(partial(replicate, mesh=mesh), batch)
    sharding = NamedSharding(mesh, ROWS)
    return jax.tree.map(partial(jax.make_array_from_process_local_data, sharding), batch)


def own_rows(rows: int) -> range:
    """Return which samples of a batch this process draws: all if they do not divide."""
    if rows % jax.device_count():
        return range(rows)
    share = rows // jax.process_count()
    return range(jax.process_index() * share, (jax.process_index() + 1) * share)


def replicate(array: jax.Array | np.ndarray, mesh: Mesh) -> jax.Array:
    """Put a whole array on every device."""
    return place(array, NamedSharding(mesh, PartitionSpec()))
