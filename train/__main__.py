"""`python -m train --config configs/in_context_small.py --data PATH --out DIR`."""

import argparse
import contextlib
import ctypes
import dataclasses
import errno
import importlib.util
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from seggpt.config import InContextConfig
from seggpt.errors import SegGPTError, one_line
from train.config import TrainConfig
from train.evals.tool import start_log
from train.overrides import apply_overrides

# Parameters of mallopt (malloc.h). Other arenas than the first map large blocks by themselves.
TRIM_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -4, -8
DATA = (
    "data sets: folders, zips, or what data.prepare wrote; a feature cache for an in-context model "
    "on an encoder"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a recipe; return the exit code."""
    args = _parser().parse_args(argv)
    start_log()
    try:
        recipe = load_recipe(Path(args.config))
        config = apply_overrides(recipe, args.set)
        if args.data:
            data = dataclasses.replace(config.data, path=tuple(args.data))
            config = dataclasses.replace(config, data=data)
        if args.init:
            config = dataclasses.replace(config, init=args.init)
        if isinstance(config.model, InContextConfig):
            # Slow to import, as below.
            from train.tasks.encoders import stand_on_encoder

            config = stand_on_encoder(config, recipe)
        out = Path(args.out) if args.out else Path("runs", Path(args.config).stem)
        return _run(config, out, args)
    except (ValueError, OSError, SegGPTError) as error:
        print(f"train: error: {one_line(str(error))}", file=sys.stderr)
        return 2


def _run(config: TrainConfig, out: Path, args: argparse.Namespace) -> int:
    # Slow to import, so only once the arguments are known to be good.
    from train.running.hosts import connect, is_first

    if args.distributed:
        connect()
        if not is_first():
            logging.getLogger().setLevel(logging.WARNING)
    from train.loop import run
    from train.running.checkpoint import SaveError
    from train.running.watch import NonFiniteLossError

    try:
        return run(config, out, resume=args.resume)
    except (NonFiniteLossError, SaveError) as error:
        print(f"train: error: {one_line(str(error))}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        told = "the last checkpoint is whole: make room and start the command again"
        print(f"train: error: {one_line(str(error))}; {told}", file=sys.stderr)
        return 1


def load_recipe(path: Path) -> TrainConfig:
    """Load a recipe file by path and return what its `get_config` gives.

    Raises:
        ValueError: if there is no such file, it has no `get_config`, or that gives something else.
    """
    spec = importlib.util.spec_from_file_location("recipe", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise ValueError(f"{path}: no such recipe; see configs/")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.get_config() if hasattr(module, "get_config") else None
    except Exception as error:  # a recipe is a program, and may raise anything
        raise ValueError(f"{path}: {type(error).__name__}: {error}") from error
    if config is None:
        raise ValueError(f"{path}: a recipe has a function get_config() -> TrainConfig")
    if not isinstance(config, TrainConfig):
        raise ValueError(f"{path}: not a recipe of training; seggpt tune --config takes it")
    return config


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m train", description=__doc__)
    parser.add_argument(
        "--config", required=True, help="a recipe, for example configs/in_context_small.py"
    )
    parser.add_argument("--data", nargs="+", metavar="PATH", help=DATA)
    parser.add_argument(
        "--out", metavar="DIR", help="weights, logs, sheets, checkpoints (default: runs/RECIPE)"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change a field of the recipe; encoder=PATH trains on another encoder",
    )
    parser.add_argument(
        "--resume",
        default="auto",
        metavar="auto|never|PATH",
        help="auto: go on from the newest whole checkpoint in --out if there is one, so that the "
        "same command starts a run and goes on with it; never: refuse a folder that holds a run; "
        "PATH: start a new --out from the folder of another run or from one of its checkpoints "
        "(default: auto)",
    )
    parser.add_argument(
        "--distributed",
        action="store_true",
        help="one of several processes, found by the cluster (Slurm, Cloud TPU, ...) or by "
        "JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID",
    )
    parser.add_argument("--init", metavar="WEIGHTS", help="start from a weights file")
    return parser


def keep_freed_memory() -> None:
    """Let glibc keep what a step frees for the next one, where the C library is glibc.

    XLA's CPU programs free gigabytes in every step. By default these go back to the system and are
    mapped and cleared anew: half of the time of a step of `configs/prompt_heads.py` on one core.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in ((ARENA_MAX, 1), (MMAP_MAX, 0), (TRIM_THRESHOLD, -1)):
            mallopt(option, value)


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main())
