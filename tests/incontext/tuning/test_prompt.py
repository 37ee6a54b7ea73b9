"""Every kind of prompt starts as the examples it was made of."""

import jax.numpy as jnp
import numpy as np
import pytest

from incontext.tuning.prompt import Palette, Prompt, choose_cells
from seggpt.canvas import normalize


def make_prompt(segmenter, kind, *, pairs=2, learns_lookup=False):
    return Prompt(segmenter.engine.graphdef, segmenter.config, kind, pairs, 0, learns_lookup)


def make_pairs(passes=2, pairs=2, size=16):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(1, pairs, size, size, 3)).repeat(passes, axis=0)
    slots = rng.integers(0, 4, (pairs, size, size))
    palette = Palette(((1, 2), (3,)))
    return jnp.asarray(images, jnp.float32), palette.targets(jnp.asarray(slots))


KINDS = [
    ("prefix", "cache", False),
    ("prefix", "cache", True),
    ("prefix", "tokens", False),
    ("prefix", "pixels", False),
    ("mutual", "tokens", False),
    ("mutual", "pixels", False),
]


@pytest.mark.parametrize(("attention", "kind", "learns_lookup"), KINDS)
def test_an_unlearned_prompt_paints_as_its_examples(request, attention, kind, learns_lookup):
    segmenter = request.getfixturevalue("segmenter" if attention == "prefix" else "mutual")
    images, targets = make_pairs()
    queries = normalize(jnp.asarray(np.random.default_rng(1).random((3, 16, 16, 3)), jnp.float32))
    plain = segmenter.engine._encode(segmenter.engine.params, images, targets, 0)
    wanted = segmenter.engine._paint(segmenter.engine.params, plain, queries, 0, passes=2)
    prompt = make_prompt(segmenter, kind, learns_lookup=learns_lookup)
    lookup = plain[-1] if attention == "prefix" else None
    learned, frozen = prompt.split(segmenter.engine.params, images, targets, lookup)
    arrays = prompt.expand(segmenter.engine.params, learned, frozen)
    painted = prompt.paint(segmenter.engine.params, arrays, queries)
    np.testing.assert_allclose(painted, wanted, atol=2e-4)
    # And a context that holds these arrays is painted alike.
    through_context = segmenter.engine._paint(segmenter.engine.params, arrays, queries, 0, passes=2)
    np.testing.assert_allclose(through_context, wanted, atol=2e-4)


def test_kept_cells_stand_for_all_of_them():
    rng = np.random.default_rng(0)
    keys = jnp.asarray(rng.normal(size=(1, 4000, 2, 4)), jnp.float32)
    values = jnp.asarray(rng.normal(size=(1, 4000, 2, 3)), jnp.float32)
    slots = (rng.random(4000) < 0.05).astype(int)
    kept, _ = choose_cells((keys, values), slots, 1000, seed=0)
    assert kept.shape == (1, 1000, 2, 4)
    assert choose_cells((keys, values), slots, 4000, seed=0)[0] is keys
    # The last feature is the log of a weight: its sum over the kept cells must be that over all.
    plain = np.exp(np.asarray(keys)[0, :, 0, 3]).mean()
    assert np.exp(np.asarray(kept)[0, :, 0, 3]).mean() == pytest.approx(plain, rel=0.1)


def test_colours_of_passes_do_not_change_with_the_order_of_pictures():
    palette = Palette(((1, 2), (3,)))
    slots = jnp.asarray([[[0, 1], [2, 3]]])
    targets = np.asarray(palette.targets(slots))
    assert targets.shape == (2, 1, 2, 2, 3)
    np.testing.assert_array_equal(targets[1, 0, 0, 1], targets[1, 0, 0, 0])  # another pass' label
    np.testing.assert_array_equal(targets[0, 0, 0, 1], targets[1, 0, 1, 1])  # first in its pass
