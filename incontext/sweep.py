"""Many single-point prompts on one picture: decoded in large batches, sifted before they are drawn.

What depends on the picture alone is computed once (`seggpt.prompts.transformer`). The predicted IoU
of a mask needs none of its pixels, so only prompts with a mask that is good enough are drawn; only
masks that are stable enough as drawn, at a sixteenth of the model's pixels, are brought to the size
of the picture, where the exact stability decides. Full-size logits exist for a few masks at a time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, UInt8

from incontext.promptable import EncodedImage, Promptable
from seggpt.prompts import FOREGROUND, PADDING
from seggpt.sam import SAM

DRAWN = 16  # prompts drawn at a time
# The stability of a coarse mask differs from that of the full one. In coarse masks of at least
# `_FEW` pixels it is trusted to be this near; smaller ones are always looked at in full.
_NEAR, _FEW = 0.1, 64
_FULL_VALUES = 1 << 24  # full-size logits at a time: 64 MiB
_STEP_PX = 256  # sizes are rounded up to it, so that few programs serve all pictures


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
    """The compiled programs for one model."""

    def __init__(self, model: Promptable) -> None:
        self._params = model.params
        self._look = jax.jit(partial(_look, model.graphdef))
        self._draw = jax.jit(partial(_draw, model.graphdef))
        self._side = model.config.mask_size

    def run(
        self,
        state: EncodedImage,
        points: Float[np.ndarray, "n 2"],
        sieve: Sieve,
        *,
        batch: int,
    ) -> Iterator[Found]:
        """Yield what points (x, y) in pixels of the picture find, in their order."""
        enlarge = _Enlarger(state, self._side, sieve.offset)
        coords = np.zeros((len(points), 2, 2), np.float32)
        coords[:, 0] = state.frame.place(points)
        for start in range(0, len(points), batch):
            part = coords[start : start + batch]
            filled = np.concatenate([part, np.repeat(part[-1:], batch - len(part), axis=0)])
            tokens, image, scores = self._look(self._params, state.embedding, filled)
            scores = np.asarray(scores)[: len(part)]
            for chosen, low, rows, which in self._drawn(
                tokens, image, scores > sieve.iou, sieve, enlarge.inner
            ):
                masks = enlarge(low, rows, which)
                for prompt, place, (mask, stability) in zip(
                    chosen[rows], which, masks, strict=True
                ):
                    if stability >= sieve.stability:
                        yield Found(
                            mask=mask,
                            point=start + int(prompt),
                            iou=float(scores[prompt, place]),
                            stability=stability,
                        )

    def _drawn(
        self,
        tokens: Array,
        image: Array,
        good: Bool[np.ndarray, "p 3"],
        sieve: Sieve,
        inner: Int[np.ndarray, " 2"],
    ) -> Iterator[tuple[np.ndarray, Float[Array, "p 3 m m"], np.ndarray, np.ndarray]]:
        """Yield prompts, their masks' logits, and the rows and columns of good, steady masks."""
        prompts = np.flatnonzero(good.any(axis=1))
        for start in range(0, len(prompts), DRAWN):
            chosen = prompts[start : start + DRAWN]
            filled = np.resize(chosen, DRAWN)
            low, inside, around = self._draw(
                self._params, tokens, image, filled, inner, sieve.offset
            )
            inside, around = np.asarray(inside), np.asarray(around)
            steady = inside >= (sieve.stability - _NEAR) * around
            kept = good[chosen] & (steady | (around < _FEW))[: len(chosen)]
            rows, which = np.nonzero(kept)
            if len(rows):
                yield chosen, low, rows, which


class _Enlarger:
    """Brings coarse logits to the size of a picture: masks and their exact stability."""

    def __init__(self, state: EncodedImage, side: int, offset: float) -> None:
        self._size, self._offset = state.size, offset
        matrices = state.frame.upsampling(side)
        # Rounded up: the rows and columns beyond the picture are told apart by its size.
        self._rows, self._cols = (
            jnp.asarray(np.pad(a, ((0, -len(a) % _STEP_PX), (0, 0)))) for a in matrices
        )
        self._chunk = max(1, _FULL_VALUES // (len(self._rows) * len(self._cols)))
        self._chunk = 1 << min(4, self._chunk.bit_length() - 1)
        # The part of a coarse mask that lies in the picture.
        self.inner = np.ceil(np.asarray(state.frame.inner) * side / state.frame.side).astype(int)

    def __call__(
        self,
        low: Float[Array, "p 3 m m"],
        rows: Int[np.ndarray, " k"],
        which: Int[np.ndarray, " k"],
    ) -> Iterator[tuple[Bool[np.ndarray, "h w"], float]]:
        """Yield the masks at rows and columns of `low`, each with its stability."""
        height, width = self._size
        size = np.array(self._size)
        for start in range(0, len(rows), self._chunk):
            # A short last chunk is filled up, so that one compiled program serves all.
            picked = [np.resize(a[start : start + self._chunk], self._chunk) for a in (rows, which)]
            found = _enlarge(low, *picked, self._rows, self._cols, size, self._offset)
            bits, inside, around = (np.asarray(a) for a in found)
            for index in range(min(self._chunk, len(rows) - start)):
                mask = np.unpackbits(bits[index], axis=-1)[:height, :width].astype(bool)
                yield mask, float(inside[index] / around[index]) if around[index] else 0.0


def _look(
    graphdef: nnx.GraphDef[SAM],
    params: Any,
    embedding: Float[Array, "1 gh gw d"],
    coords: Float[Array, "p 2 2"],
) -> tuple[Float[Array, "p t d"], Float[Array, "p n d"], Float[Array, "p 3"]]:
    """Do all that needs no pixels; a point is followed by SAM's padding point."""
    model = nnx.merge(graphdef, params)
    labels = jnp.broadcast_to(jnp.array([FOREGROUND, PADDING]), coords.shape[:2])
    tokens, image = model.look(embedding, coords, labels)
    return tokens, image, model.mask_decoder.scores(tokens)[:, 1:]


def _draw(
    graphdef: nnx.GraphDef[SAM],
    params: Any,
    tokens: Float[Array, "p t d"],
    image: Float[Array, "p n d"],
    chosen: Int[Array, " k"],
    inner: Int[Array, " 2"],
    offset: Float[Array, ""] | float,
) -> tuple[Float[Array, "k 3 m m"], Int[Array, "k 3"], Int[Array, "k 3"]]:
    """Draw three masks of the chosen prompts, and count their pixels above and below the edge."""
    model = nnx.merge(graphdef, params)
    grid = model.config.grid
    low = model.mask_decoder.masks(tokens[chosen], image[chosen], shape=(grid, grid))[:, 1:]
    return low, *_counts(low, inner, offset)


@jax.jit
def _enlarge(
    low: Float[Array, "p 3 m m"],
    prompts: Int[Array, " k"],
    which: Int[Array, " k"],
    rows: Float[Array, "h m"],
    cols: Float[Array, "w m"],
    size: Int[Array, " 2"],
    offset: Float[Array, ""] | float,
) -> tuple[UInt8[Array, "k h bytes"], Int[Array, " k"], Int[Array, " k"]]:
    logits = rows @ low[prompts, which] @ cols.T
    return jnp.packbits(logits > 0, axis=-1), *_counts(logits, size, offset)


def _counts(
    logits: Float[Array, "*b h w"], size: Int[Array, " 2"], offset: Float[Array, ""] | float
) -> tuple[Int[Array, "*b"], Int[Array, "*b"]]:
    """Count the pixels above `offset` and above `-offset`, in the upper left part of `size`."""
    height, width = logits.shape[-2:]
    part = (jnp.arange(height) < size[0])[:, None] & (jnp.arange(width) < size[1])
    inside, around = (((logits > level) & part).sum(axis=(-2, -1)) for level in (offset, -offset))
    return inside, around
