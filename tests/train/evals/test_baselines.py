import numpy as np
import pytest

from data.benchmarks import Pair
from train.evals.baselines import BASELINES, copy_mask, everything, match_colours

RED, BLUE, GREEN = (200, 30, 30), (30, 30, 200), (30, 200, 30)


def pair(mask, *, inside=RED, outside=BLUE, ignore=None):
    mask = np.asarray(mask, bool)
    image = np.where(mask[..., None], inside, outside).astype(np.uint8)
    return Pair(image, mask, np.zeros_like(mask) if ignore is None else np.asarray(ignore, bool))


def square(top, left, *, size=8, side=4):
    mask = np.zeros((size, size), bool)
    mask[top : top + side, left : left + side] = True
    return mask


@pytest.mark.parametrize("name", BASELINES)
def test_predictions_have_the_query_size(name):
    query = np.zeros((6, 10, 3), np.uint8)
    prediction = BASELINES[name]([pair(square(0, 0))], query)
    assert prediction.shape == (6, 10)
    assert prediction.dtype == bool


def test_a_copied_mask_is_stretched():
    query = np.zeros((16, 24, 3), np.uint8)
    expected = np.zeros((16, 24), bool)
    expected[:8, :12] = True
    np.testing.assert_array_equal(copy_mask([pair(square(0, 0))], query), expected)


def test_several_copied_masks_vote_and_ties_are_foreground():
    query = np.zeros((8, 8, 3), np.uint8)
    left, right = square(0, 0, side=8), square(0, 4)
    left[:, 4:] = False
    np.testing.assert_array_equal(copy_mask([pair(left), pair(right)], query), left | right)
    np.testing.assert_array_equal(copy_mask([pair(left), pair(left), pair(right)], query), left)


def test_colours_are_matched_wherever_they_are():
    query = pair(square(4, 4))
    np.testing.assert_array_equal(match_colours([pair(square(0, 0))], query.image), query.mask)


def test_unknown_colours_are_background():
    query = np.full((8, 8, 3), GREEN, np.uint8)
    assert not match_colours([pair(square(0, 0))], query).any()


def test_ignored_pixels_teach_no_colour():
    mask = square(0, 0)
    example = pair(mask, outside=RED, ignore=~mask)
    assert match_colours([example], example.image).all()


def test_the_examples_order_does_not_matter():
    rng = np.random.default_rng(0)
    examples = [
        Pair(rng.integers(0, 256, (8, 8, 3), np.uint8), square(*at), np.zeros((8, 8), bool))
        for at in ((0, 0), (2, 3), (4, 4))
    ]
    query = rng.integers(0, 256, (9, 9, 3), np.uint8)
    for predict in (copy_mask, match_colours):
        np.testing.assert_array_equal(predict(examples, query), predict(examples[::-1], query))


def test_everything_is_foreground():
    assert everything([], np.zeros((3, 4, 3), np.uint8)).all()
