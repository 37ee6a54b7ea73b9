"""The interface between the training loop and a task."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import optax
from jax import Array
from jaxtyping import PyTree
from PIL import Image

from train.state import TrainState

Step = Callable[[TrainState, PyTree], tuple[TrainState, dict[str, Array]]]


@runtime_checkable  # tests check annotations
class Batches(Protocol):
    """An endless, checkpointable stream of batches: numpy arrays with samples first."""

    def __next__(self) -> PyTree: ...

    def get_state(self) -> Any:
        """Return where the stream stands, as JSON can hold it."""

    def set_state(self, state: Any, /) -> None:
        """Go to where a stream stood."""


@runtime_checkable
class Task(Protocol):
    """One kind of training run."""

    @property
    def sets(self) -> list[str]:
        """The names of the data sets that are trained on."""
        ...

    @property
    def depth(self) -> int:
        """Blocks of what is trained, for rates by depth."""
        ...

    def init(self) -> PyTree:
        """Return the first weights, float32."""

    def rows(self, number: int) -> int:
        """Return how many samples the batch of a step has, those of all hosts together."""
        ...

    def batches(self) -> Batches:
        """Return this host's batches (`train.sharding.own_rows`) from the first step on."""
        ...

    def names(self, number: int, batch: PyTree) -> list[str]:
        """Name the samples of a step in this host's batch, for whoever looks for a bad one."""
        ...

    def step(self, number: int, optimizer: optax.GradientTransformation) -> Step:
        """Return the compiled update for a step; its state is donated."""
        ...

    def evaluate(self, params: PyTree) -> tuple[dict[str, float], Callable[[], Image.Image]] | None:
        """Score weights on held-out samples, the same at every call; the second draws them."""

    def save(self, path: Path, params: PyTree, metadata: dict[str, str]) -> None:
        """Write a file of weights that `from_pretrained` takes."""
