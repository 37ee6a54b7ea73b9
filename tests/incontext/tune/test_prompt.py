"""Every kind of prompt starts as the examples it was made of."""

import jax.numpy as jnp
import numpy as np
import pytest

from incontext.tune.prompt import Palette, Prompt
from seggpt.canvas import normalize
from tests.jitting import jitted


def make_prompt(segmenter, kind, *, pairs=2):
    return Prompt(segmenter.engine.graphdef, segmenter.config, kind, pairs, 0)


def make_pairs(passes=2, pairs=2, size=16):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(1, pairs, size, size, 3)).repeat(passes, axis=0)
    class_ids = rng.integers(0, 4, (pairs, size, size))
    palette = Palette(((1, 2), (3,)))
    return jnp.asarray(images, jnp.float32), palette.targets(jnp.asarray(class_ids))


KINDS = [
    ("prefix", "cache"),
    ("prefix", "tokens"),
    ("prefix", "pixels"),
    ("mutual", "tokens"),
    ("mutual", "pixels"),
]


@pytest.mark.parametrize(("attention", "kind"), KINDS)
def test_an_unlearned_prompt_paints_as_its_examples(request, attention, kind):
    segmenter = request.getfixturevalue("segmenter" if attention == "prefix" else "mutual")
    images, targets = make_pairs()
    queries = normalize(jnp.asarray(np.random.default_rng(1).random((3, 16, 16, 3)), jnp.float32))
    plain = segmenter.engine._encode(segmenter.engine.params, images, targets, 0)
    wanted = segmenter.engine._paint(segmenter.engine.params, plain, queries, 0, passes=2)
    prompt = make_prompt(segmenter, kind)
    learned = jitted(prompt.start)(segmenter.engine.params, images, targets)
    arrays = jitted(prompt.expand)(segmenter.engine.params, learned)
    painted = jitted(prompt.paint)(segmenter.engine.params, arrays, queries)
    np.testing.assert_allclose(painted, wanted, atol=2e-4)
    # And a context that holds these arrays is painted alike.
    through_context = segmenter.engine._paint(segmenter.engine.params, arrays, queries, 0, passes=2)
    np.testing.assert_allclose(through_context, wanted, atol=2e-4)


def test_colours_of_passes_do_not_change_with_the_order_of_pictures():
    palette = Palette(((1, 2), (3,)))
    class_ids = jnp.asarray([[[0, 1], [2, 3]]])
    targets = np.asarray(palette.targets(class_ids))
    assert targets.shape == (2, 1, 2, 2, 3)
    np.testing.assert_array_equal(targets[1, 0, 0, 1], targets[1, 0, 0, 0])  # another pass' label
    np.testing.assert_array_equal(targets[0, 0, 0, 1], targets[1, 0, 1, 1])  # first in its pass
