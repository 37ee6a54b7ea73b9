from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.prompt_samples import PromptBatch, PromptShape
from seggpt.prompts import (
    ABSENT,
    BACKGROUND,
    FIRST_CORNER,
    FOREGROUND,
    PADDING,
    SECOND_CORNER,
)
from tests.jitting import jitted
from train import prompting
from train.config import ClicksConfig
from train.prompting import (
    FIRST,
    MOST_BOX_NOISE,
    NOISE,
    PROPOSED,
    Asked,
    ask,
    is_lone_point,
    simulate,
)

# What is random or found is an argument: of constants, XLA would work out all it can, slowly.
click_error = jitted(prompting.click_error)
first_prompt = jitted(prompting.first_prompt)
judge = jitted(prompting.judge)
mask_iou = jitted(prompting.mask_iou)
mask_loss = jitted(prompting.mask_loss)
noisy_box = jitted(prompting.noisy_box)
propose = jitted(prompting.propose)
SHAPE = PromptShape(side=2, pictures=1, clicks=3, mask_rounds=1, share=1.0)


def make_asked(truth, *, known=None, free=None, weight=None, is_thing=None, scale=1.0):
    truth = jnp.asarray(truth)
    known = jnp.ones(truth.shape, bool) if known is None else jnp.asarray(known)
    free = ~truth if free is None else jnp.asarray(free)
    weight = jnp.ones(len(truth)) if weight is None else jnp.asarray(weight)
    is_thing = jnp.ones(len(truth), bool) if is_thing is None else jnp.asarray(is_thing)
    return Asked(truth, known, free, weight, is_thing, scale)


def draw_masks(count=16, side=24, *, seed=0):
    """Return discs."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    rows, cols = rng.uniform(0.2, 0.8, (2, count, 1, 1)) * side
    reach = rng.uniform(0.1, 0.3, (count, 1, 1)) * side
    return (y - rows) ** 2 + (x - cols) ** 2 < reach**2


def logits_of(masks, size=20.0):
    return jnp.where(jnp.asarray(masks), size, -size)


# --- clicks and boxes


def click_pixels(asked, mask, *, seed=0, interior=0.5):
    """Return the pixels (x, y) that are pointed at, and the labels."""
    config = ClicksConfig(interior=interior)
    xy, label = click_error(jax.random.key(seed), asked, mask, config)
    pixels = (np.asarray(xy) + 0.5) / asked.scale - 0.5
    np.testing.assert_allclose(pixels, pixels.round(), atol=1e-4)  # their middles
    return pixels.round().astype(int), np.asarray(label)


@pytest.mark.parametrize("interior", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_clicks_fall_where_a_mask_is_wrong_and_say_what_is_right(interior, scale):
    truth, mask = draw_masks(64), draw_masks(64, seed=1)
    asked = make_asked(truth, scale=scale)
    xy, label = click_pixels(asked, mask, interior=interior)
    at = (np.arange(64), xy[:, 1], xy[:, 0])
    assert (truth[at] != mask[at]).all()
    np.testing.assert_array_equal(label, np.where(truth[at], FOREGROUND, BACKGROUND))
    assert set(label.tolist()) == {FOREGROUND, BACKGROUND}


def test_clicks_fall_on_the_target_where_nothing_is_wrong():
    truth = draw_masks(32)
    for mask in (truth, np.zeros_like(truth)):
        xy, label = click_pixels(make_asked(truth), mask)
        assert truth[np.arange(32), xy[:, 1], xy[:, 0]].all()
        assert (label == FOREGROUND).all()


def test_clicks_fall_anywhere_in_what_is_wrong():
    truth = np.zeros((400, 12, 12), bool)
    truth[:, 3:6, 5:9] = True
    xy, _ = click_pixels(make_asked(truth), np.zeros_like(truth), interior=0.0)
    _, counts = np.unique(xy, axis=0, return_counts=True)
    assert len(counts) == 12
    assert counts.min() > 10


def test_interior_clicks_fall_well_inside_what_is_wrong():
    truth = np.zeros((20, 64, 64), bool)
    truth[:, 10:19, 30:39] = True  # 9 by 9, and no other place has as much around it
    xy, _ = click_pixels(make_asked(truth), np.zeros_like(truth), interior=1.0)
    np.testing.assert_array_equal(xy, np.broadcast_to([34, 14], xy.shape))


def test_ignored_pixels_are_not_pointed_at():
    truth, mask = draw_masks(64), draw_masks(64, seed=1)
    known = np.random.default_rng(0).random(truth.shape) < 0.3
    wrong = (truth != mask) & known
    assert wrong.any(axis=(1, 2)).all()
    xy, _ = click_pixels(make_asked(truth, known=known), mask)
    assert wrong[np.arange(64), xy[:, 1], xy[:, 0]].all()


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_boxes_without_noise_fit(scale):
    truth = draw_masks(16)
    asked = make_asked(truth, scale=scale)
    boxes = np.asarray(noisy_box(jax.random.key(0), asked, ClicksConfig(box_noise=0.0)))
    for mask, (low, high) in zip(truth, boxes / scale, strict=True):
        rows, cols = np.nonzero(mask)
        np.testing.assert_allclose(low, [cols.min(), rows.min()])
        np.testing.assert_allclose(high, [cols.max() + 1, rows.max() + 1])


def test_boxes_are_wrong_by_little_and_lie_in_the_picture():
    truth = draw_masks(200)
    asked = make_asked(truth)
    exact, noisy, wild = (
        np.asarray(noisy_box(jax.random.key(0), asked, ClicksConfig(box_noise=noise)))
        for noise in (0.0, 0.01, 5.0)
    )
    sides = (exact[:, 1] - exact[:, 0])[:, None]
    # Of a strength between none and the most.
    assert ((noisy - exact) / sides).std() == pytest.approx(0.01 / 3**0.5, rel=0.2)
    most = MOST_BOX_NOISE * 24
    assert np.abs(wild - exact).max() == pytest.approx(most, rel=1e-3)
    assert wild.min() >= 0
    assert wild.max() <= 24
    assert (wild[:, 1] > wild[:, 0]).all()


def first(asked, *, boxes, proposal=None):
    config = ClicksConfig(boxes=boxes, box_noise=0.0)
    return first_prompt(jax.random.key(0), asked, config, shape=SHAPE, proposal=proposal)


def test_the_first_prompt_is_a_point_or_a_box():
    asked = make_asked(draw_masks(64))
    points, boxes, mixed = (first(asked, boxes=share) for share in (0.0, 1.0, 0.5))
    for asking in (points, boxes, mixed):
        assert asking.coords.shape == (64, FIRST + 4, 2)
        assert (asking.labels[:, FIRST:] == ABSENT).all()
    assert (points.labels[:, :FIRST] == jnp.asarray([FOREGROUND, PADDING])).all()
    assert (boxes.labels[:, :FIRST] == jnp.asarray([FIRST_CORNER, SECOND_CORNER])).all()
    want = noisy_box(jax.random.key(9), asked, ClicksConfig(box_noise=0.0))
    np.testing.assert_array_equal(boxes.coords[:, :FIRST], want)
    x, y = np.asarray(points.coords[:, 0]).astype(int).T
    assert np.asarray(asked.truth)[np.arange(64), y, x].all()
    share = (mixed.labels[:, 0] == FIRST_CORNER).mean()
    assert 0.2 < share < 0.8


def test_the_first_prompt_about_a_proposal_points_at_its_mistakes():
    truth, found = draw_masks(64), draw_masks(64, seed=1)
    proposal = logits_of(found, 3.0)
    asking = first(make_asked(truth), boxes=0.0, proposal=proposal)
    np.testing.assert_array_equal(asking.logits, proposal)
    x, y = np.asarray(asking.coords[:, 0]).astype(int).T
    at = (np.arange(64), y, x)
    assert (truth[at] != found[at]).all()
    assert set(np.asarray(asking.labels[:, 0]).tolist()) == {FOREGROUND, BACKGROUND}


# --- losses


def test_the_loss_is_lowest_at_the_truth():
    truth = draw_masks()
    asked = make_asked(truth)
    best = mask_loss(logits_of(truth), asked, alpha=0.25, dice=1.0)
    assert best.max() < 0.01
    rng = np.random.default_rng(0)
    for share in (0.01, 0.1, 1.0):
        wrong = truth ^ (rng.random(truth.shape) < share)
        assert (mask_loss(logits_of(wrong), asked, alpha=0.25, dice=1.0) > best + 0.01).all()
    unsure = mask_loss(logits_of(truth, 1.0), asked, alpha=0.25, dice=1.0)
    assert (unsure > best).all()


def test_only_known_pixels_have_a_gradient():
    truth = draw_masks()
    known = np.random.default_rng(0).random(truth.shape) < 0.5
    asked = make_asked(truth, known=known)
    logits = jnp.asarray(np.random.default_rng(1).normal(size=truth.shape), jnp.float32)
    loss = jax.grad(lambda logits: mask_loss(logits, asked, alpha=0.25, dice=1.0).sum())
    grads = jax.jit(loss)(logits)
    np.testing.assert_array_equal(grads != 0, known)
    rows = np.asarray(grads)
    assert (rows[known & truth] < 0).all()  # a step down the gradient marks what is to be marked
    assert (rows[known & ~truth] > 0).all()


def test_alpha_weighs_what_is_marked():
    truth = draw_masks(4)
    asked = make_asked(truth)
    missed, spilled = logits_of(np.zeros_like(truth), 2.0), logits_of(np.ones_like(truth), 2.0)

    def rise(logits):
        few, much = (mask_loss(logits, asked, alpha=alpha, dice=1.0) for alpha in (0.25, 0.75))
        return much - few

    assert (rise(missed) > 0).all()
    assert (rise(spilled) < 0).all()


def test_iou():
    truth = draw_masks(4)
    asked = make_asked(truth)
    np.testing.assert_array_equal(mask_iou(logits_of(truth), asked), 1)
    np.testing.assert_array_equal(mask_iou(logits_of(~truth), asked), 0)
    half = truth & (np.cumsum(truth.reshape(4, -1), axis=1).reshape(truth.shape) % 2 == 0)
    want = half.sum(axis=(1, 2)) / truth.sum(axis=(1, 2))
    np.testing.assert_allclose(mask_iou(logits_of(half), asked), want, rtol=1e-6)
    known = np.zeros_like(truth)
    known[:, :12] = True
    blind = truth & known | ~truth & ~known
    np.testing.assert_array_equal(mask_iou(logits_of(blind), make_asked(truth, known=known)), 1)


def test_iou_where_there_is_nothing_to_find():
    asked = make_asked(np.zeros((2, 8, 8), bool))
    found = np.zeros((2, 8, 8), bool)
    found[1, 3, 3] = True
    np.testing.assert_array_equal(mask_iou(logits_of(found), asked), [1, 0])


def four_masks(truth):
    rng = np.random.default_rng(0)
    masks = jnp.asarray(rng.normal(size=(len(truth), 4, *truth.shape[1:])), jnp.float32)
    return masks.at[:, 2].set(logits_of(truth, 5.0)), jnp.asarray(
        rng.normal(size=(len(truth), 4)), jnp.float32
    )


@pytest.mark.parametrize("several", [False, True])
def test_a_user_is_shown_the_mask_with_the_highest_score(several):
    truth = draw_masks(6)
    masks, scores = four_masks(truth)
    asked = make_asked(truth)
    unclear = jnp.asarray([True, False] * 3) if several else None
    logits, loss, iou = judge(masks, scores, asked, ClicksConfig(), unclear=unclear)
    picked = 1 + np.asarray(scores)[:, 1:].argmax(axis=1)
    picked = np.where(unclear, picked, 0) if unclear is not None else np.zeros(6, int)
    np.testing.assert_array_equal(logits, np.asarray(masks)[np.arange(6), picked])
    np.testing.assert_array_equal(iou, mask_iou(logits, asked))
    assert loss > 0


@pytest.mark.parametrize(("several", "learn"), [(False, [0]), (True, [0, 2])])
def test_only_the_best_of_several_masks_learns_and_only_from_unclear_prompts(several, learn):
    unclear = jnp.asarray([True, True, False, True, False, True]) if several else None
    ambiguous = np.asarray(unclear)[:, None] if several else False
    truth = draw_masks(6)
    masks, scores = four_masks(truth)
    weight = jnp.asarray([1.0, 0, 1, 1, 0, 1])
    asked = make_asked(truth, weight=weight)

    def loss(masks, scores):
        return judge(masks, scores, asked, ClicksConfig(), unclear=unclear)[1]

    by_mask, by_score = jax.jit(jax.grad(loss, argnums=(0, 1)))(masks, scores)
    asked_for = np.asarray(weight)[:, None] > 0
    wanted = asked_for & np.isin(np.arange(4), learn) & (ambiguous | (np.arange(4) == 0))
    np.testing.assert_array_equal(np.abs(by_mask).max(axis=(2, 3)) > 0, wanted)
    judged = asked_for & (ambiguous | (np.arange(4) == 0))
    np.testing.assert_array_equal(by_score != 0, judged)
    # Scores go towards the IoU, whatever it is.
    hits = jnp.stack([mask_iou(masks[:, i], asked) for i in range(4)], axis=1)
    np.testing.assert_array_equal(np.sign(by_score)[judged], np.sign(scores - hits)[judged])


def test_where_nothing_is_no_mask_is_right_and_none_is_learned():
    truth = np.array(draw_masks(4))
    truth[:2] = False
    asked = make_asked(truth, is_thing=[False, False, True, True])
    masks, scores = four_masks(truth)
    masks = masks.at[0].set(-9.0)  # even an empty one: someone pointed there

    def loss(masks, scores):
        return judge(masks, scores, asked, ClicksConfig(), unclear=jnp.ones(4, bool))[1]

    by_mask, by_score = jax.jit(jax.grad(loss, argnums=(0, 1)))(masks, scores)
    assert not by_mask[:2].any()
    assert by_mask[2:].any()
    np.testing.assert_array_equal(np.sign(by_score[:2]), np.sign(scores[:2]))  # towards 0


def test_a_lone_point_is_unclear_and_a_box_is_not():
    asked = make_asked(draw_masks(32))
    asking = first(asked, boxes=0.5)
    boxed = np.asarray(asking.labels[:, 0]) == FIRST_CORNER
    assert boxed.any()
    np.testing.assert_array_equal(is_lone_point(asking.labels), ~boxed)


def test_nothing_is_pointed_at_where_nothing_is():
    truth = np.array(draw_masks(32))
    free = ~truth
    truth[::2] = False
    asked = make_asked(truth, free=free, is_thing=np.arange(32) % 2 == 1)
    asking = first(asked, boxes=1.0)
    assert (asking.labels[::2, 0] == FOREGROUND).all()
    assert (asking.labels[1::2, 0] == FIRST_CORNER).all()
    x, y = np.asarray(asking.coords[::2, 0]).astype(int).T
    assert free[np.arange(0, 32, 2), y, x].all()


# --- rounds


def test_every_target_of_every_window_is_asked_for():
    rng = np.random.default_rng(0)
    truth = rng.random((2, 3, 8, 8)) < 0.5
    known, free = rng.random((2, 2, 8, 8)) < 0.5
    batch = PromptBatch(
        features=np.zeros((2, 4, 1), np.float16),
        images=np.zeros((2, 16, 16, 3), np.float32),
        truth=truth,
        known=known,
        free=free,
        weight=np.arange(6, dtype=np.float32).reshape(2, 3),
        is_thing=np.array([[True, False, True], [True, True, False]]),
        origin=np.zeros((2, 2), np.float32),
    )
    asked = ask(batch)
    for row in range(6):
        window, target = divmod(row, 3)
        np.testing.assert_array_equal(asked.truth[row], truth[window, target])
        np.testing.assert_array_equal(asked.known[row], known[window])
        np.testing.assert_array_equal(asked.free[row], free[window])
        assert asked.weight[row] == row
        assert asked.is_thing[row] == batch.is_thing[window, target]
    assert asked.scale == 2


def echo(asked, seen=None):
    """Return a model that marks discs around foreground points and unmarks them around others."""
    side = asked.truth.shape[1]
    y, x = np.mgrid[:side, :side]

    def decode(coords, labels, mask):
        if seen is not None:
            seen.append((coords.shape, mask is not None))
        logits = jnp.full((len(coords), side, side), -2.0) if mask is None else mask
        for slot in range(coords.shape[1]):
            at = (coords[:, slot] + 0.5) / asked.scale
            near = (x - at[:, :1, None]) ** 2 + (y - at[:, 1:, None]) ** 2 < 9
            sign = jnp.select([labels[:, slot] == 1, labels[:, slot] == 0], [4.0, -4.0], 0.0)
            logits = jnp.where(near & (sign != 0)[:, None, None], sign[:, None, None], logits)
        scores = jnp.zeros((len(coords), 4))
        return jnp.repeat(logits[:, None], 4, axis=1), scores

    return decode


def play(asked, *, seed=0, seen=None, **changes):
    shape, config = replace(SHAPE, **changes), ClicksConfig(boxes=0.0)
    run = jitted(partial(simulate, echo(asked, seen)))
    return run(asked, config, shape=shape, key=jax.random.key(seed))


def test_every_round_gives_a_mask():
    asked = make_asked(draw_masks(5))
    out = play(asked)
    assert out.iou.shape == (1 + SHAPE.clicks + SHAPE.mask_rounds, 5)
    assert out.logits.shape == asked.truth.shape
    assert np.isfinite(out.loss)
    assert play(asked, clicks=0, mask_rounds=0).iou.shape == (1, 5)


def test_clicks_mend_what_a_model_that_listens_makes_of_them():
    iou = play(make_asked(draw_masks(16)), clicks=8, mask_rounds=0).iou.mean(axis=1)
    assert iou[-1] > iou[0] + 0.2


def test_the_same_key_gives_the_same_rounds():
    asked = make_asked(draw_masks(5))
    first_run, again, other = play(asked), play(asked), play(asked, seed=1)
    np.testing.assert_array_equal(first_run.logits, again.logits)
    assert (first_run.logits != other.logits).any()


def test_only_a_proposal_is_seen_in_the_first_round():
    asked, seen = make_asked(draw_masks(5)), []
    play(asked, seen=seen, clicks=0, mask_rounds=0)
    play(asked, seen=seen, clicks=0, mask_rounds=0, proposed=True)
    assert [with_mask for _, with_mask in seen] == [False, True]


def test_after_the_first_round_nothing_is_asked_for_where_nothing_is():
    truth = np.array(draw_masks(4))
    truth[0] = False
    asked = make_asked(truth, is_thing=[False, True, True, True])

    def loss(logits):
        def decode(coords, labels, mask):
            return jnp.repeat(logits[:, None], 4, axis=1), jnp.zeros((4, 4))

        return simulate(decode, asked, ClicksConfig(), shape=SHAPE, key=jax.random.key(0)).loss

    grads = jax.jit(jax.grad(loss))(jnp.zeros(asked.truth.shape))
    assert not grads[0].any()
    assert all(grad.any() for grad in grads[1:])


# --- masks that are there already


def test_proposals_are_the_truth_with_noise():
    truth = draw_masks(64, side=56)
    proposal = np.asarray(propose(jax.random.key(0), make_asked(truth)))
    assert proposal.shape == truth.shape
    assert np.isfinite(proposal).all()
    right = ((proposal > 0) == truth).mean(axis=(1, 2))
    assert right.max() > 0.95  # some are nearly right
    assert right.min() < right.max() - 0.1  # and some are not
    assert right.mean() > 0.75
    assert np.abs(proposal).max() < PROPOSED + 5 * NOISE
