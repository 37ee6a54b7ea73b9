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
    """Adapters and what they correct.

    Attributes:
        size: Side of the squares that they look at.
        members: The weights of each; without any, what was painted stays.
        example: A picture as small as the model sees it, and the slots of its labels: what is
            painted by it alone is averaged with what the prompt paints.
    """

    size: int
    members: tuple[PyTree, ...]
    example: tuple[UInt8[np.ndarray, "s s 3"], UInt8[np.ndarray, "s s"]] | None = None

    def correct(
        self,
        pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]],
        *looks: Sequence[Float32[np.ndarray, "planes gh gw"]],
    ) -> list[Float32[np.ndarray, "planes s s"]]:
        """Return corrected probabilities of pictures, on a finer grid.

        `looks` are what was painted on all of them, once or more; their mean is corrected.
        With several adapters it is the mean of what they say and of what was painted; every second
        one looks in a mirror.
        """
        images = np.stack([squeeze_image(picture, self.size) for picture in pictures])
        sides = (self.size, self.size)
        rows = [[resize_planes(planes, sides) for planes in look] for look in looks]
        painted = np.mean(rows, axis=0).transpose(0, 2, 3, 1)
        answers = [
            np.asarray(_look(params, images, painted, mirrored=bool(number % 2)))
            for number, params in enumerate(self.members)
        ]
        voices = answers if len(answers) == 1 else [*answers, painted]
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
