"""What a run starts from."""

import dataclasses

import jax
import numpy as np

from incontext.examples.contents import Encoded
from incontext.tune import prepare, tuner
from incontext.tune.baselines import Plain
from incontext.tune.config import TuneConfig
from incontext.tune.scores import no_counts

SMALL = TuneConfig(steps=2, batch_size=2, views=4, reuse=1, prompts=1)


def begin(segmenter, examples, **changes):
    """Return a run and what it starts from, as the arrays of a context."""
    config = tuner.resolve(dataclasses.replace(SMALL, **changes), segmenter)
    pictures = tuner.read_pictures(examples, side=48)
    config = prepare.fill(config, segmenter.engine, pictures)
    plains = [Plain("1 example", segmenter.context(examples[:1]), no_counts(1), (0,))]
    run, learned = prepare.prepare_run(
        segmenter.engine, pictures, pictures, plains, config=config, seg_type="semantic"
    )
    return run, run.prompt.expand(run.params, learned)


def test_a_spread_start_on_one_picture_is_that_example(segmenter, examples):
    _, spread = begin(segmenter, examples[:1], start="spread")
    _, best = begin(segmenter, examples[:1], start="best")
    jax.tree.map(np.testing.assert_array_equal, spread, best)


def test_a_spread_start_has_tokens_of_every_picture(segmenter, examples):
    run, arrays = begin(segmenter, examples, start="spread", prompts=4)
    assert isinstance(arrays, Encoded)
    tokens = np.asarray(arrays.blocks[0][0])[0]
    assert len(tokens) == 4 * segmenter.config.grid**2
    for row in range(len(examples)):
        _, own = begin(segmenter, examples[row : row + 1], start="best")
        assert isinstance(own, Encoded)
        distance = np.abs(tokens[:, None] - np.asarray(own.blocks[0][0])[0]).max(axis=(2, 3))
        assert (distance.min(axis=1) < 1e-5).sum() >= 1
    assert run.config.start == "spread"


def test_tokens_of_rare_labels_are_kept_more_often():
    class_ids = (np.random.default_rng(0).random((7, 400)) < 0.02).astype(int)
    kept = prepare.choose_tokens(class_ids, 2, seed=0)
    assert sum(map(len, kept)) == 2 * 400
    assert all((np.diff(rows) > 0).all() for rows in kept)
    chosen = np.concatenate([row[some] for row, some in zip(class_ids, kept, strict=True)])
    assert chosen.mean() > 1.5 * class_ids.mean()
