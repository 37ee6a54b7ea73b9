"""Where to look for a prompt, and which looks to believe."""

import numpy as np
import pytest

from incontext.answers import Answer, Closer
from incontext.looks import SCALES, agree, choose, looks_for
from incontext.prompt_rules import check_prompts
from incontext.zoom import OUTSIDE, Look
from seggpt.frame import Frame

SIZE, SIDE = (120, 200), 20
FRAME = Frame(SIZE, SIDE, squeeze=True)


def prompt(**parts):
    return check_prompts(
        parts.get("points"),
        parts.get("labels"),
        parts.get("boxes"),
        parts.get("mask"),
        size=SIZE,
        side=SIDE,
    )


def square(top, left, side):
    mask = np.full((SIDE, SIDE), -4.0, np.float32)
    mask[top : top + side, left : left + side] = 4.0
    return mask


def whole(masks, scores):
    return Answer(low_res=np.stack(masks)[None], scores=np.array([scores], np.float32), frame=FRAME)


def near(look, masks, scores):
    frame = Frame(look.shape, SIDE, squeeze=True)
    closer = tuple(Closer(look=look, frame=frame, low_res=mask) for mask in masks)
    return Answer(
        low_res=look.out_of(np.stack(masks))[None],
        scores=np.array([scores], np.float32),
        frame=FRAME,
        closer=(closer,),
    )


def test_points_alone_are_seen_from_far_and_near():
    looks = looks_for(prompt(points=[[150, 30]]), SIZE)
    assert looks[0] is None
    nearer = [look for look in looks if look is not None]
    areas = [look.shape[0] * look.shape[1] for look in nearer]
    assert len(areas) == len(SCALES)
    assert areas == sorted(areas, reverse=True)
    for look in nearer:
        x0, y0, x1, y1 = look.box
        assert 0 <= x0 <= 150 < x1 <= SIZE[1]
        assert 0 <= y0 <= 30 < y1 <= SIZE[0]


def test_every_look_shows_all_foreground_points_and_background_points_do_not_matter():
    points, labels = [[10, 10], [130, 40], [199, 119]], [1, 1, 0]
    looks = looks_for(prompt(points=points, labels=labels), SIZE)
    assert looks == looks_for(prompt(points=points[:2]), SIZE)
    for look in filter(None, looks):
        x0, y0, x1, y1 = look.box
        assert x0 <= 10 < 130 < x1
        assert y0 <= 10 < 40 < y1


@pytest.mark.parametrize("parts", [{"boxes": [20, 20, 60, 60]}, {"mask": square(4, 4, 5)}])
def test_a_box_or_a_mask_says_where_to_look(parts):
    (look,) = looks_for(prompt(points=[[42, 30]], **parts), SIZE)
    assert look is not None
    x0, y0, x1, y1 = look.box
    assert x0 <= 40 < 60 <= x1
    assert y0 <= 24 < 54 <= y1


def test_background_points_alone_are_asked_about_the_whole_picture():
    assert looks_for(prompt(points=[[10, 10]], labels=[0]), SIZE) == [None]


def test_looks_that_agree_are_believed():
    agreed, odd = square(5, 5, 6), square(0, 12, 8)
    answers = [whole([odd], [0.5]), whole([agreed], [0.5]), whole([agreed], [0.5])]
    chosen = choose(answers, count=1)
    np.testing.assert_array_equal(chosen.low_res[0, 0], agreed)


def test_of_looks_that_differ_alike_the_expected_one_is_believed():
    one, other = square(0, 0, 5), square(10, 10, 5)
    chosen = choose([whole([one], [0.4]), whole([other], [0.9])], count=1)
    np.testing.assert_array_equal(chosen.low_res[0, 0], other)


def test_a_mask_that_runs_out_of_its_look_is_not_believed():
    look = Look((50, 20, 150, 100), SIZE)
    inside, cut = near(look, [square(5, 5, 9)], [0.5]), near(look, [square(0, 0, 20)], [0.6])
    chosen = choose([cut, inside], count=1)
    assert chosen.closer[0][0] is inside.closer[0][0]
    part = near(look, [square(5, 0, 8)], [0.6])  # a tenth of the edges is enough
    assert choose([part, inside], count=1).closer[0][0] is inside.closer[0][0]
    assert (choose([cut, part], count=2).scores >= 0).all()
    # Where the picture ends with the look, nothing is cut off.
    everything = Look((0, 0, SIZE[1], SIZE[0]), SIZE)
    full = near(everything, [square(0, 0, 20)], [0.6])
    assert choose([full, near(everything, [square(5, 5, 9)], [0.5])], count=1).scores > 0.4


def test_several_masks_are_unlike_each_other_and_the_best_comes_first():
    one, twin, other = square(2, 2, 10), square(2, 2, 10), square(14, 14, 4)
    twin[2, 2] = -4
    chosen = choose([whole([one, twin, other], [0.9, 0.8, 0.2])], count=2)
    np.testing.assert_array_equal(chosen.low_res[0, 1], other)
    assert chosen.scores[0, 0] >= chosen.scores[0, 1]
    everything = choose([whole([one, twin, other], [0.9, 0.8, 0.2])], count=3)
    assert everything.low_res.shape == (1, 3, SIDE, SIDE)


def test_all_masks_of_a_clear_prompt_agree_on_their_mean():
    look = Look((40, 30, 80, 70), SIZE)
    masks = [square(5, 5, 8), square(5, 5, 8), square(5, 5, 8), square(6, 6, 10)]
    answer = near(look, masks, [0.7, 0.9, 0.2, 0.1])
    one = agree(answer)
    assert one.low_res.shape == (1, 1, SIDE, SIDE)
    np.testing.assert_array_equal(one.scores, answer.scores[:, :1])
    ((closer,),) = one.closer
    assert closer is not None
    assert closer.look == look
    np.testing.assert_array_equal(closer.low_res > 0, square(5, 5, 8) > 0)
    np.testing.assert_allclose(closer.low_res, np.mean(masks, axis=0))
    shown = look.out_of(np.zeros((SIDE, SIDE), np.float32)) > OUTSIDE
    np.testing.assert_array_equal(one.low_res[0, 0][~shown], OUTSIDE)


def test_no_mask_is_so_sure_that_it_outvotes_the_others():
    masks = [square(5, 5, 8)] * 3 + [np.full((SIDE, SIDE), -100.0, np.float32)]
    one = agree(whole(masks, [0.5] * 4))
    assert not one.closer
    np.testing.assert_array_equal(one.low_res[0, 0] > 0, square(5, 5, 8) > 0)
