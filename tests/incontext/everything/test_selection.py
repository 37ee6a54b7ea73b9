import numpy as np
import pytest

from incontext.everything.selection import Selection
from incontext.result import Result
from seggpt.errors import PromptError

SIZE = (20, 30)


def draw(x0, y0, x1, y1):
    mask = np.zeros(SIZE, bool)
    mask[y0:y1, x0:x1] = True
    return mask


WHOLE, PART, OTHER = draw(2, 2, 12, 12), draw(4, 4, 8, 8), draw(18, 5, 28, 18)
MASKS = [WHOLE, PART, OTHER]


def pick(**given):
    return Selection(**given).pick(MASKS, SIZE)


def result(marked):
    channels = np.stack([~marked, marked]).astype(np.float32)
    return Result(probabilities_lowres=channels, labels=(1,), size=marked.shape)


def test_points_keep_what_they_lie_in():
    assert pick(points=[[3, 3]]) == [0]
    assert pick(points=[[5, 5]]) == [0, 1]
    assert pick(points=[[5, 5], [20, 10]]) == [0, 1, 2]
    assert pick(points=[[15, 1]]) == []


def test_background_points_drop_what_they_lie_in():
    assert pick(points=[[5, 5], [3, 3]], labels=[1, 0]) == [1]
    assert pick(points=[[5, 5]], labels=[0]) == []


def test_boxes_keep_what_fills_them_best():
    assert pick(boxes=[2, 2, 12, 12]) == [0]
    assert pick(boxes=[4, 4, 8, 9]) == [1]
    assert pick(boxes=[[17, 5, 28, 18], [4, 4, 8, 8]]) == [1, 2]
    assert pick(boxes=[13, 0, 17, 4]) == []


def test_a_result_keeps_what_is_mostly_marked():
    assert pick(result=result(draw(2, 2, 8, 12))) == [0, 1]
    assert pick(result=result(OTHER)) == [2]
    assert pick(result=result(OTHER), points=[[3, 3]]) == [0, 2]


def test_nothing_is_kept_of_nothing():
    assert Selection(points=[[1, 1]], boxes=[0, 0, 5, 5]).pick([], SIZE) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "nothing to select by"),
        ({"points": [[99, 5]]}, "point 99,5 is outside the picture of 30x20"),
        ({"boxes": [5, 5, 1, 1]}, "reversed or empty"),
        ({"result": result(np.zeros((5, 5), bool))}, "a picture of 5x5, not of 30x20"),
    ],
)
def test_what_makes_no_sense_is_refused(given, message):
    with pytest.raises(PromptError, match=message):
        pick(**given)
