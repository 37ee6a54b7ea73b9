"""The kinds of learned prompts: pixels, tokens, or keys and values.

`expand` makes of what is learned the arrays that a `Context` holds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, PyTree

from incontext.examples.contents import Encoded, Pixels, Tokens
from incontext.examples.painting import paint_by
from seggpt.canvas import normalize
from seggpt.config import SegGPTConfig
from seggpt.model import SegGPT
from seggpt.palette import IGNORE, paint, palette

Kind = Literal["pixels", "tokens", "cache"]


@dataclass(frozen=True)
class Palette:
    """Which labels are painted together and in which colours.

    `class_ids` numbers labels from 1 in the order of a label map; `passes` holds those numbers.
    """

    passes: tuple[tuple[int, ...], ...]

    @property
    def colors(self) -> np.ndarray:
        """RGB in 0..1 of the background and of each place in a pass."""
        return palette(max(len(part) for part in self.passes))

    def places(self) -> Int[np.ndarray, "passes 256"]:
        """Return for each pass a table from label numbers to places; 255 stays ignored."""
        table = np.zeros((len(self.passes), 256), np.int32)
        table[:, IGNORE] = IGNORE
        for row, part in zip(table, self.passes, strict=True):
            for place, class_id in enumerate(part, 1):
                row[class_id] = place
        return table

    def targets(self, class_ids: Int[Array, "*b h w"]) -> Float[Array, "p *b h w 3"]:
        """Paint label maps once for each pass, in the model's units."""
        places = jnp.asarray(self.places())[:, class_ids]
        return normalize(paint(places, jnp.asarray(self.colors)))


@dataclass(frozen=True)
class Prompt:
    """Pure functions of a kind of prompt for one model.

    Attributes:
        config: The model's.
        kind: What is learned.
        pairs: How many image and target pairs there are.
        type_id: The type token's number.
    """

    graphdef: nnx.GraphDef[SegGPT]
    config: SegGPTConfig
    kind: Kind
    pairs: int
    type_id: int

    def start(
        self,
        params: PyTree,
        images: Float[Array, "p e h w 3"],
        targets: Float[Array, "p e h w 3"],
    ) -> PyTree:
        """Return what is learned as it is for these example pairs."""
        if self.kind == "pixels":
            return images, targets
        model = nnx.merge(self.graphdef, params)
        tokens = model.embed(images, targets, kind=self._kinds(len(images)))
        if self.kind == "tokens":
            return tokens
        return model.encode_tokens(tokens, examples=self.pairs, shape=self._shape)

    def expand(self, params: PyTree, learned: PyTree) -> Encoded | Pixels | Tokens:
        """Return the arrays of a `Context`."""
        if self.kind == "cache":
            return Encoded(learned)
        if self.config.attention == "mutual":
            return Tokens(*jnp.split(learned, 2)) if self.kind == "tokens" else Pixels(*learned)
        model = nnx.merge(self.graphdef, params)
        tokens = learned
        if self.kind == "pixels":
            tokens = model.embed(*learned, kind=self._kinds(len(learned[0])))
        return Encoded(model.encode_tokens(tokens, examples=self.pairs, shape=self._shape))

    def paint(
        self,
        params: PyTree,
        arrays: Encoded | Pixels | Tokens,
        queries: Float[Array, "b h w 3"],
        *,
        remat: bool = False,
    ) -> Float[Array, "bp h w 3"]:
        """Paint queries in all passes."""
        model = nnx.merge(self.graphdef, params)
        arrays, queries = _spread(arrays, queries)
        return paint_by(model, arrays, queries, kind=self._kinds(len(queries)), remat=remat)

    @property
    def _shape(self) -> tuple[int, int]:
        return self.config.grid, self.config.grid

    def _kinds(self, rows: int) -> Int[Array, " b"]:
        return jnp.full(rows, self.type_id)


def random_pairs(key: Array, shape: Sequence[int]) -> tuple[Array, Array]:
    """Return noise in place of an image and a target, in the model's units."""
    key_image, key_target = jax.random.split(key)
    return jax.random.normal(key_image, tuple(shape)), jax.random.normal(key_target, tuple(shape))


def round_half(arrays: PyTree) -> PyTree:
    """Round to what 16 bits hold, so that scores are those of the file."""
    return jax.tree.map(lambda a: np.asarray(a).astype(np.float16).astype(np.float32), arrays)


def _spread(arrays: PyTree, queries: Array) -> tuple[Any, Array]:
    """Give each query all passes: rows are queries, then passes."""
    passes = jax.tree.leaves(arrays)[0].shape[0]
    b = len(queries)

    def one(a: Array) -> Array:
        return jnp.broadcast_to(a, (b, *a.shape)).reshape(-1, *a.shape[1:])

    return jax.tree.map(one, arrays), jnp.repeat(queries, passes, axis=0)
