"""What a step of a recipe costs, before any data or accelerator is there.

    python -m train.cost --config configs/small.py --devices 8 --set batch_size=64

Nothing is computed and no memory is taken: shapes alone go through the program of a step. FLOPs are
those of the program as it is written, all devices together; with `remat` the second forward pass is
counted. Bytes are of the state on one device by the rule of `train/sharding.py`. With `--compile`
XLA also says how much memory a step takes beside the state, on CPU devices.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, PyTree

from data.augment import Views
from seggpt.config import SegGPTConfig
from seggpt.errors import one_line
from train.__main__ import load_recipe
from train.config import TrainConfig
from train.optim import make_optimizer
from train.overrides import apply_overrides
from train.sharding import MIN_SPLIT
from train.state import TrainState, init_params, init_state, split_model
from train.step import Loss, Metrics, apply_gradients, compute_dtype, draw_masks, sample_loss

GB = 1e9


def main(argv: Sequence[str] | None = None) -> int:
    """Print the cost of a recipe's step; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m train.cost",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", required=True, help="a recipe that learns from pictures")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--devices", type=int, default=1, help="that share the batch (default: 1)")
    parser.add_argument("--compile", action="store_true", help="also ask XLA for the memory")
    args = parser.parse_args(argv)
    try:
        config = apply_overrides(load_recipe(Path(args.config)), args.set)
        if not isinstance(config.model, SegGPTConfig):
            raise ValueError(f"{args.config}: learns from cached features, not from pictures")
        if args.devices < 1 or args.devices % (config.fsdp or args.devices):
            raise ValueError(f"--devices {args.devices} is not a multiple of fsdp {config.fsdp}")
    except ValueError as error:
        print(f"cost: error: {one_line(str(error))}", file=sys.stderr)
        return 2
    for name, value in measure(config, devices=args.devices, is_compiled=args.compile).items():
        print(f"{name:28} {value:,.3f}".rstrip("0").rstrip("."))
    return 0


def measure(config: TrainConfig, *, devices: int, is_compiled: bool = False) -> dict[str, float]:
    """Return what a step costs, by what it is."""
    optimizer = make_optimizer(config.optim, steps=config.steps, depth=config.model.depth)
    params = jax.eval_shape(lambda: init_params(config.seggpt, jax.random.key(0)))
    state = jax.eval_shape(lambda p: init_state(p, optimizer), params)
    shots = max(config.shots, key=lambda shot: shot[1])[0]

    def lower(config: TrainConfig) -> jax.stages.Lowered:
        step = jax.jit(_make_step(config, optimizer, shots), donate_argnums=0)
        return step.lower(state, describe_views(config), jax.random.key(0))

    # XLA counts what is in a loop once, so a batch is taken whole.
    flops = _flops(lower(replace(config, accumulate=1, fsdp=0)).cost_analysis())
    found = {
        "parameters, millions": sum(leaf.size for leaf in jax.tree.leaves(params)) / 1e6,
        "examples of a sample": float(shots),
        "teraFLOPs of a step": flops / 1e12,
        "teraFLOPs of a sample": flops / 1e12 / config.batch_size,
        "GB of state, a device": state_bytes(state, config.fsdp or devices) / GB,
    }
    if is_compiled:
        memory = lower(replace(config, fsdp=0)).compile().memory_analysis()
        found["GB beside it, one CPU device"] = memory.temp_size_in_bytes / GB
    return found


def state_bytes(state: TrainState, split: int) -> int:
    """Return the bytes of a state on one of `split` devices that share it."""
    total = 0
    for leaf in jax.tree.leaves(state):
        is_split = leaf.size >= MIN_SPLIT and any(n % split == 0 for n in leaf.shape)
        total += leaf.size * leaf.dtype.itemsize // (split if is_split else 1)
    return total


def describe_views(config: TrainConfig) -> Views:
    """Describe the views of a batch."""
    size = config.view_size or config.seggpt.image_size
    shape = (config.batch_size, config.pictures.pairs.views, size, size)
    image = jax.ShapeDtypeStruct((*shape, 3), jnp.float32)
    labels = jax.ShapeDtypeStruct(shape, jnp.int32)
    kind = jax.ShapeDtypeStruct(shape[:1], jnp.int32)
    return jax.eval_shape(
        lambda *arrays: Views(*arrays[:3], kind=arrays[3]), image, image, labels, kind
    )


def _make_step(config: TrainConfig, optimizer: Any, shots: int) -> Any:
    """Return the update of `train.step` on views that are there."""
    graphdef, dtype = split_model(config.seggpt), compute_dtype(config)

    def step(state: TrainState, views: Views, key: Array) -> tuple[TrainState, Metrics]:
        masks = draw_masks(key, views, config, examples=shots)

        def loss_of(params: PyTree, part: tuple[Any, Any]) -> Loss:
            model = nnx.merge(graphdef, jax.tree.map(lambda p: p.astype(dtype), params))
            views, masks = part
            return sample_loss(model, views, config, masks=masks, examples=shots, progress=0.5)

        return apply_gradients(state, loss_of, (views, masks), config, optimizer)

    return step


def _flops(analysis: Any) -> float:
    """Return the FLOPs that XLA counts; versions of jax give a dict, or one in a list."""
    found = analysis[0] if isinstance(analysis, list) else analysis
    return float((found or {}).get("flops", math.nan))


if __name__ == "__main__":
    sys.exit(main())
