"""What was learned beside a prompt: a small net that corrects what the model paints by it."""

from collections.abc import Sequence
from dataclasses import dataclass

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
    """The weights of an adapter, and the side of the squares that it looks at."""

    size: int
    params: PyTree

    def correct(
        self,
        pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]],
        chances: Sequence[Float32[np.ndarray, "planes gh gw"]],
    ) -> list[Float32[np.ndarray, "planes s s"]]:
        """Return corrected probabilities of pictures, on a finer grid."""
        images = np.stack([squeeze_image(picture, self.size) for picture in pictures])
        rows = np.stack([resize_planes(planes, (self.size, self.size)) for planes in chances])
        corrected = _correct(self.params, images, rows.transpose(0, 2, 3, 1))
        return list(np.asarray(corrected).transpose(0, 3, 1, 2))


def adapter_size(config: SegGPTConfig) -> int:
    """Return the side of the squares that an adapter for a model looks at."""
    return strides(LOOK * config.image_size)


def strides(side: int) -> int:
    """Return the least side at least as large that an adapter can look at."""
    return -(-side // STRIDE) * STRIDE


@jax.jit
def _correct(
    params: PyTree, images: Float[Array, "b s s 3"], chances: Float[Array, "b s s planes"]
) -> Float[Array, "b s s planes"]:
    return jax.nn.softmax(adapt(params, normalize(images), chances))
