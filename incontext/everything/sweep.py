"""Batched decoding of many prompts on one image, filtered before masks are upsampled.

What depends on the picture alone is computed once (`seggpt.prompts.transformer`). The predicted IoU
of a mask needs none of its pixels, so only prompts with a mask that is good enough are drawn, and
of the model's square only the part that the picture fills. Masks that are steady enough as drawn
are brought to the size of the picture (`incontext.everything.upsample`), where the exact stability
decides.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from incontext.everything.upsample import Enlarger
from incontext.prompts.engine import Looked, PromptEngine
from incontext.prompts.promptable import EncodedImage, Promptable
from seggpt.prompts import ABSENT, Slots

# Prompts that a CPU works on at a time: their tokens stay in its cache (ViT-B's heads: a third less
# time than with 64). An accelerator takes a whole batch.
_CPU_CHUNK = 4
# The stability of a coarse mask differs from that of the full one. In coarse masks of at least
# `_FEW` pixels it is trusted to be this near; smaller ones are always looked at in full.
_NEAR, _FEW = 0.1, 64


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """A mask in the size of its picture or crop, and which prompt asked for it."""

    mask: Bool[np.ndarray, "h w"]
    prompt: int
    iou: float
    stability: float


@dataclass(frozen=True)
class Sieve:
    """Which masks are good enough: those above an IoU, and of at least a stability."""

    iou: float
    stability: float
    offset: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Coarse:
    """What a batch of prompts draws, in pixels of the model's masks.

    Attributes:
        start: Which prompt is the first.
        low: Logits of the part that the picture fills; what follows the last prompt is zero.
        scores: The IoU that the model expects.
        inside: How many pixels exceed the sieve's offset.
        around: How many exceed it below zero.
    """

    start: int
    low: Float[Array, "batch c h w"]
    scores: Float[np.ndarray, "p c"]
    inside: Int[np.ndarray, "p c"]
    around: Int[np.ndarray, "p c"]

    def pick(self, sieve: Sieve) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " k"]]:
        """Return of which prompts which masks may be good enough."""
        steady = self.inside >= (sieve.stability - _NEAR) * self.around
        prompts, which = np.nonzero((self.scores > sieve.iou) & (steady | (self.around < _FEW)))
        return prompts, which


class Sweep:
    """The compiled program for one model."""

    def __init__(self, model: Promptable) -> None:
        self._params = model.engine.params
        self._draw = jax.jit(
            partial(_draw, model.engine), static_argnames=("shape", "chunk", "multimask")
        )
        self._chunk = _CPU_CHUNK if model.device.platform == "cpu" else 0

    def enlarger(self, state: EncodedImage) -> Enlarger:
        """Prepare what brings coarse masks of a picture to its size."""
        return Enlarger(state.frame, cell=state.cell, patch=state.patch)

    def run(
        self, state: EncodedImage, prompts: Slots, sieve: Sieve, *, batch: int, multimask: bool
    ) -> Iterator[Found]:
        """Yield what prompts find, in their order; `multimask` as in `Promptable.predict`."""
        enlarger = self.enlarger(state)
        for coarse in self.coarse(
            state, prompts, sieve, enlarger=enlarger, batch=batch, multimask=multimask
        ):
            rows, which = coarse.pick(sieve)
            masks = enlarger.masks(coarse.low, rows, which, offset=sieve.offset)
            for row, place, (mask, stability) in zip(rows, which, masks, strict=True):
                if stability >= sieve.stability:
                    yield Found(
                        mask=mask,
                        prompt=coarse.start + int(row),
                        iou=float(coarse.scores[row, place]),
                        stability=stability,
                    )

    def coarse(
        self,
        state: EncodedImage,
        prompts: Slots,
        sieve: Sieve,
        *,
        enlarger: Enlarger,
        batch: int,
        multimask: bool,
    ) -> Iterator[Coarse]:
        """Yield what prompts draw, batch by batch; where no score is good enough it is zero."""
        chunk = min(self._chunk or batch, batch)
        room = -(-batch // chunk) * chunk
        for start in range(0, len(prompts.labels), batch):
            labels = prompts.labels[start : start + batch]
            count = len(labels)
            # The last batch is filled up, so that one compiled program serves all numbers.
            rest = ((0, room - count), (0, 0))
            low, *measured = self._draw(
                self._params,
                state.embedding,
                np.pad(prompts.coords[start : start + batch], (*rest, (0, 0))),
                np.pad(labels, rest, constant_values=ABSENT),
                -(-count // chunk),
                sieve.iou,
                sieve.offset,
                enlarger.inner,
                shape=enlarger.shape,
                chunk=chunk,
                multimask=multimask,
            )
            scores, inside, around = (np.asarray(a)[:count] for a in measured)
            yield Coarse(start=start, low=low, scores=scores, inside=inside, around=around)


Drawn = tuple[Float[Array, "p c h w"], Float[Array, "p c"], Int[Array, "p c"], Int[Array, "p c"]]


def _draw(
    engine: PromptEngine,
    params: PyTree,
    embedding: PyTree,
    coords: Float[Array, "p s 2"],
    labels: Int[Array, "p s"],
    chunks: Int[Array, ""] | int,
    iou: Float[Array, ""] | float,
    offset: Float[Array, ""] | float,
    inner: Int[Array, " 2"],
    *,
    shape: tuple[int, int],
    chunk: int,
    multimask: bool,
) -> Drawn:
    """Return the masks of each prompt, their scores, and their pixels above and below the edge.

    Only `shape` (rows, columns) of patches are drawn, and counted only as far as `inner`, in
    pixels of a mask. Of chunks in which no score exceeds `iou` the masks are zero, and so is all
    that follows the first `chunks` chunks, which is no work.
    """
    some = slice(1, None) if multimask else slice(0, 1)

    def draw(found: Looked) -> tuple[Array, Array, Array]:
        low = engine.draw(params, embedding, found, part=shape)[:, some]
        return low, *_count(low, inner, offset)

    def work(coords: Float[Array, "chunk s 2"], labels: Int[Array, "chunk s"]) -> Drawn:
        found = engine.look(params, embedding, coords, labels)
        scores = engine.scores(params, found)[:, some]
        nothing = jax.tree.map(jnp.zeros_like, jax.eval_shape(draw, found))
        low, *counts = jax.lax.cond((scores > iou).any(), draw, lambda _: nothing, found)
        return low, scores, *counts

    drawn = _map_first(
        work,
        coords.reshape(-1, chunk, *coords.shape[1:]),
        labels.reshape(-1, chunk, *labels.shape[1:]),
        count=chunks,
    )
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), drawn)


def _map_first(work: Callable[..., Any], *arrays: Array, count: Int[Array, ""] | int) -> Any:
    """Do as `jax.lax.map` for the first `count` along all arrays' first axis; the rest is zero."""

    def step(index: Array, results: Any) -> Any:
        result = work(*(a[index] for a in arrays))
        return jax.tree.map(lambda whole, part: whole.at[index].set(part), results, result)

    one = jax.eval_shape(work, *(a[0] for a in arrays))
    nothing = jax.tree.map(lambda a: jnp.zeros((len(arrays[0]), *a.shape), a.dtype), one)
    return jax.lax.fori_loop(0, count, step, nothing)


def _count(
    low: Float[Array, "p c h w"], inner: Int[Array, " 2"], offset: Float[Array, ""] | float
) -> tuple[Int[Array, "p c"], Int[Array, "p c"]]:
    """Count the pixels above `offset` and above `-offset`, in the upper left part of `inner`."""
    height, width = low.shape[-2:]
    part = (jnp.arange(height) < inner[0])[:, None] & (jnp.arange(width) < inner[1])
    inside, around = (((low > level) & part).sum(axis=(-2, -1)) for level in (offset, -offset))
    return inside, around
