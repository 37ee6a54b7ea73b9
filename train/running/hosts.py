"""What the processes of a run on several hosts must agree on."""

import os
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

COORDINATOR, COUNT, NUMBER = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"


def connect() -> None:
    """Connect the processes of one run; before anything else is asked of jax.

    On Slurm, Open MPI, Kubernetes and Cloud TPU jax finds the others by itself; elsewhere three
    variables of the environment say where the first one is, how many there are and which this is.

    Raises:
        ValueError: if they are not all set, or not numbers, or the others are not found.
    """
    given = {name: os.environ.get(name, "") for name in (COORDINATOR, COUNT, NUMBER)}
    try:
        if any(given.values()):
            count, number = int(given[COUNT]), int(given[NUMBER])
            jax.distributed.initialize(given[COORDINATOR], count, number)
        else:
            jax.distributed.initialize()
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"--distributed: {error}; outside of a known cluster set {COORDINATOR}=HOST:PORT, "
            f"{COUNT} and {NUMBER} in every process"
        ) from error


def is_first() -> bool:
    """Tell whether this process writes what one alone must write."""
    return jax.process_index() == 0


def wait_for_all(name: str) -> None:
    """Wait until every process is here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def to_host(tree: PyTree) -> PyTree:
    """Return arrays that may be split over processes whole, as numpy; all processes must call."""
    if jax.process_count() == 1:
        return jax.tree.map(np.asarray, tree)
    return multihost_utils.process_allgather(tree, tiled=True)


class Agreement:
    """Lets all processes act on a signal that one of them got at the same step."""

    def __init__(self, mesh: Mesh) -> None:
        self.alone = jax.process_count() == 1
        self.mesh = mesh
        whole = NamedSharding(mesh, PartitionSpec())
        self._most = jax.jit(lambda flags: flags.max(), out_shardings=whole)
        self._asked: Any = None

    def __call__(self, received: int) -> int:
        """Return the highest number that any process gave in the call before; alone, this one's.

        The answer comes a step late so that nobody waits for the step in hand.
        """
        if self.alone:
            return received
        rows = NamedSharding(self.mesh, PartitionSpec(self.mesh.axis_names))
        flags = np.full(jax.local_device_count(), received, np.int32)
        asked, self._asked = (
            self._asked,
            self._most(jax.make_array_from_process_local_data(rows, flags)),
        )
        return int(asked) if asked is not None else 0
