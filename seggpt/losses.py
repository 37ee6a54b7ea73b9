"""Smooth L1 between painted and true colours, with weights of pixels."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def smooth_l1(
    predicted: Float[Array, "*b 3"],
    target: Float[Array, "*b 3"],
    weights: Float[Array, "*b"],
    *,
    beta: float | Float[Array, ""],
) -> Float[Array, ""]:
    """Average smooth L1 over channels and weighted pixels, in normalised colours.

    The published models use a beta of 0.01, in effect L1 (models_seggpt.py, `forward_loss`).
    """
    error = jnp.abs(predicted.astype(jnp.float32) - target.astype(jnp.float32))
    loss = jnp.where(error < beta, 0.5 * error**2 / beta, error - 0.5 * beta).mean(axis=-1)
    return (loss * weights).sum() / jnp.maximum(weights.sum(), 1e-6)


def balanced_weights(
    labels: Int[Array, "*b h w"],
    valid: Bool[Array, "*b h w"],
    *,
    classes: int,
    floor: float,
    power: float | Float[Array, ""] = 1.0,
) -> Float[Array, "*b h w"]:
    """Weigh pixels by the inverse share of their label in the picture, with a mean of 1.

    A power of 1 makes every label count alike, 0 every pixel. A share is taken as at least
    `floor`, so that a few pixels do not outweigh the rest. Without any of this, L1 paints
    everything unsure as background: the median.
    """
    one_hot = (labels[..., None] == jnp.arange(classes + 1)) & valid[..., None]
    share = one_hot.mean(axis=(-3, -2), keepdims=True)
    weights = (one_hot / jnp.maximum(share, floor) ** power).sum(axis=-1)
    mean = weights.mean(axis=(-2, -1), keepdims=True)
    return weights / jnp.maximum(mean, 1e-6)
