"""The training loop."""

import dataclasses
import json
import logging
import signal
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import jax
import numpy as np

from train.checkpoint import Checkpoints, abstract_state
from train.config import TrainConfig
from train.optim import make_optimizer, make_schedule
from train.sharding import make_mesh, put_batch, shard_params
from train.state import TrainState, init_state
from train.tasks import Task, make_task

logger = logging.getLogger(__name__)

WEIGHTS = "weights.safetensors"
LOG = "log.jsonl"


class NonFiniteLossError(RuntimeError):
    """The loss of a step is not a number; the message names the step."""


def run(config: TrainConfig, out: Path, *, resume: bool = False) -> int:
    """Train to the end or to a signal; return the exit code (0, 130 or 143).

    Raises:
        ValueError: if the data or `init` do not fit, or `out` holds another run.
        CheckpointError: if the checkpoint to go on from is damaged.
        NonFiniteLossError: if a loss is not a number.
    """
    described = describe(config)
    checkpoints = Checkpoints(out / "checkpoints", keep=config.keep)
    last, saved = find_start(checkpoints, described, resume=resume)
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(described, indent=1))

    # --- task and optimiser
    mesh = make_mesh()
    task = make_task(config, mesh)
    optimizer = make_optimizer(config.optim, steps=config.steps, depth=task.depth)
    batches = task.batches()
    state = place(init_state(task.init(), optimizer), mesh)

    # --- resume
    if last:
        state = checkpoints.restore(last, abstract_state(state))
        batches.set_state(saved["loader"])
        logger.info("resumed at step %d", last)

    # --- loop
    with StopSignal() as stop, (out / LOG).open("a") as log:
        watch = Watch(config, task, out=out, log=log)
        for number in range(int(state.step), config.steps):
            batch = put_batch(next(batches), mesh)
            state, metrics = task.step(number, optimizer)(state, batch)
            watch.after(number + 1, state, metrics)
            received = stop.received  # read once: a later signal waits for the next step
            is_last = number + 1 == config.steps or received
            if is_last or (number + 1) % config.checkpoint_every == 0:
                watch.flush(number + 1)
                checkpoints.save(state, {"config": described, "loader": batches.get_state()})
                release(state, task, out / WEIGHTS)
            if received:
                logger.info("stopped by signal %d at step %d", received, number + 1)
                return 128 + received
    return 0


def find_start(
    checkpoints: Checkpoints, described: dict[str, Any], *, resume: bool
) -> tuple[int, dict[str, Any]]:
    """Return the step to go on from and what was saved beside its state; step 0 for a new run.

    Raises:
        ValueError: if the checkpoint is of another recipe, or there is one and no wish to resume.
        CheckpointError: if it is damaged.
    """
    steps = checkpoints.steps()
    if not steps:
        return 0, {}
    if not resume:
        raise ValueError(
            f"{checkpoints.folder}: holds a run up to step {steps[-1]}; "
            "go on from there with --resume, or use another --out"
        )
    saved = checkpoints.read_run(steps[-1])
    check_same(saved["config"], described)
    return steps[-1], saved


def place(state: TrainState, mesh: jax.sharding.Mesh) -> TrainState:
    """Put a state on the devices by the sharding rule."""
    return jax.device_put(state, shard_params(state, mesh))


def release(state: TrainState, task: Task, path: Path) -> None:
    """Write the averaged weights as a file that `from_pretrained` takes."""
    metadata = {"train_sets": ",".join(task.sets), "step": str(int(state.step))}
    task.save(path, jax.tree.map(np.asarray, state.ema), metadata)


def describe(config: TrainConfig) -> dict[str, Any]:
    """Return a recipe as JSON would give it back."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def check_same(saved: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse to resume another recipe.

    Raises:
        ValueError: naming the first part that differs.
    """
    different = sorted(key for key in saved.keys() | now.keys() if saved.get(key) != now.get(key))
    if different:
        raise ValueError(
            f"cannot resume: {', '.join(different)} changed since the checkpoint; "
            "use the same recipe and --set, or another --out"
        )


class StopSignal:
    """Remembers a SIGINT or SIGTERM, so that the step in hand ends and is saved."""

    def __init__(self) -> None:
        self.received = 0
        self.before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignal":
        for number in (signal.SIGINT, signal.SIGTERM):
            self.before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, _: object) -> None:
        self.received = number
        signal.signal(number, signal.SIG_DFL)  # a second one stops at once


class Watch:
    """Logs numbers, looks at held-out pairs, draws sheets; stops on a loss that is no number."""

    def __init__(
        self,
        config: TrainConfig,
        task: Task,
        *,
        out: Path,
        log: TextIO,
    ) -> None:
        self.config = config
        self.task = task
        self.out = out
        self.log = log
        self.schedule = make_schedule(config.optim, steps=config.steps)
        self.pending: list[dict[str, jax.Array]] = []
        self.clock = time.perf_counter()

    def after(self, step: int, state: TrainState, metrics: dict[str, jax.Array]) -> None:
        """Do what is due after a step."""
        self.pending.append(metrics)
        if len(self.pending) > 1:
            # JAX would queue up to 32 steps, and a signal would wait for all of them.
            jax.block_until_ready(self.pending[-2])
        if step % self.config.log_every == 0:
            self.flush(step)
        if step % self.config.eval_every == 0 or step == self.config.steps:
            started = time.perf_counter()
            if (seen := self.task.evaluate(state.ema)) is not None:
                scores, draw = seen
                self._write({"step": step} | scores)
                if step % self.config.sheet_every == 0 or step == self.config.steps:
                    draw().save(self.out / f"sheet_{step:07d}.png")
            self.clock += time.perf_counter() - started

    def flush(self, step: int) -> None:
        """Write the mean of the steps since the last call.

        Raises:
            NonFiniteLossError: if one of their losses or gradients is not a number.
        """
        if not self.pending:
            return
        rows = jax.device_get(self.pending)
        for number, row in enumerate(rows, start=step - len(rows) + 1):
            for name in ("loss", "grad_norm"):  # a bad gradient has spoilt the weights already
                if not np.isfinite(row[name]):
                    raise NonFiniteLossError(f"{name} is {row[name]} at step {number}")
        seconds = (time.perf_counter() - self.clock) / len(rows)
        means = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
        rate = float(np.asarray(self.schedule(step)))
        self._write({"step": step} | means | {"lr": rate, "seconds_per_step": seconds})
        if sys.stderr.isatty():
            left = (self.config.steps - step) * seconds / 60
            line = f"\r{step}/{self.config.steps} loss {means['loss']:.4f} {left:.0f} min left  "
            sys.stderr.write(line)
            sys.stderr.flush()
        self.pending = []
        self.clock = time.perf_counter()

    def _write(self, row: dict[str, int | float]) -> None:
        self.log.write(json.dumps({k: round(v, 6) for k, v in row.items()}) + "\n")
        self.log.flush()
