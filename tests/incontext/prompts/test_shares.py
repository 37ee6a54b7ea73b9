import numpy as np

from incontext.prompts.shares import make_result, share


def test_a_label_wins_where_its_logit_is_the_highest_and_above_zero():
    logits = np.random.default_rng(0).normal(size=(3, 8, 9)).astype(np.float32)
    picture = np.zeros((8, 9, 3), np.uint8)
    result = make_result(logits, (2, 5, 9), picture)
    want = np.where(logits.max(axis=0) > 0, np.array([2, 5, 9])[logits.argmax(axis=0)], 0)
    np.testing.assert_array_equal(result.label_map, want)


def test_shares_sum_to_one():
    logits = 20 * np.random.default_rng(0).normal(size=(2, 4, 4)).astype(np.float32)
    np.testing.assert_allclose(share(logits).sum(axis=0), 1.0, rtol=1e-6)
