"""What a step of a recipe costs: `python -m train.cost --config configs/seggpt_large.py`.

The step is compiled for this machine's device and not run, so that no data are needed; memory is
what the compiler plans for. FLOPs are counted before the compiler, and those of a loop's body once
a turn.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import PyTree

from data.config import FeaturesConfig
from data.feature_samples import SampleBatch, SamplesConfig, Shape
from seggpt.config import EncoderConfig, InContextConfig, SegGPTConfig
from seggpt.encoder import Encoder
from seggpt.in_context.model import InContextModel
from seggpt.weights.keys import Keys
from train.__main__ import load_recipe
from train.config import MaskedConfig, TrainConfig
from train.optim import make_optimizer
from train.overrides import apply_overrides
from train.state import TrainState, init_params, init_state
from train.step import make_train_step
from train.tasks.finetune import encoding_painter
from train.tasks.in_context import cached_painter, make_in_context_step
from train.tasks.masked import init_masked, make_masked_step

GIB = 2**30


class Described(NamedTuple):
    """A step of a recipe, and the shapes of what it takes."""

    name: str
    step: Callable[..., Any]
    state: TrainState
    batch: PyTree


def describe_steps(config: TrainConfig) -> list[Described]:
    """Return all kinds of steps that a recipe has, from its fields alone.

    Raises:
        ValueError: if it trains heads for prompts, whose samples depend on a cache.
    """
    optimizer = make_optimizer(config.optim, steps=config.steps, depth=config.model.depth)
    start, kinds = _kinds(config, optimizer)
    state = jax.eval_shape(
        lambda: init_state(jax.tree.map(lambda a: a.astype(jnp.float32), start()), optimizer)
    )
    return [Described(name, step, state, batch) for name, step, batch in kinds]


def _kinds(
    config: TrainConfig, optimizer: optax.GradientTransformation
) -> tuple[Callable[[], PyTree], list[tuple[str, Callable[..., Any], PyTree]]]:
    """Return what makes the first weights; and for each kind of step its name, itself, a batch."""
    model, key = config.model, jax.random.key(0)
    if isinstance(model, SegGPTConfig):
        batch = _describe_pictures(config)
        shots = sorted({count for count, _ in config.shots})
        steps = [
            (f"{count} examples", make_train_step(config, optimizer, examples=count), batch)
            for count in shots
        ]
        return partial(init_params, model, key), steps
    if isinstance(model, MaskedConfig):
        step = make_masked_step(config, optimizer)
        return partial(init_masked, model, key), [("masked", step, _describe_pictures(config))]
    if not isinstance(config.data, FeaturesConfig):
        raise ValueError("a step of heads for prompts depends on a cache; see its log instead")
    encoding = partial(encoding_painter, remat=config.remat)
    paint = (encoding if config.train_encoder else cached_painter)(model)
    step, samples = make_in_context_step(config, optimizer, paint), config.data.samples
    steps = [
        (
            f"{shape.examples} examples, {shape.side} x {shape.side} tokens",
            step,
            _describe_samples(model, samples, shape),
        )
        for shape in samples.shapes
    ]
    return partial(_init_in_context, model, with_encoder=config.train_encoder), steps


def _init_in_context(model: InContextConfig, *, with_encoder: bool) -> PyTree:
    params = nnx.as_pure(nnx.state(InContextModel(model, rngs=Keys(0)), nnx.Param))
    if not with_encoder:
        return params
    encoder = nnx.as_pure(nnx.state(Encoder(model.encoder, rngs=Keys(0)), nnx.Param))
    return {"model": params, "encoder": encoder}


def _describe_pictures(config: TrainConfig) -> dict[str, jax.ShapeDtypeStruct]:
    """Describe a batch of decoded pictures."""
    b, v, size = config.batch_size, config.pictures.pairs.views, config.pictures.pack_size
    batch = {"images": ((b, v, size, size, 3), "uint8"), "labels": ((b, v, size, size), "uint8")}
    batch |= {"pictures": ((b, v), "int32"), "kind": ((b,), "int32")}
    return {name: jax.ShapeDtypeStruct(*array) for name, array in batch.items()}


def _describe_samples(model: InContextConfig, samples: SamplesConfig, shape: Shape) -> SampleBatch:
    """Describe a batch of samples of cached features."""
    encoder: EncoderConfig = model.encoder
    b, tokens = samples.groups, shape.side**2
    pixels = (shape.side * encoder.patch_size,) * 2
    width = len(encoder.taps) * encoder.width

    def views(count: int) -> list[tuple[tuple[int, ...], str]]:
        features = ((b, count, tokens, width), "float16")
        return [features, ((b, count, *pixels, 3), "float32"), ((b, count, *pixels), "int32")]

    colours = ((b, samples.labels + 1, 3), "float32")
    weights = ((b, samples.queries, *pixels), "float32")
    arrays = [*views(shape.examples), colours, *views(samples.queries), weights]
    return SampleBatch._make(jax.ShapeDtypeStruct(*array) for array in arrays)


def measure(described: Described, *, parts: int) -> dict[str, float]:
    """Compile a step; return GFLOP and GiB. `parts` are the turns of its loop."""
    jitted = jax.jit(described.step, donate_argnums=0)
    lowered = jitted.trace(described.state, described.batch).lower()
    memory = lowered.compile().memory_analysis()
    costs = lowered.cost_analysis() or {}
    return {
        "gflop": parts * float(costs.get("flops", 0)) / 1e9,
        "state": memory.argument_size_in_bytes / GIB if memory else float("nan"),
        "activations": memory.temp_size_in_bytes / GIB if memory else float("nan"),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line for every kind of step; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m train.cost", description=__doc__)
    parser.add_argument("--config", required=True, metavar="RECIPE")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    args = parser.parse_args(argv)
    try:
        config = apply_overrides(load_recipe(Path(args.config)), args.set)
        steps = describe_steps(config)
    except ValueError as error:
        print(f"train.cost: error: {error}", file=sys.stderr)
        return 2
    count = sum(leaf.size for leaf in jax.tree.leaves(steps[0].state.params))
    print(f"{count / 1e6:.1f} M parameters, on {jax.device_count()} x {jax.default_backend()}")
    for described in steps:
        print(f"{described.name}: compiling ...", end="\r", flush=True)
        cost = measure(described, parts=config.accumulate)
        print(
            f"{described.name}: {cost['gflop']:,.0f} GFLOP, {cost['state']:.2f} GiB of state and "
            f"batch, {cost['activations']:.2f} GiB beside them"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
