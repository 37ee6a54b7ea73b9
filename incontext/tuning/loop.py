"""The loop: rounds of views and updates, a look at held-out pictures after each, the best kept."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from incontext.context import Context
from incontext.tuning.config import RATES, Learned, TuneConfig
from incontext.tuning.pictures import Pictures
from incontext.tuning.scores import Counts
from incontext.tuning.step import ADAM, WARMUP
from seggpt.errors import PromptError

View = PyTree
"""What an update sees of a picture; views of a round are stacked."""

Update = Callable[..., tuple[PyTree, PyTree, PyTree, Array]]
"""Learned arrays, moments, their average, views, rows of these, rate and the average's share in;
the next three and the loss out."""

Ending = Literal["steps", "patience", "minutes", "interrupted"]


@dataclass(frozen=True)
class Progress:
    """Where a run stands, for a live line."""

    step: int
    steps: int
    loss: float
    before: float
    now: float | None  # where there is something to score on
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
    history: list[tuple[int, float, float | None]] = field(default_factory=list)  # step, loss, IoU


@dataclass(frozen=True)
class Ended:
    """How a run ended, and the best prompt it met."""

    state: RunState
    ending: Ending


@dataclass(frozen=True, kw_only=True)
class Run(ABC):
    """Everything that stays the same while something is learned."""

    pictures: Pictures
    config: TuneConfig

    keeps_last: ClassVar[bool] = False  # whatever the scores say, which then do not end it either

    @property
    @abstractmethod
    def kind(self) -> Learned:
        """What is learned."""

    @property
    @abstractmethod
    def view_numbers(self) -> int:
        """How many numbers a prepared view has."""

    @abstractmethod
    def cutter(self, learned: PyTree) -> Callable[[int, Array], View]:
        """Return what cuts a view out of the picture of a row, by a key."""

    @abstractmethod
    def updater(self) -> Update:
        """Return a compiled update."""

    @abstractmethod
    def counts(self, learned: PyTree) -> Counts | None:
        """Return what is found with it on the pictures that judge, if there are any."""

    @abstractmethod
    def context(self, learned: PyTree) -> Context:
        """Return a context that holds it, rounded to what its file holds."""

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

        Where time does not allow for all steps, it makes fewer, with a rate that falls as far.
        `keep` is given the state after each round, to save it. What a round sees depends on the
        seed and its number alone, so that a run that goes on equals one that never stopped.

        Raises:
            PromptError: at a loss that is not finite.
        """
        update = self.updater()
        per_round = self.round_steps
        started, first = time.monotonic(), state.round * per_round
        copy = partial(jax.tree.map, jnp.copy)
        steps, second_began = self.config.steps, started
        try:
            while (done := state.round * per_round) < steps:
                if state.round - state.best_round >= self.config.patience:  # never if `keeps_last`
                    return Ended(state, "patience")
                rng = np.random.default_rng([self.config.seed, 3, state.round])
                pool, views = self.draw_views(self.cutter(state.learned), rng, deadline)
                learned, moments, average = map(copy, (state.learned, state.moments, state.average))
                losses: list[float] = []
                for number, index in enumerate(self._order(rng, views), done):
                    if time.monotonic() > deadline or number >= steps:
                        break
                    if number == first + 1:  # the first step compiles
                        second_began = time.monotonic()
                    rate = jnp.float32(self._rate(number, steps))
                    share = jnp.float32(self._keep(number))
                    learned, moments, average, loss = update(
                        learned, moments, average, pool, index, rate, share
                    )
                    losses.append(_finite(float(loss), number + 1))
                    spent = time.monotonic() - started
                    left = spent / (number + 1 - first) * (steps - number - 1)
                    now = state.history[-1][2] if state.history else before
                    left = min(left, max(deadline - time.monotonic(), 0))
                    best = max(state.best_score, 0.0)
                    tell(Progress(number + 1, steps, losses[-1], before, now, best, left))
                if losses:
                    self._judge(state, (learned, moments, average), done + len(losses), losses)
                    if done + len(losses) == min(self.config.steps, state.round * per_round):
                        keep(state)  # a round cut short is learned again by a run that goes on
                seconds_left = deadline - time.monotonic()
                if seconds_left < 0:
                    return Ended(state, "minutes")
                reached = done + len(losses)
                if reached >= steps:  # the rate has fallen to zero
                    break
                if reached > first + 1:
                    pace = (time.monotonic() - second_began) / (reached - first - 1)
                    steps = int(min(self.config.steps, reached + seconds_left / pace))
        except KeyboardInterrupt:
            return Ended(state, "interrupted")
        return Ended(state, "steps" if steps == self.config.steps else "minutes")

    @property
    def round_views(self) -> int:
        """How many views are prepared together: as many as memory allows."""
        batch = self.config.batch_size
        fit = min(self.config.views, self.config.pool_bytes // (4 * self.view_numbers))
        return max(batch, fit // batch * batch)

    @property
    def round_steps(self) -> int:
        """How many updates a round has."""
        return self.round_views * self.config.reuse // self.config.batch_size

    def _rate(self, number: int, steps: int) -> float:
        """Return the learning rate: a short warm-up, half a cosine to zero."""
        peak = self.config.lr or RATES[self.kind]
        return (
            peak
            * min(1.0, (number + 1) / WARMUP)
            * 0.5
            * (1 + float(np.cos(np.pi * number / steps)))
        )

    def _keep(self, number: int) -> float:
        """Return how much of the average stays at a step: less at first, when it is of few."""
        return min(self.config.average, (1 + number) / (4 + number))

    def draw_views(
        self, cut: Callable[[int, Array], View], rng: np.random.Generator, deadline: float
    ) -> tuple[View, int]:
        """Cut a round's views, and return how many there are."""
        pool = self.cut_rows(cut, range(len(self.pictures)), rng, deadline)
        return pool, len(pool[0])

    def cut_rows(
        self,
        cut: Callable[[int, Array], View],
        rows: Sequence[int],
        rng: np.random.Generator,
        deadline: float,
    ) -> View:
        """Cut a round's views of some pictures, from each about as often."""
        total = self.round_views
        turns = [rng.permutation(rows) for _ in range(-(-total // len(rows)))]
        keys = jax.random.split(jax.random.key(int(rng.integers(2**31))), total)
        views = []
        for row, key in zip(np.concatenate(turns)[:total], keys, strict=True):
            views.append(cut(int(row), key))
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
        counts = self.counts(average)
        score = counts.mean(counts.best_threshold()) if counts else None
        state.learned, state.moments, state.average = reached
        state.round += 1
        state.history.append((steps, float(np.mean(losses)), score))
        if self.keeps_last or (score or 0.0) > state.best_score:
            state.best, state.best_score, state.best_round = average, score or 0.0, state.round


def _finite(loss: float, step: int) -> float:
    if not np.isfinite(loss):
        raise PromptError(f"step {step}: the loss is not finite; take a lower learning rate (--lr)")
    return loss
