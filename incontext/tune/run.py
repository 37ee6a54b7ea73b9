"""A prompt in training: model, images, scores, and its context."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, PyTree

from incontext.device import compile_for
from incontext.examples.context import Context
from incontext.examples.passes import combine_passes
from incontext.examples.squares import to_square
from incontext.options import SegType
from incontext.tune.config import TuneConfig
from incontext.tune.pictures import Pictures
from incontext.tune.prompt import Palette, Prompt, round_half
from incontext.tune.scores import Counts, count_pixels, no_counts
from incontext.tune.step import make_step
from seggpt.canvas import denormalize, normalize


@dataclass(frozen=True, kw_only=True)
class Run:
    """Everything that stays the same while a prompt is learned.

    Attributes:
        pictures: What is learned from.
        held: What judges.
        params: The model's weights.
        model: The fingerprint of the weights.
    """

    config: TuneConfig
    pictures: Pictures
    held: Pictures
    prompt: Prompt
    palette: Palette
    params: PyTree
    model: str
    seg_type: SegType

    def update(
        self, learned: PyTree, moments: PyTree, average: PyTree, *rest: PyTree
    ) -> tuple[PyTree, PyTree, PyTree, Array]:
        """Take a step of `make_step`."""
        return self._step(self.params, learned, moments, average, *rest)

    def counts(self, learned: PyTree) -> Counts:
        """Return what a prompt finds on the pictures that judge."""
        arrays = self._expand(self.params, learned)
        total = no_counts(len(self.held.labels))
        for query, class_ids in zip(self._queries, self.held.class_ids, strict=True):
            rgb = np.asarray(self._paint(self.params, arrays, query))
            probabilities = combine_passes(rgb, self.palette.passes, self.palette.colors)
            total += count_pixels(probabilities, class_ids, labels=self.held.labels)
        return total

    def context(self, learned: PyTree) -> Context:
        """Return a prompt as a context, rounded to what its file holds."""
        labels = self.pictures.labels
        arrays = round_half(self._expand(self.params, learned))
        colors = {
            str(labels[class_id - 1]): "#" + "".join(f"{round(255 * c):02x}" for c in color)
            for part in self.palette.passes
            for class_id, color in zip(part, self.palette.colors[1:], strict=False)
        }
        return Context(
            labels=labels,
            passes=tuple(
                tuple(labels[class_id - 1] for class_id in part) for part in self.palette.passes
            ),
            arrays=arrays,
            model=self.model,
            ensemble="feature",
            seg_type=self.seg_type,
            about={"colors": colors},
        )

    @cached_property
    def _queries(self) -> list[Float32[Array, "s s 3"]]:
        size = self.prompt.config.image_size
        return [normalize(jnp.asarray(to_square(i, size))) for i in self.held.images]

    @cached_property
    def _step(self) -> Callable[..., tuple[PyTree, PyTree, PyTree, Array]]:
        return make_step(self.prompt, self.palette, self.config)

    @cached_property
    def _expand(self) -> Callable[..., PyTree]:
        return compile_for(Prompt.expand, self.prompt)

    @cached_property
    def _paint(self) -> Callable[..., Float[Array, "passes s s 3"]]:
        return compile_for(_paint_one, self.prompt)


def _paint_one(
    prompt: Prompt, params: PyTree, arrays: PyTree, query: Float[Array, "s s 3"]
) -> Float[Array, "passes s s 3"]:
    painted = prompt.paint(params, arrays, query[None])
    return jnp.clip(denormalize(painted.astype(jnp.float32)), 0, 1)
