"""What was learned beside a prompt: small nets that correct what the model paints by it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np
from jaxtyping import Array, Float, Float32, PyTree, UInt8

from incontext.detail import resize_planes
from incontext.packing import packed_bytes
from incontext.squeeze import squeeze_image
from seggpt.adapter import STRIDE, adapt
from seggpt.canvas import normalize
from seggpt.config import SegGPTConfig

LOOK = 3  # times the model's size: the side of what an adapter looks at
LOOKS = 3  # of the model at a picture: by the prompt, large and plain, by its example, large


@dataclass(frozen=True, eq=False)
class Adaptation:
    """Adapters and what they correct.

    Attributes:
        size: Side of the squares that they look at.
        members: The weights of each; without any, what was painted stays.
        example: A picture as small as the model sees it, and the slots of its labels: adapters are
            told what is painted by it alone, too.
        share: Weight of the mean look in the answer; the adapters' mean has the rest.
    """

    size: int
    members: tuple[PyTree, ...]
    example: tuple[UInt8[np.ndarray, "s s 3"], UInt8[np.ndarray, "s s"]] | None = None
    share: float = 0.0

    def correct(
        self,
        pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]],
        *looks: Sequence[Float32[np.ndarray, "planes _ _"]],
    ) -> list[Float32[np.ndarray, "planes s s"]]:
        """Return corrected probabilities of pictures, on a finer grid.

        Each of `looks` is what was painted on all of them. The answer is the mean of what adapters
        say, of which every second one looks in a mirror, and by `share` the mean look.
        """
        images = np.stack([squeeze_image(picture, self.size) for picture in pictures])
        painted = stack_looks(looks, self.size)
        told = painted.transpose(0, 3, 4, 1, 2)
        answers = [
            np.asarray(_look(params, images, told, mirrored=bool(number % 2)))
            for number, params in enumerate(self.members)
        ]
        looked = painted.mean(axis=1)
        if not answers:
            return list(looked)
        said = np.mean(answers, axis=0).transpose(0, 3, 1, 2)
        return list(mix(said, looked, self.share))


def mix(
    said: Float32[np.ndarray, "*shape"], looked: Float32[np.ndarray, "*shape"], share: float
) -> Float32[np.ndarray, "*shape"]:
    """Return what adapters say, and by a share of it what was painted."""
    return (1 - share) * said + share * looked


def stack_looks(
    looks: Sequence[Sequence[Float32[np.ndarray, "planes _ _"]]], size: int
) -> Float32[np.ndarray, "n looks planes s s"]:
    """Return what was painted in several looks at pictures, as large as adapters look at it."""
    rows = [[resize_planes(planes, (size, size)) for planes in look] for look in looks]
    return np.stack(rows, axis=1)


def beside_bytes(config: SegGPTConfig, planes: int, count: int) -> int:
    """Return what `count` adapters and an example take in a prompt's file, at most."""
    return packed_bytes(planes, LOOKS, count) + 4 * config.image_size**2


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
    chances: Float[Array, "b s s looks planes"],
    *,
    mirrored: bool,
) -> Float[Array, "b s s planes"]:
    """Return corrected probabilities."""
    turn = -1 if mirrored else 1
    pixels = normalize(images[:, :, ::turn])
    return jax.nn.softmax(adapt(params, pixels, chances[:, :, ::turn]))[:, :, ::turn]
