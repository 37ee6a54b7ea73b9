"""What untuned contexts reach."""

import numpy as np

from incontext.tune.baselines import score_context
from incontext.tune.pictures import read_pictures


def test_counts_of_pictures_add_up(segmenter, examples):
    pictures = read_pictures(examples, side=24)
    context = segmenter.context(examples[:1])
    alone = [
        score_context(segmenter, context, pictures.take([row])) for row in range(len(pictures))
    ]
    assert [counts.marked[0] for counts in alone] == [(s == 1).sum() for s in pictures.class_ids]
    assert len({int(counts.wrong.sum()) for counts in alone}) > 1
    whole = score_context(segmenter, context, pictures)
    for name in ("hits", "wrong", "marked"):
        np.testing.assert_array_equal(
            getattr(whole, name), sum(getattr(counts, name) for counts in alone)
        )
