"""What was learned beside a prompt: small nets that correct what the model paints by it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np
from jaxtyping import Array, Float, Float32, PyTree, UInt8

from incontext.detail import resize_planes
from incontext.squeeze import squeeze_image
from seggpt.adapter import STRIDE, adapt
from seggpt.canvas import normalize
from seggpt.config import SegGPTConfig

LOOK = 3  # times the model's size: the side of what an adapter looks at


@dataclass(frozen=True, eq=False)
class Adaptation:
    """The weights of some adapters, and the side of the squares that they look at."""

    size: int
    members: tuple[PyTree, ...]

    def correct(
        self,
        pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]],
        chances: Sequence[Float32[np.ndarray, "planes gh gw"]],
    ) -> list[Float32[np.ndarray, "planes s s"]]:
        """Return corrected probabilities of pictures, on a finer grid.

        With several adapters it is the mean of what they say and of what was painted; every second
        one looks in a mirror.
        """
        images = np.stack([squeeze_image(picture, self.size) for picture in pictures])
        rows = np.stack([resize_planes(planes, (self.size, self.size)) for planes in chances])
        painted = rows.transpose(0, 2, 3, 1)
        looks = [
            np.asarray(_look(params, images, painted, mirrored=bool(number % 2)))
            for number, params in enumerate(self.members)
        ]
        voices = [*looks, painted] if len(looks) > 1 else looks
        return list(np.mean(voices, axis=0).transpose(0, 3, 1, 2))


def adapter_size(config: SegGPTConfig) -> int:
    """Return the side of the squares that an adapter for a model looks at."""
    return strides(LOOK * config.image_size)


def strides(side: int) -> int:
    """Return the least side at least as large that an adapter can look at."""
    return -(-side // STRIDE) * STRIDE


@partial(jax.jit, static_argnames="mirrored")
def _look(
    params: PyTree,
    images: Float[Array, "b s s 3"],
    chances: Float[Array, "b s s planes"],
    *,
    mirrored: bool,
) -> Float[Array, "b s s planes"]:
    """Return corrected probabilities."""
    turn = -1 if mirrored else 1
    pixels = normalize(images[:, :, ::turn])
    return jax.nn.softmax(adapt(params, pixels, chances[:, :, ::turn]))[:, :, ::turn]
