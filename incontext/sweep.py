"""Many single-point prompts on one picture, sifted before their masks are made large.

What depends on the picture alone is computed once (`seggpt.prompts.transformer`). The predicted IoU
of a mask needs none of its pixels, so only prompts with a mask that is good enough are drawn, and
of the model's square only the part that the picture fills. Masks that are steady enough as drawn
are brought to the size of the picture (`incontext.enlarge`), where the exact stability decides.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from incontext.enlarge import Enlarger
from incontext.promptable import EncodedImage, Promptable
from seggpt.prompts import FOREGROUND, PADDING
from seggpt.sam import SAM

# Prompts that a CPU works on at a time: their tokens stay in its cache (ViT-B's heads: a third less
# time than with 64). An accelerator takes a whole batch.
_CPU_CHUNK = 4
# The stability of a coarse mask differs from that of the full one. In coarse masks of at least
# `_FEW` pixels it is trusted to be this near; smaller ones are always looked at in full.
_NEAR, _FEW = 0.1, 64


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """A mask in the size of its picture or crop."""

    mask: Bool[np.ndarray, "h w"]
    point: int
    iou: float
    stability: float


@dataclass(frozen=True)
class Sieve:
    """Which masks are good enough: those above an IoU, and of at least a stability."""

    iou: float
    stability: float
    offset: float


class Sweep:
    """The compiled program for one model."""

    def __init__(self, model: Promptable) -> None:
        self._params = model.params
        self._draw = jax.jit(partial(_draw, model.graphdef), static_argnames=("shape", "chunk"))
        self._grid = model.config.grid
        self._chunk = _CPU_CHUNK if model.device.platform == "cpu" else 0

    def run(
        self,
        state: EncodedImage,
        points: Float[np.ndarray, "n 2"],
        sieve: Sieve,
        *,
        batch: int,
    ) -> Iterator[Found]:
        """Yield what points (x, y) in pixels of the picture find, in their order."""
        enlarger = Enlarger(state.frame, grid=self._grid)
        chunk = min(self._chunk or batch, batch)
        coords = np.zeros((len(points), 2, 2), np.float32)
        coords[:, 0] = state.frame.place(points)
        for start in range(0, len(points), batch):
            part = coords[start : start + batch]
            low, *measured = self._draw(
                self._params,
                state.embedding,
                np.concatenate([part, np.repeat(part[-1:], -len(part) % chunk, axis=0)]),
                sieve.iou,
                sieve.offset,
                enlarger.inner,
                shape=enlarger.shape,
                chunk=chunk,
            )
            scores, inside, around = (np.asarray(a)[: len(part)] for a in measured)
            steady = (inside >= (sieve.stability - _NEAR) * around) | (around < _FEW)
            prompts, which = np.nonzero((scores > sieve.iou) & steady)
            masks = enlarger.masks(low, prompts, which, offset=sieve.offset)
            for prompt, place, (mask, stability) in zip(prompts, which, masks, strict=True):
                if stability >= sieve.stability:
                    yield Found(
                        mask=mask,
                        point=start + int(prompt),
                        iou=float(scores[prompt, place]),
                        stability=stability,
                    )


Drawn = tuple[Float[Array, "p 3 h w"], Float[Array, "p 3"], Int[Array, "p 3"], Int[Array, "p 3"]]


def _draw(
    graphdef: nnx.GraphDef[SAM],
    params: Any,
    embedding: Float[Array, "1 gh gw d"],
    coords: Float[Array, "p 2 2"],
    iou: Float[Array, ""] | float,
    offset: Float[Array, ""] | float,
    inner: Int[Array, " 2"],
    *,
    shape: tuple[int, int],
    chunk: int,
) -> Drawn:
    """Return three masks of each prompt, their scores, and their pixels above and below the edge.

    Only `shape` (rows, columns) of patches are drawn, and counted only as far as `inner`, in
    pixels of a mask. Of chunks in which no score exceeds `iou` the masks are zero.
    """
    model = nnx.merge(graphdef, params)

    def draw(tokens: Array, image: Array) -> tuple[Array, Array, Array]:
        gh, gw = embedding.shape[1:3]
        rows, cols = shape
        part = image.reshape(len(image), gh, gw, -1)[:, :rows, :cols]
        part = part.reshape(len(image), rows * cols, -1)
        low = model.mask_decoder.masks(tokens, part, shape=shape)[:, 1:]
        return low, *_count(low, inner, offset)

    def work(coords: Float[Array, "chunk 2 2"]) -> Drawn:
        # SAM's padding point follows every point.
        labels = jnp.broadcast_to(jnp.array([FOREGROUND, PADDING]), coords.shape[:2])
        tokens, image = model.look(embedding, coords, labels)
        scores = model.mask_decoder.scores(tokens)[:, 1:]
        nothing = jax.tree.map(jnp.zeros_like, jax.eval_shape(draw, tokens, image))
        low, *counts = jax.lax.cond((scores > iou).any(), draw, lambda *_: nothing, tokens, image)
        return low, scores, *counts

    chunks = jax.lax.map(work, coords.reshape(-1, chunk, 2, 2))
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), chunks)


def _count(
    low: Float[Array, "p 3 h w"], inner: Int[Array, " 2"], offset: Float[Array, ""] | float
) -> tuple[Int[Array, "p 3"], Int[Array, "p 3"]]:
    """Count the pixels above `offset` and above `-offset`, in the upper left part of `inner`."""
    height, width = low.shape[-2:]
    part = (jnp.arange(height) < inner[0])[:, None] & (jnp.arange(width) < inner[1])
    inside, around = (((low > level) & part).sum(axis=(-2, -1)) for level in (offset, -offset))
    return inside, around
