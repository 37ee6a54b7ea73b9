"""Random keys for a model's first weights."""

import jax
from flax import nnx
from jaxtyping import Array, Key


class Keys(nnx.Rngs):
    """Draws as `nnx.Rngs` does, but counts in Python.

    While a model is traced, flax's counter is an array of the trace, and JAX spells out where it
    comes from each time it is raised: most of the time that a model's shapes would take.
    """

    def __init__(self, seed: int | Key[Array, ""]) -> None:
        super().__init__()
        self.key = jax.random.key(seed) if isinstance(seed, int) else seed
        self.count = 0

    def params(self) -> Key[Array, ""]:
        """Return the next key."""
        self.count += 1
        return jax.random.fold_in(self.key, self.count - 1)
