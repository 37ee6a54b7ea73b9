"""Which directions of an encoder's features carry positions: what a blind matching goes without."""

from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, PyTree

from seggpt.config import EncoderConfig
from seggpt.encoder import Encoder
from seggpt.weights.keys import Keys

DIRECTIONS = 24  # of each layer
BLANK_SIDE = 32  # tokens along a side of the contentless images that tell them


def position_directions(config: EncoderConfig, params: PyTree) -> list[Array]:
    """Return for each layer the directions that carry positions: (DIRECTIONS, width), orthonormal.

    They are the strongest of the mean over images without content, blank and of noise; the idea
    is INSID3's (arXiv 2603.28480).
    """
    rng = np.random.default_rng(0)
    side = BLANK_SIDE * config.patch_size
    shape = (side, side, 3)
    blank = [np.full(shape, value) for value in (0.0, 0.25, 0.485, 0.75, 1.0)]
    noise = [np.clip(0.5 + 0.15 * rng.standard_normal(shape), 0, 1) for _ in range(6)]
    graphdef, _ = nnx.split(nnx.eval_shape(lambda: Encoder(config, rngs=Keys(0))), nnx.Param)

    @jax.jit
    def encode(params: PyTree, image: Array) -> list[Array]:
        return [layer[0] for layer in nnx.merge(graphdef, params)(image).layers]

    images = [jnp.asarray(image[None], jnp.float32) for image in [*blank, *noise]]
    layers = zip(*(encode(params, image) for image in images), strict=True)
    totals = [reduce(jnp.add, own) for own in layers]
    centred = [total - total.mean(axis=0) for total in totals]
    return [jnp.linalg.svd(a, full_matrices=False)[2][:DIRECTIONS] for a in centred]
