"""First weights are those that flax's own streams of keys give."""

import jax
import numpy as np
from flax import nnx

from seggpt.model import SegGPT
from seggpt.weights.keys import Keys
from tests.tiny_models import tiny_seggpt


def test_weights_are_those_of_flax():
    ours, theirs = (
        jax.tree.leaves(nnx.state(SegGPT(tiny_seggpt(), rngs=rngs), nnx.Param))
        for rngs in (Keys(3), nnx.Rngs(3))
    )
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_key_may_take_the_place_of_a_seed():
    one, other = Keys(3), Keys(jax.random.key(3))
    assert [one.params() for _ in range(2)] == [other.params() for _ in range(2)]
    assert one.params() != one.params()
