"""What networks on a frozen encoder share: a linear layer, unit features, encodings of places."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float


class Dense(nnx.Module):
    """A linear layer as one matrix product over all tokens."""

    def __init__(self, inputs: int, outputs: int, *, scale: float = 1.0, rngs: nnx.Rngs) -> None:
        init = nnx.initializers.variance_scaling(scale**2 / 3, "fan_in", "uniform")
        self.kernel = nnx.Param(init(rngs.params(), (inputs, outputs), jnp.float32))
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(self, feats: Float[Array, "*b c"]) -> Float[Array, "*b o"]:
        """Apply the layer to the last axis."""
        rows = feats.reshape(-1, feats.shape[-1]) @ self.kernel[...] + self.bias[...]
        return rows.reshape(*feats.shape[:-1], -1)


def unit(feats: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
    """Scale to length 1, in float32."""
    feats = feats.astype(jnp.float32)
    return feats * jax.lax.rsqrt(jnp.maximum(jnp.square(feats).sum(-1, keepdims=True), 1e-24))


def place_waves(grid: tuple[int, int], width: int) -> Float[np.ndarray, "n d"]:
    """Return sines and cosines of relative coordinates, for any grid, row by row."""
    y, x = np.meshgrid(*((np.arange(extent) + 0.5) / extent for extent in grid), indexing="ij")
    frequencies = np.exp(np.linspace(0, math.log(40.0), width // 4)) * math.pi / 2
    waves = [wave(a[..., None] * frequencies) for a in (y, x) for wave in (np.sin, np.cos)]
    return (0.3 * np.concatenate(waves, axis=-1)).reshape(-1, width).astype(np.float32)
