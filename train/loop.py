"""The training loop."""

import dataclasses
import json
import logging
import signal
from pathlib import Path
from typing import Any

from train.config import TrainConfig
from train.optim import make_optimizer
from train.running.checkpoint import RUN, Checkpoints, abstract_state
from train.running.hosts import Agreement, is_first, to_host
from train.running.watch import Watch, cut_log, release
from train.sharding import make_mesh, place, put_batch, shard_params
from train.state import init_state
from train.tasks import make_task

logger = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"

# What may change when a run goes on: none of it changes what is learned.
FREE = ("log_every", "eval_every", "sheet_every", "checkpoint_every", "keep")
FREE += ("release", "most_skipped")
FREE += ("fsdp", "remat", "accumulate")  # but for rounding
# What may change beside those when a run starts from the checkpoint of another.
FREE_ELSEWHERE = (*FREE, "steps", "optim", "loss", "frozen")


def run(config: TrainConfig, out: Path, *, resume: str = "auto") -> int:
    """Train to the end or to a signal; return the exit code (0, 130 or 143).

    Raises:
        ValueError: if the data or `init` do not fit, or `out` holds another run.
        CheckpointError: if all checkpoints to go on from are damaged.
        SaveError: if a checkpoint cannot be written.
        NonFiniteLossError: if too many updates in a row are not finite.
    """
    described = describe(config)
    checkpoints = Checkpoints(out / CHECKPOINTS, keep=config.keep)
    start = find_start(checkpoints, described, resume=resume)
    if is_first():
        out.mkdir(parents=True, exist_ok=True)
        (out / "config.json").write_text(json.dumps(described, indent=1))
        cut_log(out, start.step)

    # --- task and optimiser
    mesh = make_mesh(config.fsdp)
    task = make_task(config, mesh)
    optimizer = make_optimizer(config.optim, steps=config.steps, depth=task.depth)
    batches = task.batches()
    state = init_state(task.init(), optimizer)
    state = place(state, shard_params(state, mesh))

    # --- resume
    if start.step:
        state = start.checkpoints.restore(start.step, abstract_state(state))
        batches.set_state(start.saved["loader"])
        logger.info("goes on from step %d of %s", start.step, start.checkpoints.folder)
    if start.step >= config.steps:
        logger.info("nothing to do: steps is %d", config.steps)

    # --- loop
    agree = Agreement(mesh)
    with StopSignal() as stop:
        is_own = start.checkpoints is checkpoints
        watch = Watch(config, task, out=out, saved=start.saved, is_own=is_own)
        if not (start.step and is_own):
            watch.before(start.step, state)
        for number in range(start.step, config.steps):
            batch = next(batches)
            state, metrics = task.step(number, optimizer)(
                state, put_batch(batch, mesh, rows=task.rows(number))
            )
            watch.after(number + 1, state, metrics, batch)
            received = agree(stop.received)
            is_last = number + 1 == config.steps or received
            if is_last or (number + 1) % config.checkpoint_every == 0:
                watch.flush(number + 1)
                rest = {"loader": batches.get_state()} | watch.get_state()
                checkpoints.save(state, {"config": described} | rest)
                params = to_host(state.ema)
                if is_first() and not watch.keeps_best:
                    release(task, params, number + 1, out)
            if received:
                logger.info("stopped by signal %d at step %d", received, number + 1)
                return 128 + received
    watch.finish()
    return 0


@dataclasses.dataclass(frozen=True)
class Start:
    """Where a run goes on: step 0 for a new one."""

    checkpoints: Checkpoints
    step: int
    saved: dict[str, Any]  # beside the state


def find_start(checkpoints: Checkpoints, described: dict[str, Any], *, resume: str) -> Start:
    """Find where to go on: `auto`, `never`, or the folder of another run or of a checkpoint.

    Raises:
        ValueError: if the checkpoint is of another recipe, there is one and no wish to go on from
            it, or none where one should be.
        CheckpointError: if all are damaged.
    """
    folder = checkpoints.folder
    if resume == "never" and (steps := checkpoints.steps()):
        raise ValueError(
            f"{folder}: holds a run up to step {steps[-1]}; "
            "go on from there with --resume auto, or use another --out"
        )
    if found := checkpoints.newest():
        check_same(found[1]["config"], described, free=FREE)
        if resume != "auto":
            logger.warning("%s: goes on from here, not from --resume %s", folder, resume)
        return Start(checkpoints, *found)
    if resume in ("auto", "never"):
        return Start(checkpoints, 0, {})
    given = open_checkpoints(Path(resume))
    check_same(given[2]["config"], described, free=FREE_ELSEWHERE)
    return Start(*given)


def open_checkpoints(path: Path) -> tuple[Checkpoints, int, dict[str, Any]]:
    """Return the newest whole checkpoint of a run's folder, or the one that is named.

    Raises:
        ValueError: if there is none.
        CheckpointError: if it is damaged, or all are.
    """
    if (path / RUN).exists() and path.name.isdigit():
        checkpoints = Checkpoints(path.parent, keep=1)
        return checkpoints, int(path.name), checkpoints.read_run(int(path.name))
    folder = path / CHECKPOINTS
    checkpoints = Checkpoints(folder if folder.exists() else path, keep=1)
    if found := checkpoints.newest():
        return checkpoints, *found
    raise ValueError(
        f"--resume {path}: no checkpoint; pass auto, never, the folder of a run or one of its "
        "checkpoints"
    )


def describe(config: TrainConfig) -> dict[str, Any]:
    """Return a recipe as JSON would give it back."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def check_same(saved: dict[str, Any], now: dict[str, Any], *, free: tuple[str, ...]) -> None:
    """Refuse to resume another recipe.

    Raises:
        ValueError: naming the first part that differs.
    """
    # A field that is newer than the checkpoint is not in it.
    different = sorted(k for k, value in saved.items() if k not in free and now.get(k) != value)
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
            signal.signal(number, handler or signal.SIG_DFL)  # None: not one of Python's

    def _remember(self, number: int, _: object) -> None:
        self.received = number
        signal.signal(number, signal.SIG_DFL)  # a second one stops at once
