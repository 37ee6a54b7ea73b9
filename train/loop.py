"""The training run, top to bottom."""

import dataclasses
import json
import logging
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PyTree

from data.closeups import cut_closeups
from data.folder import open_folders
from data.loader import make_loader
from data.pack import Pack, join, pack_folders
from data.pairs import Sampler
from data.synthetic import paste_sprites, sprite_classes
from seggpt.weights.files import save_weights
from train.checkpoint import Checkpoints, abstract_state
from train.click_probe import ClickProbe, make_click_probe, make_clicker
from train.config import TrainConfig
from train.optim import make_optimizer, make_schedule
from train.probe import Probe, make_painter, make_probe
from train.prompting import make_prompt_step
from train.sharding import make_mesh, put_batch, replicate, shard_params
from train.state import (
    TrainState,
    init_params,
    init_state,
    load_params,
    match_places,
    match_queries_keys,
)
from train.step import Step, make_train_step

logger = logging.getLogger(__name__)

WEIGHTS = "weights.safetensors"
LOG = "log.jsonl"

AnyProbe = Probe | ClickProbe


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

    # --- data
    pack, held_out = load_packs(config)
    logger.info("%d training pictures in %d sets", len(pack.images), len(pack.sources))
    sampler = Sampler(pack, config.data.pairs)
    loader = make_loader(
        sampler, batch_size=config.batch_size, steps=config.steps, seed=config.seed
    )
    probe, look = make_look(held_out, config)

    # --- model and optimiser
    mesh = make_mesh()
    optimizer = make_optimizer(config.optim, steps=config.steps, depth=config.model.depth)
    state = place(init_state(start_params(config), optimizer), mesh)
    images, ids = replicate(pack.images, mesh), replicate(pack.ids, mesh)
    steps = make_steps(config, optimizer)

    # --- resume
    if last:
        state = checkpoints.restore(last, abstract_state(state))
        loader.set_state(saved["loader"])
        logger.info("resumed at step %d", last)

    # --- loop
    with StopSignal() as stop, (out / LOG).open("a") as log:
        watch = Watch(config, probe, look, out=out, log=log)
        for number in range(int(state.step), config.steps):
            batch = put_batch(next(loader), mesh)
            state, metrics = steps[draw_shots(config, number)](state, images, ids, batch)
            watch.after(number + 1, state, metrics)
            received = stop.received  # read once: a later signal waits for the next step
            is_last = number + 1 == config.steps or received
            if is_last or (number + 1) % config.checkpoint_every == 0:
                watch.flush(number + 1)
                checkpoints.save(state, {"config": described, "loader": loader.get_state()})
                release(state, config, out / WEIGHTS, sets=[s.name for s in pack.sources])
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


def load_packs(config: TrainConfig) -> tuple[Pack, Pack]:
    """Decode the training pictures, with pasted sprites and close-ups, and the held-out ones.

    Raises:
        ValueError: if there is no data set, or not one of `names`, or it lacks a split.
    """
    data = config.data
    folders = [folder for path in data.path for folder in open_folders(path)]
    if not folders:
        raise ValueError("no data: pass folders or zips of data sets with --data")
    if missing := sorted(set(data.names) - {folder.name for folder in folders}):
        raise ValueError(f"--data: no data set named {missing} in {', '.join(data.path)}")
    if data.names:
        folders = [folder for folder in folders if folder.name in data.names]
    pack = pack_folders(folders, size=data.pack_size)
    held_out = pack_folders(folders, size=data.pack_size, split="val")
    classes = sprite_classes(folders)
    if classes and data.sprites:
        pasted = paste_sprites(classes, pack.images, count=data.sprites, seed=config.seed)
        pack = join([pack, pasted])
    if data.closeups:
        cut = cut_closeups(folders, count=data.closeups, size=data.pack_size, seed=config.seed)
        pack = join([pack, cut]) if cut else pack
    return pack, held_out


def make_look(held_out: Pack, config: TrainConfig) -> tuple[AnyProbe, Callable[[PyTree, Any], Any]]:
    """Return what to look at from time to time, and how to."""
    if config.clicks:
        return make_click_probe(held_out, config), make_clicker(config)
    return make_probe(held_out, config), make_painter(config)


def make_steps(config: TrainConfig, optimizer: optax.GradientTransformation) -> dict[int, Step]:
    """Return a compiled step for each number of examples that samples may have."""
    make = make_prompt_step if config.clicks else make_train_step
    return {
        shots: jax.jit(make(config, optimizer, examples=shots), donate_argnums=0)
        for shots, share in config.shots
        if share > 0
    }


def start_params(config: TrainConfig) -> PyTree:
    """Return the first weights: random ones, or those of `init`."""
    if config.init:
        params = load_params(config.model, Path(config.init))
    else:
        params = jax.jit(lambda key: init_params(config.model, key))(jax.random.key(config.seed))
        if config.match_init:
            params = match_queries_keys(params)
        if config.match_init and config.model.prompt_width:
            params = match_places(params, heads=config.model.decoder_heads)
    # A weakly typed one would become a strong one in the first step, and the second compile anew.
    return jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), params)


def place(state: TrainState, mesh: jax.sharding.Mesh) -> TrainState:
    """Put a state on the devices by the sharding rule."""
    return jax.device_put(state, shard_params(state, mesh))


def draw_shots(config: TrainConfig, step: int) -> int:
    """Return how many examples the samples of a step have."""
    shots, shares = zip(*config.shots, strict=True)
    rng = np.random.default_rng((config.seed, step))
    return int(rng.choice(shots, p=np.asarray(shares) / sum(shares)))


def release(state: TrainState, config: TrainConfig, path: Path, *, sets: Sequence[str]) -> None:
    """Write the averaged weights as a file that `Segmenter.from_pretrained` takes."""
    params = jax.tree.map(np.asarray, state.ema)
    metadata = {"train_sets": ",".join(sets), "step": str(int(state.step))}
    save_weights(path, params, config=config.model.to_dict(), metadata=metadata)


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
        probe: AnyProbe,
        look: Callable[[PyTree, Any], Any],
        *,
        out: Path,
        log: TextIO,
    ) -> None:
        self.config = config
        self.probe = probe
        self.look = look
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
            seen = self.look(state.ema, self.probe)
            self._write({"step": step} | self.probe.score(seen))
            if step % self.config.sheet_every == 0 or step == self.config.steps:
                self.probe.sheet(seen).save(self.out / f"sheet_{step:07d}.png")
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


__all__ = ["NonFiniteLossError", "Step", "run"]
