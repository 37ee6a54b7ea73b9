"""Two numbers that mix a part, a thing and a group of things into the mask of an example."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Float32

# persam_f.py of PerSAM's authors; the weight decay is torch's default.
_STEPS, _RATE, _EPSILON, _DECAY = 1000, 1e-3, 1e-4, 0.01
_FOCAL_ALPHA, _FOCAL_GAMMA = 0.25, 2.0


def tune_mixing(
    logits: Float32[np.ndarray, "3 h w"], mask: Bool[np.ndarray, "h w"], *, steps: int = _STEPS
) -> Float32[np.ndarray, " 3"]:
    """Return the weights, of sum 1, with which three masks together are most like the example's."""
    weights = _tune(jnp.asarray(logits), jnp.asarray(mask, jnp.float32), steps=steps)
    return np.asarray(weights)


@partial(jax.jit, static_argnames="steps")
def _tune(
    logits: Float[Array, "3 h w"], mask: Float[Array, "h w"], *, steps: int
) -> Float[Array, " 3"]:
    schedule = optax.cosine_decay_schedule(_RATE, steps)
    optimizer = optax.adamw(schedule, eps=_EPSILON, weight_decay=_DECAY)

    def step(_: Array, state: tuple[Array, optax.OptState]) -> tuple[Array, optax.OptState]:
        free, momenta = state
        gradient = jax.grad(lambda free: mixing_loss(_complete(free), logits, mask))(free)
        updates, momenta = optimizer.update(gradient, momenta, free)
        return jnp.asarray(optax.apply_updates(free, updates)), momenta

    free = jnp.full(2, 1 / 3)
    return _complete(jax.lax.fori_loop(0, steps, step, (free, optimizer.init(free)))[0])


def mixing_loss(
    weights: Float[Array, " 3"], logits: Float[Array, "3 h w"], mask: Float[Array, "h w"]
) -> Float[Array, ""]:
    """Return the dice loss plus the focal loss of the mixed mask."""
    mixed = jnp.einsum("c,chw->hw", weights, logits)
    probability = jax.nn.sigmoid(mixed)
    dice = 1 - (2 * (probability * mask).sum() + 1) / (probability.sum() + mask.sum() + 1)
    right = jnp.where(mask > 0, probability, 1 - probability)
    balance = jnp.where(mask > 0, _FOCAL_ALPHA, 1 - _FOCAL_ALPHA)
    surprise = optax.sigmoid_binary_cross_entropy(mixed, mask)
    return dice + (balance * (1 - right) ** _FOCAL_GAMMA * surprise).mean()


def _complete(free: Float[Array, " 2"]) -> Float[Array, " 3"]:
    """Add the weight that the other two leave, in front."""
    return jnp.concatenate([1 - free.sum(keepdims=True), free])
