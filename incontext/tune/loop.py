"""The tuning loop: rounds of updates, held-out scores after each; the best is kept."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from incontext.tune.config import RATES
from incontext.tune.run import Run
from incontext.tune.step import ADAM, WARMUP, View, draw_view
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


def start_state(learned: PyTree) -> RunState:
    """Return the state before the first round."""
    return RunState(learned, ADAM.init(learned), learned, learned)


def _progress(
    state: RunState, step: int, steps: int, loss: float, before: float, seconds_left: float
) -> Progress:
    score = state.history[-1][2] if state.history else before
    return Progress(step, steps, loss, before, score, max(state.best_score, 0.0), seconds_left)


def learn_prompt(
    run: Run,
    state: RunState,
    *,
    before: float,
    tell: Callable[[Progress], None],
    keep: Callable[[RunState], None],
    deadline: float,
) -> Ended:
    """Run rounds until the steps are done, nothing improves, time is up or Ctrl-C.

    Where time does not allow for all steps, it makes fewer, with a rate that falls as far. `keep`
    is given the state after each round, to save it. What a round sees depends on the seed and its
    number alone, so that a run that goes on equals one that never stopped.

    Raises:
        PromptError: at a loss that is not finite.
    """
    per_round = count_steps(run)
    started, first = time.monotonic(), state.round * per_round
    copy = partial(jax.tree.map, jnp.copy)
    steps, second_began = run.config.steps, started
    try:
        while (done := state.round * per_round) < steps:
            if state.round - state.best_round >= run.config.patience:
                return Ended(state, "patience")
            rng = np.random.default_rng([run.config.seed, 3, state.round])
            pool = _draw_views(run, rng, deadline)
            learned, moments, average = map(copy, (state.learned, state.moments, state.average))
            losses: list[float] = []
            for number, index in enumerate(_order(run, rng, len(pool[0])), done):
                if time.monotonic() > deadline or number >= steps:
                    break
                if number == first + 1:  # the first step compiles
                    second_began = time.monotonic()
                rate = jnp.float32(learning_rate(run, number, steps))
                share = jnp.float32(_keep(run, number))
                learned, moments, average, loss = run.update(
                    learned, moments, average, pool, index, rate, share
                )
                losses.append(_finite(float(loss), number + 1))
                now = time.monotonic()
                left = (now - started) / (number + 1 - first) * (steps - number - 1)
                left = min(left, max(deadline - now, 0))
                tell(_progress(state, number + 1, steps, losses[-1], before, left))
            if losses:
                _judge(run, state, (learned, moments, average), done + len(losses), losses)
                if done + len(losses) == min(run.config.steps, state.round * per_round):
                    keep(state)  # a round cut short is learned again by a run that goes on
            if (seconds_left := deadline - time.monotonic()) < 0:
                return Ended(state, "minutes")
            reached = done + len(losses)
            if reached >= steps:  # the rate has fallen to zero
                break
            if reached > first + 1:
                pace = (time.monotonic() - second_began) / (reached - first - 1)
                steps = int(min(run.config.steps, reached + seconds_left / pace))
    except KeyboardInterrupt:
        return Ended(state, "interrupted")
    return Ended(state, "steps" if steps == run.config.steps else "minutes")


def count_views(run: Run) -> int:
    """Return how many views are prepared together: as many as memory allows."""
    batch = run.config.batch_size
    view_bytes = 4 * 4 * run.config.view_size**2  # colours and a class id, 4 bytes each
    fit = min(run.config.views, run.config.pool_bytes // view_bytes)
    return max(batch, fit // batch * batch)


def count_steps(run: Run) -> int:
    """Return how many updates a round has."""
    return count_views(run) * run.config.reuse // run.config.batch_size


def learning_rate(run: Run, number: int, steps: int) -> float:
    """Return the learning rate of a step: a short warm-up, half a cosine to zero."""
    peak = run.config.lr or RATES[run.prompt.kind]
    fall = 0.5 * (1 + float(np.cos(np.pi * number / steps)))
    return peak * min(1.0, (number + 1) / WARMUP) * fall


def _keep(run: Run, number: int) -> float:
    """Return how much of the average stays at a step: less at first, when it is of few."""
    return min(run.config.average, (1 + number) / (4 + number))


def _draw_views(run: Run, rng: np.random.Generator, deadline: float) -> View:
    """Cut a round's views, from each picture about as often."""
    total, count = count_views(run), len(run.pictures)
    turns = [rng.permutation(count) for _ in range(-(-total // count))]
    keys = jax.random.split(jax.random.key(int(rng.integers(2**31))), total)
    views = []
    for row, key in zip(np.concatenate(turns)[:total], keys, strict=True):
        image, class_ids = run.pictures.images[row], run.pictures.class_ids[row]
        views.append(draw_view(image, class_ids, key, config=run.config))
        if time.monotonic() > deadline and len(views) >= run.config.batch_size:
            break
    return jax.tree.map(lambda *a: jnp.stack(a), *views)


def _order(run: Run, rng: np.random.Generator, views: int) -> list[np.ndarray]:
    """Return the views that each of a round's updates sees, in parts."""
    batch, micro = run.config.batch_size, run.config.micro_batch
    order = np.concatenate([rng.permutation(views) for _ in range(run.config.reuse)])
    whole = len(order) // batch * batch
    return list(order[:whole].astype(np.int32).reshape(-1, batch // micro, micro))


def _judge(
    run: Run,
    state: RunState,
    reached: tuple[PyTree, PyTree, PyTree],
    steps: int,
    losses: list[float],
) -> None:
    """End a round: look at the held-out pictures, and keep the prompt if it is the best."""
    average = reached[-1]
    counts = run.counts(average)
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
