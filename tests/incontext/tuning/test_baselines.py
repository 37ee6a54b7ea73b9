"""What untuned contexts reach."""

import numpy as np

from incontext.tuning.baselines import score_context, score_each
from incontext.tuning.pictures import read_pictures


def test_every_picture_has_its_own_counts_in_their_order(segmenter, examples):
    pictures = read_pictures(examples, side=24)
    context = segmenter.context(examples[:1])
    each = score_each(segmenter, context, pictures)
    for row, counts in enumerate(each):
        [alone] = score_each(segmenter, context, pictures.take([row]))
        np.testing.assert_array_equal(counts.hits, alone.hits)
        np.testing.assert_array_equal(counts.wrong, alone.wrong)
    assert [counts.marked[0] for counts in each] == (pictures.slots == 1).sum(axis=(1, 2)).tolist()
    assert len({int(counts.wrong.sum()) for counts in each}) > 1
    whole = score_context(segmenter, context, pictures)
    np.testing.assert_array_equal(whole.hits, sum(counts.hits for counts in each))
