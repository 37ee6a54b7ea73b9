"""The smallest image encoder that an in-context model can stand on, and such a model."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float32, UInt8

from data.feature_cache import write_cache
from data.views.plan import Plan
from seggpt.config import EncoderConfig, InContextConfig
from seggpt.encoder import Encoder
from seggpt.in_context.model import InContextModel
from seggpt.weights.encoder import LoadedEncoder
from seggpt.weights.files import save_weights


def tiny_encoder(**changes: Any) -> EncoderConfig:
    fields: dict[str, Any] = {"width": 32, "depth": 2, "heads": 2, "pos_grid": (4, 4)}
    fields |= {"taps": (0, 1, 1)}
    return EncoderConfig(**(fields | changes))


def tiny_in_context(**changes: Any) -> InContextConfig:
    fields: dict[str, Any] = {"encoder": tiny_encoder(), "width": 32, "depth": 2, "heads": 4}
    return InContextConfig(**(fields | changes))


def save_tiny_encoder(path: Path, **changes: Any) -> Encoder:
    """Write the weights of an encoder that knows nothing, and return it."""
    config = tiny_encoder(**changes)
    encoder = Encoder(config, rngs=nnx.Rngs(0))
    save_weights(path, nnx.as_pure(nnx.state(encoder, nnx.Param)), config=config.to_dict())
    return encoder


def fresh_in_context(config: InContextConfig) -> Any:
    """Return an in-context model's first weights, without what an encoder says of positions."""
    params = nnx.as_pure(nnx.state(InContextModel(config, rngs=nnx.Rngs(0)), nnx.Param))
    return jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), params)  # no weak types


def write_noise_cache(path: Path, plan: Plan, encoder: LoadedEncoder) -> None:
    """Write a cache that an encoder could have made: fixed functions of each token's colours."""
    config = encoder.config
    grid = plan.config.look.size // config.patch_size
    weights = np.random.default_rng(0).normal(size=(3, 3 * config.width))

    def encode(images: UInt8[np.ndarray, "b h w 3"]) -> Float32[np.ndarray, "b n f"]:
        cells = images.reshape(len(images), grid, config.patch_size, grid, config.patch_size, 3)
        means = cells.mean(axis=(2, 4)).reshape(len(images), grid**2, 3) / 128 - 1
        return np.sin(3 * means @ weights).astype(np.float32)

    write_cache(path, plan, encode=encode, encoder=encoder.sha256)
