"""A prompt being learned: what its rounds are made of, and the context that comes of it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, PyTree

from incontext.context import Context, SegType
from incontext.passes import combine_passes
from incontext.squeeze import squeeze_image
from incontext.tuning.loop import Run, Update, View
from incontext.tuning.pictures import Pictures
from incontext.tuning.prompt import Kind, Palette, Prompt, round_half
from incontext.tuning.scores import Counts, count_pixels, no_counts
from incontext.tuning.step import join_started, make_step, make_view, start_one
from seggpt.canvas import denormalize, normalize


class Judge:
    """Scores prompts on pictures that are taken through the frozen part only once."""

    def __init__(
        self, prompt: Prompt, palette: Palette, params: PyTree, frozen: PyTree, pictures: Pictures
    ) -> None:
        self._palette = palette
        self._pictures = pictures
        self._frozen = frozen
        self._params = params
        size = prompt.config.image_size
        self._queries = [normalize(jnp.asarray(squeeze_image(i, size))) for i in pictures.images]
        self._prompt = prompt
        self._started: list[Any] = []
        self._expand = jax.jit(prompt.expand)
        self._start = jax.jit(partial(start_one, prompt))
        self._paint = jax.jit(self._paint_one)

    def counts(self, learned: PyTree) -> Counts:
        """Return what a prompt finds on all pictures."""
        arrays = self._expand(self._params, learned, self._frozen)
        if not self._started:
            self._started = [self._start(self._params, arrays, q) for q in self._queries]
        total = no_counts(len(self._pictures.labels))
        for query, started, slots in zip(
            self._queries, self._started, self._pictures.slots, strict=True
        ):
            rgb = np.asarray(self._paint(self._params, arrays, query, started))
            chances = self._combine(rgb)
            total += count_pixels(chances, slots, labels=self._pictures.labels)
        return total

    def _paint_one(self, params: PyTree, arrays: PyTree, query: jax.Array, started: Any) -> Any:
        stacked = jax.tree.map(lambda a: a[None], started)
        painted = self._prompt.finish(params, arrays, query[None], join_started(stacked))
        return jnp.clip(denormalize(painted.astype(jnp.float32)), 0, 1)

    def _combine(
        self, rgb: Float32[np.ndarray, "passes h w 3"]
    ) -> Float32[np.ndarray, "planes h w"]:
        return combine_passes(rgb, self._palette.passes, self._palette.colors)


@dataclass(frozen=True, kw_only=True)
class PromptRun(Run):
    """Learns a prompt for a model; `model` is its fingerprint."""

    prompt: Prompt
    palette: Palette
    params: PyTree
    frozen: PyTree
    judge: Judge
    model: str
    seg_type: SegType

    @property
    def kind(self) -> Kind:
        """What is learned."""
        return self.prompt.kind

    @property
    def view_numbers(self) -> int:
        """How many numbers a prepared view has."""
        passes, side = len(self.palette.passes), self.config.view_size
        side = side or self.prompt.config.image_size
        patches = (side // self.prompt.config.patch_size) ** 2
        # Two streams or a stream and taps, and the pixels with what the lookup found.
        taps = sum(tap < self.prompt.blocks for tap in self.prompt.config.taps)
        numbers = passes * patches * self.prompt.config.width * (2 + taps)
        return numbers + side**2 * (4 + 4 * passes)

    def cutter(self, learned: PyTree) -> Callable[[int, Array], View]:
        """Return what cuts a view and takes it as far as nothing is learned."""
        arrays = self._expand(self.params, learned, self.frozen)

        def cut(row: int, key: Array) -> View:
            image, slots = self.pictures.images[row], self.pictures.slots[row]
            return self._prepare(self.params, arrays, image, slots, key)

        return cut

    def updater(self) -> Update:
        """Return a compiled update."""
        step = make_step(self.prompt, self.palette, self.config)
        return lambda learned, moments, average, *rest: step(
            self.params, learned, moments, average, self.frozen, *rest
        )

    def counts(self, learned: PyTree) -> Counts:
        """Return what a prompt finds on the pictures that judge."""
        return self.judge.counts(learned)

    def context(self, learned: PyTree) -> Context:
        """Return a prompt as a context, rounded to what its file holds."""
        labels = self.pictures.labels
        arrays = jax.device_get(self._expand(self.params, learned, self.frozen))
        depth = self.prompt.config.depth
        # The squares in the lookup's keys reach thousands: 16 bits are too few for them.
        arrays = (*round_half(arrays[:depth]), *arrays[depth:])
        colors = {
            str(labels[slot - 1]): "#" + "".join(f"{round(255 * c):02x}" for c in color)
            for part in self.palette.passes
            for slot, color in zip(part, self.palette.colors[1:], strict=False)
        }
        return Context(
            labels=labels,
            passes=tuple(tuple(labels[slot - 1] for slot in part) for part in self.palette.passes),
            arrays=arrays,
            model=self.model,
            ensemble="feature",
            seg_type=self.seg_type,
            about={"colors": colors},
        )

    @cached_property
    def _prepare(self) -> Callable[..., View]:
        return make_view(self.prompt, self.config)

    @cached_property
    def _expand(self) -> Callable[..., PyTree]:
        return jax.jit(self.prompt.expand)
