"""The loop: rounds of views and updates, a look at held-out pictures after each, the best kept."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, PyTree

from incontext.passes import combine_passes
from incontext.squeeze import squeeze_image
from incontext.tuning.config import RATES, TuneConfig
from incontext.tuning.pictures import Pictures
from incontext.tuning.prompt import Palette, Prompt
from incontext.tuning.scores import Counts, count_pixels, no_counts
from incontext.tuning.step import (
    ADAM,
    WARMUP,
    View,
    join_started,
    make_step,
    make_view,
    start_one,
)
from seggpt.canvas import denormalize, normalize
from seggpt.errors import PromptError

Ending = Literal["steps", "patience", "minutes", "interrupted"]


@dataclass(frozen=True)
class Progress:
    """Where a run stands, for a live line."""

    step: int
    steps: int
    loss: float
    before: float
    now: float
    best: float
    seconds_left: float


@dataclass
class RunState:
    """What a round starts from; numbers and arrays that a file can hold."""

    learned: PyTree
    moments: PyTree
    average: PyTree  # of what was learned so far, the last steps most: what is judged and kept
    best: PyTree
    round: int = 0
    best_score: float = -1.0
    best_round: int = 0
    history: list[tuple[int, float, float]] = field(default_factory=list)  # step, loss, IoU


@dataclass(frozen=True)
class Ended:
    """How a run ended, and the best prompt it met."""

    state: RunState
    ending: Ending


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


@dataclass(frozen=True)
class Run:
    """Everything that stays the same while a prompt is learned."""

    prompt: Prompt
    palette: Palette
    params: PyTree
    frozen: PyTree
    pictures: Pictures
    judge: Judge
    config: TuneConfig
    steps: int

    def begin(self, learned: PyTree) -> RunState:
        """Return the state before the first round."""
        return RunState(learned, ADAM.init(learned), learned, learned)

    def learn(
        self,
        state: RunState,
        *,
        before: float,
        tell: Callable[[Progress], None],
        keep: Callable[[RunState], None],
        deadline: float,
    ) -> Ended:
        """Run rounds until the steps are done, nothing improves, time is up or Ctrl-C.

        `keep` is given the state after each round, to save it. What a round sees depends on the
        seed and its number alone, so that a run that goes on equals one that never stopped.

        Raises:
            PromptError: at a loss that is not finite.
        """
        step = make_step(self.prompt, self.palette, self.config)
        prepare, expand = make_view(self.prompt, self.config), jax.jit(self.prompt.expand)
        per_round = self.round_steps
        started, first = time.monotonic(), state.round * per_round
        copy = partial(jax.tree.map, jnp.copy)
        try:
            while (done := state.round * per_round) < self.steps:
                if state.round - state.best_round >= self.config.patience:
                    return Ended(state, "patience")
                rng = np.random.default_rng([self.config.seed, 3, state.round])
                arrays = expand(self.params, state.learned, self.frozen)
                pool = self._views(prepare, arrays, rng, deadline)
                learned, moments, average = map(copy, (state.learned, state.moments, state.average))
                losses: list[float] = []
                for number, index in enumerate(self._order(rng, len(pool[0])), done):
                    if time.monotonic() > deadline or number >= self.steps:
                        break
                    rate, share = jnp.float32(self._rate(number)), jnp.float32(self._keep(number))
                    learned, moments, average, loss = step(
                        self.params,
                        learned,
                        moments,
                        average,
                        self.frozen,
                        pool,
                        index,
                        rate,
                        share,
                    )
                    losses.append(_finite(float(loss), number + 1))
                    spent = time.monotonic() - started
                    left = spent / (number + 1 - first) * (self.steps - number - 1)
                    now = state.history[-1][2] if state.history else before
                    left = min(left, max(deadline - time.monotonic(), 0))
                    best = max(state.best_score, 0.0)
                    tell(Progress(number + 1, self.steps, losses[-1], before, now, best, left))
                if losses:
                    self._judge(state, (learned, moments, average), done + len(losses), losses)
                    if done + len(losses) == min(self.steps, state.round * per_round):
                        keep(state)  # a round cut short is learned again by a run that goes on
                if time.monotonic() > deadline:
                    return Ended(state, "minutes")
        except KeyboardInterrupt:
            return Ended(state, "interrupted")
        return Ended(state, "steps")

    @property
    def round_views(self) -> int:
        """How many views are prepared together: as many as memory allows."""
        passes, side = len(self.palette.passes), self.config.view_size
        side = side or self.prompt.config.image_size
        patches = (side // self.prompt.config.patch_size) ** 2
        # Two streams or a stream and taps, and the pixels with what the lookup found.
        taps = sum(tap < self.prompt.blocks for tap in self.prompt.config.taps)
        numbers = passes * patches * self.prompt.config.width * (2 + taps)
        numbers += side**2 * (4 + 4 * passes)
        batch = self.config.batch_size
        fit = min(self.config.views, self.config.pool_bytes // (4 * numbers))
        return max(batch, fit // batch * batch)

    @property
    def round_steps(self) -> int:
        """How many updates a round has."""
        return self.round_views * self.config.reuse // self.config.batch_size

    def _rate(self, number: int) -> float:
        """Return the learning rate: a short warm-up, half a cosine to zero."""
        peak = self.config.lr or RATES[self.prompt.kind]
        return (
            peak
            * min(1.0, (number + 1) / WARMUP)
            * 0.5
            * (1 + float(np.cos(np.pi * number / self.steps)))
        )

    def _keep(self, number: int) -> float:
        """Return how much of the average stays at a step: less at first, when it is of few."""
        return min(self.config.average, (1 + number) / (4 + number))

    def _views(
        self,
        prepare: Callable[..., View],
        arrays: PyTree,
        rng: np.random.Generator,
        deadline: float,
    ) -> View:
        """Cut a round's views, from every picture about as often."""
        total = self.round_views
        rows = np.concatenate(
            [rng.permutation(len(self.pictures)) for _ in range(-(-total // len(self.pictures)))]
        )[:total]
        keys = jax.random.split(jax.random.key(int(rng.integers(2**31))), total)
        views = []
        for row, key in zip(rows, keys, strict=True):
            image, slots = self.pictures.images[row], self.pictures.slots[row]
            views.append(prepare(self.params, arrays, image, slots, key))
            if time.monotonic() > deadline and len(views) >= self.config.batch_size:
                break
        return jax.tree.map(lambda *a: jnp.stack(a), *views)

    def _order(self, rng: np.random.Generator, views: int) -> list[np.ndarray]:
        """Return the views that each of a round's updates sees, in parts."""
        batch, micro = self.config.batch_size, self.config.micro_batch
        order = np.concatenate([rng.permutation(views) for _ in range(self.config.reuse)])
        whole = len(order) // batch * batch
        return list(order[:whole].astype(np.int32).reshape(-1, batch // micro, micro))

    def _judge(
        self,
        state: RunState,
        reached: tuple[PyTree, PyTree, PyTree],
        steps: int,
        losses: list[float],
    ) -> None:
        """End a round: look at the held-out pictures, and keep the prompt if it is the best."""
        average = reached[-1]
        counts = self.judge.counts(average)
        score = counts.mean(counts.best_threshold())
        state.learned, state.moments, state.average = reached
        state.round += 1
        state.history.append((steps, float(np.mean(losses)), score))
        if score > state.best_score:
            state.best, state.best_score, state.best_round = average, score, state.round


def _finite(loss: float, step: int) -> float:
    if not np.isfinite(loss):
        raise PromptError(f"step {step}: the loss is not finite; take a lower learning rate (--lr)")
    return loss
