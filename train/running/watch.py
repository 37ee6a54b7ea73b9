"""What a run shows and notices: numbers, scores, sheets, and updates that are not finite."""

import json
import logging
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from train.config import TrainConfig
from train.optim import make_schedule
from train.running.hosts import is_first, to_host
from train.state import TrainState
from train.tasks import Task

logger = logging.getLogger(__name__)

LOG = "log.jsonl"
WEIGHTS = "weights.safetensors"
Row = dict[str, Any]


class NonFiniteLossError(RuntimeError):
    """Too many updates in a row were not finite; the message names the last step's samples."""


class Watch:
    """Logs numbers, scores held-out samples, draws sheets, and counts updates that were skipped."""

    def __init__(
        self,
        config: TrainConfig,
        task: Task,
        *,
        out: Path,
        saved: dict[str, Any],
        is_own: bool = True,
    ) -> None:
        self.config = config
        self.task = task
        self.out = out
        self.skipped: int = saved.get("skipped", 0)
        # What another run released does not lie in this one's folder.
        best = saved if is_own else {}
        self.best: float | None = best.get("best")
        self.best_step: int = best.get("best_step", 0)
        self.skipped_in_a_row = 0
        self.schedule = make_schedule(config.optim, steps=config.steps)
        self.pending: list[tuple[int, PyTree, dict[str, jax.Array]]] = []
        self.rows: list[dict[str, float]] = []
        self.clock = time.perf_counter()

    @property
    def keeps_best(self) -> bool:
        """Whether the weights with the best score so far were released, and no others are to be."""
        return self.config.release == "best" and self.best is not None

    def before(self, step: int, state: TrainState) -> None:
        """Score the weights that a run starts from where they may be the best."""
        if self.config.release == "best":
            self._look(step, state, is_drawn=False)
            if is_first() and not self.keeps_best:
                logger.warning("no held-out samples are scored: the last weights are released")

    def after(
        self, step: int, state: TrainState, metrics: dict[str, jax.Array], batch: PyTree
    ) -> None:
        """Do what is due after a step, which was made of a batch.

        Raises:
            NonFiniteLossError: if too many updates in a row were skipped.
        """
        self.pending.append((step, batch, metrics))
        # JAX would queue up to 32 steps, and a signal would wait for all of them.
        self._settle(but=1)
        if step % self.config.log_every == 0:
            self.flush(step)
        is_last = step == self.config.steps
        if step % self.config.eval_every == 0 or is_last:
            started = time.perf_counter()
            self._look(step, state, is_last or step % self.config.sheet_every == 0)
            self.clock += time.perf_counter() - started

    def finish(self) -> None:
        """Say at the end which weights were released, if not the last, and what was skipped."""
        if self.keeps_best:
            place, score = self.out / WEIGHTS, _numbers({"iou": self.best})
            logger.info("%s: those of step %d; held out: %s", place, self.best_step, score)
        if self.skipped:
            logger.warning("%d updates were not finite and were skipped", self.skipped)

    def get_state(self) -> dict[str, Any]:
        """Return what a run that goes on must know, as `saved`."""
        return {"skipped": self.skipped, "best": self.best, "best_step": self.best_step}

    def flush(self, step: int) -> None:
        """Write the mean of the steps since the last call, those left out that were skipped.

        Raises:
            NonFiniteLossError: if too many updates in a row were skipped.
        """
        self._settle(but=0)
        now = time.perf_counter()
        if self.rows:
            names = sorted(self.rows[0], key=lambda name: name != "loss")
            means = {name: float(np.mean([r[name] for r in self.rows])) for name in names}
            seconds = (now - self.clock) / len(self.rows)
            row = {"step": step} | means | {"lr": float(np.asarray(self.schedule(step)))}
            write_row(self.out, row | {"seconds_per_step": seconds})
            tell(row, seconds, steps=self.config.steps)
        self.rows, self.clock = [], now

    def _settle(self, *, but: int) -> None:
        """Look at the numbers of all steps but the last so many."""
        while len(self.pending) > but:
            step, batch, metrics = self.pending.pop(0)
            row = {name: float(value) for name, value in jax.device_get(metrics).items()}
            wrong = [n for n in ("loss", "grad_norm") if not np.isfinite(row[n])]
            if wrong:
                self._skip(step, batch, f"{wrong[0]} is {row[wrong[0]]}")
            else:
                self.skipped_in_a_row = 0
                self.rows.append(row)

    def _skip(self, step: int, batch: PyTree, why: str) -> None:
        """Tell of an update that was left out."""
        self.skipped += 1
        self.skipped_in_a_row += 1
        names = self.task.names(step - 1, batch)
        write_row(self.out, {"step": step, "skipped": why, "batch": names})
        told = "; ".join(names)
        logger.warning("step %d skipped: %s; its samples: %s", step, why, told)
        if self.skipped_in_a_row >= self.config.most_skipped:
            raise NonFiniteLossError(
                f"{why} at step {step}, and {self.skipped_in_a_row} updates in a row were skipped "
                f"(most_skipped); its samples: {told}"
            )

    def _look(self, step: int, state: TrainState, is_drawn: bool) -> None:
        """Score held-out samples; the first process does, with whole weights."""
        params = state.ema if jax.process_count() == 1 else to_host(state.ema)
        if not is_first() or (seen := self.task.evaluate(params)) is None:
            return
        scores, draw = seen
        write_row(self.out, {"step": step} | scores)
        logger.info("%s  held out: %s", _place(step, self.config.steps), _numbers(scores))
        if is_drawn:
            draw().save(self.out / f"sheet_{step:07d}.png")
        score = scores.get("iou")
        if score is not None and (self.best is None or score > self.best):
            self.best, self.best_step = score, step
            if self.keeps_best:
                release(self.task, params, step, self.out)


def release(task: Task, params: PyTree, step: int, out: Path) -> None:
    """Write whole weights as a file that `from_pretrained` takes."""
    metadata = {"train_sets": ",".join(task.sets), "step": str(step)}
    task.save(out / WEIGHTS, params, metadata)


def tell(row: Row, seconds: float, *, steps: int) -> None:
    """Tell of a row of numbers in a line."""
    numbers = {name: value for name, value in row.items() if name not in ("step", "lr")}
    left = (steps - row["step"]) * seconds
    logger.info(
        "%s  %s  lr %.2e  %.3g s/step  %s left",
        _place(row["step"], steps),
        _numbers(numbers),
        row["lr"],
        seconds,
        f"{left / 3600:.1f} h" if left > 5400 else f"{left / 60:.0f} min",
    )


def _place(step: int, steps: int) -> str:
    return f"{step:>{len(str(steps))}}/{steps}"


def _numbers(row: Row) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in row.items())


def write_row(out: Path, row: Row) -> None:
    """Add a row to a run's log, from the first process alone."""
    if is_first():
        plain = {k: round(v, 6) if isinstance(v, float) else v for k, v in row.items()}
        with (out / LOG).open("a") as log:
            log.write(json.dumps(plain) + "\n")


def read_rows(out: Path) -> list[Row]:
    """Read a run's log; a line that was cut off is left out."""
    rows = []
    for line in (out / LOG).read_text().splitlines() if (out / LOG).exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            logger.warning("%s: a damaged line is left out: %.40s", out / LOG, line)
    return [row for row in rows if isinstance(row, dict) and isinstance(row.get("step"), int)]


def cut_log(out: Path, step: int) -> None:
    """Leave of a log what was before a step: what came after is done again."""
    if is_first() and (out / LOG).exists():
        kept = [json.dumps(row) + "\n" for row in read_rows(out) if row["step"] <= step]
        partial = out / f"{LOG}.partial"
        partial.write_text("".join(kept))
        partial.replace(out / LOG)
