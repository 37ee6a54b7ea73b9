"""Non-maximum suppression of boxes."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

_SMALLEST = 64


def suppress(
    boxes: Float[np.ndarray, "n 4"], scores: Float[np.ndarray, " n"], *, most_iou: float
) -> Int[np.ndarray, " kept"]:
    """Return the indices to keep, best first: none overlaps a better one by more than `most_iou`.

    Numbers are rounded up to a power of two, so that few programs serve all.
    """
    order = np.argsort(-scores, kind="stable")
    count = len(order)
    if not count:
        return order
    room = max(_SMALLEST, 1 << (count - 1).bit_length())
    padded = np.zeros((room, 4), np.float32)
    padded[:count] = boxes[order]
    keep = _suppress(jnp.asarray(padded), jnp.asarray(count), jnp.asarray(most_iou))
    return order[np.asarray(keep)[:count]]


@jax.jit
def _suppress(
    boxes: Float[Array, "n 4"], count: Int[Array, ""], most_iou: Float[Array, ""]
) -> Bool[Array, " n"]:
    """Go through boxes from the best on; memory grows with their number, not its square."""
    index = jnp.arange(len(boxes))
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])

    def step(i: Array, keep: Array) -> Array:
        low = jnp.maximum(boxes[i, :2], boxes[:, :2])
        high = jnp.minimum(boxes[i, 2:], boxes[:, 2:])
        shared = jnp.prod(jnp.maximum(high - low, 0), axis=1)
        # Not a quotient: two boxes without area do not overlap.
        worse = (shared > most_iou * (areas[i] + areas - shared)) & (index > i)
        return jnp.where(keep[i], keep & ~worse, keep)

    return jax.lax.fori_loop(0, count, step, jnp.ones(len(boxes), bool))
