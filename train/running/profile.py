"""How fast a step's parts are: `python -m train.running.profile --config RECIPE`.

The parts are those of an in-context model on cached features, in the recipe's first shape of
batches; weights and samples are drawn. Each part runs forward and backward by itself, in turn with
a matrix product that stands for this device's peak, and its quickest turn counts. CPU time, that of
all threads, is what to go by where other work runs on the machine.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, PyTree

from data.config import FeaturesConfig
from data.feature_samples import SampleBatch
from seggpt.blocks import examples_through, queries_through
from seggpt.config import InContextConfig
from seggpt.in_context.model import Cache, InContextModel
from seggpt.in_context.pixel_decoder import CELLS
from seggpt.stem import Pyramid
from train.__main__ import keep_freed_memory, load_recipe
from train.config import TrainConfig
from train.cost import describe_steps
from train.optim import make_optimizer
from train.overrides import apply_overrides
from train.state import init_state
from train.step import compute_dtype
from train.tasks.in_context import embed_cached, encode_batch, merge_samples

PRODUCT = 3072  # rows and columns


class Part(NamedTuple):
    """A function, and what it is given."""

    run: Callable[..., Any]
    given: tuple[PyTree, ...]


class Timing(NamedTuple):
    """What a part costs: its FLOPs, and the least time on the clock and of all threads."""

    gflop: float
    seconds: float
    cpu_seconds: float


def make_parts(config: TrainConfig) -> dict[str, Part]:
    """Return the parts of a recipe's step, and the step itself, after the matrix product.

    Raises:
        ValueError: if the recipe is not of the in-context model on cached features.
    """
    is_cached = isinstance(config.data, FeaturesConfig) and not config.train_encoder
    if not (isinstance(config.model, InContextConfig) and is_cached):
        raise ValueError("parts are told of in-context models on cached features alone")
    rng = np.random.default_rng(0)
    described = describe_steps(config)[0]
    batch = jax.tree.map(lambda a: rng.uniform(0, 1, a.shape).astype(a.dtype), described.batch)
    graphdef, weights = nnx.split(InContextModel(config.model, rngs=nnx.Rngs(0)), nnx.Param)
    params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), nnx.as_pure(weights))
    optimizer = make_optimizer(config.optim, steps=config.steps, depth=config.model.depth)
    dtype = compute_dtype(config)
    square = jnp.asarray(rng.uniform(-1, 1, (PRODUCT, PRODUCT)), dtype)
    cast = jax.tree.map(lambda a: a.astype(dtype), params)
    return {
        "product": Part(jnp.matmul, (square, square)),
        **_model_parts(graphdef, cast, batch, rng),
        "step": Part(described.step, (init_state(params, optimizer), batch)),
    }


def _model_parts(
    graphdef: nnx.GraphDef[InContextModel],
    params: PyTree,
    batch: SampleBatch,
    rng: np.random.Generator,
) -> dict[str, Part]:
    """Return what paints a batch, part by part, each with inputs of its own."""
    whole = nnx.merge(graphdef, params)
    config, dtype = whole.config, whole.dtype
    examples, queries = (
        merge_samples(jnp.asarray(images, dtype))
        for images in (batch.example_images, batch.query_images)
    )
    rows, columns = (extent // config.encoder.patch_size for extent in queries.shape[1:3])

    def draw(*shape: int) -> Array:
        return jnp.asarray(rng.standard_normal(shape), dtype)

    def stem(model: InContextModel, images: Array) -> Pyramid:
        return model.stem(images)

    def matching(model: InContextModel, cache: Cache, features: Array, *learned: PyTree) -> PyTree:
        layers, fine, pyramid = learned
        query = embed_cached(model, features, batch.query_images)
        feats = jnp.concatenate(query.layers, axis=-1)
        cache = cache._replace(layers=layers, fine=fine)
        return model.priors(cache, query, pyramid, feats, (rows, columns))

    def blocks(model: InContextModel, examples: Array, queries: Array) -> Array:
        seen = examples_through(model.blocks, examples)
        seen = jax.tree.map(lambda a: a.reshape(len(batch.colours), -1, *a.shape[2:]), seen)
        return queries_through(model.blocks, queries, seen)

    def decoder(model: InContextModel, *inputs: PyTree) -> Array:
        return model.decoder(*inputs, grid=(rows, columns))

    cache, pyramid = jax.jit(lambda params: _encode(nnx.merge(graphdef, params), batch, queries))(
        params
    )
    tokens = [draw(len(a), rows * columns, config.width) for a in (examples, queries)]
    cells = draw(len(queries), 2 * rows, 2 * columns, 2 * CELLS)
    maps = [draw(len(queries), 2 * rows, 2 * columns, 3) for _ in config.matchings]
    fine_maps = [draw(len(queries), 4 * rows, 4 * columns, 3) for _ in range(2)]
    part = partial(_both_ways, graphdef, params)
    return {
        "stem": part(stem, fixed=(jnp.concatenate([examples, queries]),)),
        "matching": part(
            matching, cache.layers, cache.fine, pyramid, fixed=(cache, batch.query_features)
        ),
        "blocks": part(blocks, *tokens),
        "decoder": part(decoder, tokens[1], pyramid, cells, maps, fine_maps),
    }


def _encode(model: InContextModel, batch: SampleBatch, queries: Array) -> tuple[Cache, Pyramid]:
    return encode_batch(model, batch, embed_cached), model.stem(queries)


def _both_ways(
    graphdef: nnx.GraphDef[InContextModel],
    params: PyTree,
    run: Callable[..., PyTree],
    *inputs: PyTree,
    fixed: tuple[PyTree, ...] = (),
) -> Part:
    """Make a part that runs forward, and backward to the weights and inputs that are not fixed."""

    def both_ways(params: PyTree, fixed: tuple[PyTree, ...], inputs: PyTree) -> PyTree:
        def forward(params: PyTree, inputs: PyTree) -> PyTree:
            return run(nnx.merge(graphdef, params), *fixed, *inputs)

        out, backward = jax.vjp(forward, params, inputs)
        return backward(out)

    return Part(both_ways, (params, fixed, inputs))


def measure(parts: dict[str, Part], *, seconds: float) -> dict[str, Timing]:
    """Time all parts in turn, for so many seconds and three turns at least."""
    compiled, gflops, least = {}, {}, {}
    for name, (run, given) in parts.items():
        traced = jax.jit(run).trace(*given)
        compiled[name] = traced.lower().compile()
        gflops[name] = _count_flops(traced) / 1e9
        least[name] = [float("inf")] * 2
    given = jax.device_put({name: part.given for name, part in parts.items()})
    turns, end = 0, time.perf_counter() + seconds
    while turns < 3 or time.perf_counter() < end:
        for name, run in compiled.items():
            start = time.perf_counter(), time.process_time()
            jax.block_until_ready(run(*given[name]))
            took = time.perf_counter() - start[0], time.process_time() - start[1]
            least[name] = [*map(min, least[name], took)]
        turns += 1
    return {name: Timing(gflops[name], *least[name]) for name in parts}


def _count_flops(traced: Any) -> float:
    """Count as for a TPU, where none of what follows is a loop, whose body would count once."""
    costs = traced.lower(lowering_platforms=("tpu",)).cost_analysis() or {}
    return float(costs.get("flops", 0))


def format_timings(timings: dict[str, Timing]) -> str:
    """Return a table: each part's speed, and its share of the first one's."""
    peak = next(iter(timings.values()))
    lines = [f"{'':10}{'GFLOP':>8}{'ms':>9}{'GFLOP/s':>9}{'share':>7}{'CPU ms':>9}{'share':>7}"]
    for name, (gflop, seconds, cpu) in timings.items():
        share = gflop / seconds / (peak.gflop / peak.seconds)
        cpu_share = gflop / cpu / (peak.gflop / peak.cpu_seconds)
        lines.append(
            f"{name:10}{gflop:8.1f}{1e3 * seconds:9.1f}{gflop / seconds:9.1f}{share:7.0%}"
            f"{1e3 * cpu:9.1f}{cpu_share:7.0%}"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m train.running.profile", description=__doc__)
    add = parser.add_argument
    add("--config", required=True, metavar="RECIPE")
    add("--set", action="append", default=[], metavar="NAME=VALUE")
    add("--seconds", type=float, default=30.0, help="for all parts together (default: 30)")
    args = parser.parse_args(argv)
    try:
        parts = make_parts(apply_overrides(load_recipe(Path(args.config)), args.set))
    except ValueError as error:
        print(f"train.running.profile: error: {error}", file=sys.stderr)
        return 2
    print(format_timings(measure(parts, seconds=args.seconds)))
    return 0


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main())
