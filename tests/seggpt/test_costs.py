"""Costs that are counted from shapes, against what JAX makes of the same shapes."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from seggpt.config import ENCODERS
from seggpt.config.costs import count_flops, count_parameters
from seggpt.encoder import Encoder


def abstract(config):
    return nnx.split(nnx.eval_shape(lambda: Encoder(config, rngs=nnx.Rngs(0))), nnx.Param)


@pytest.mark.parametrize("name", ["dinov2-small", "dinov2-base-registers", "dinov3-small-plus"])
def test_parameters_are_those_of_the_arrays(name) -> None:
    arrays = jax.tree.leaves(nnx.as_pure(abstract(ENCODERS[name])[1]))
    assert count_parameters(ENCODERS[name]) == sum(math.prod(a.shape) for a in arrays)


@pytest.mark.parametrize(
    ("name", "millions"),
    [  # as the authors' READMEs round them
        ("dinov2-large", 300),
        ("dinov2-giant", 1100),
        ("dinov3-small", 21),
        ("dinov3-small-plus", 29),
        ("dinov3-base", 86),
        ("dinov3-large", 300),
        ("dinov3-huge-plus", 840),
    ],
)
def test_parameters_are_those_that_are_published(name, millions) -> None:
    assert count_parameters(ENCODERS[name]) / 1e6 == pytest.approx(millions, rel=0.04)


@pytest.mark.parametrize("name", ["dinov2-small", "dinov3-small-plus"])
def test_operations_are_those_that_xla_counts(name) -> None:
    config = replace(ENCODERS[name], depth=2, taps=(1,))
    graphdef, params = abstract(config)
    size = 8 * config.patch_size
    image = jax.ShapeDtypeStruct((1, size, 2 * size, 3), jnp.float32)
    traced = jax.jit(lambda p, i: nnx.merge(graphdef, p)(i)).trace(nnx.as_pure(params), image)
    # The graph for an accelerator has no loops, whose bodies count once.
    counted = (traced.lower(lowering_platforms=("tpu",)).cost_analysis() or {})["flops"]
    assert count_flops(config, (size, 2 * size)) == pytest.approx(counted, rel=0.05)
