from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.prompt_heads import BACKBONE
from configs.prompt_heads import get_config as get_recipe
from data.augment import Views
from data.config import DataConfig, PairsConfig
from seggpt.canvas import normalize
from seggpt.coloring import IGNORE, paint, palette
from seggpt.prompts import (
    ABSENT,
    BACKGROUND,
    FIRST_CORNER,
    FOREGROUND,
    PADDING,
    SECOND_CORNER,
)
from tests.train.tiny import HEADS, SIZE, named, tiny_batch, tiny_config, tiny_model, tiny_pack
from train import prompting as module
from train.config import ClicksConfig, OptimConfig
from train.optim import make_optimizer
from train.prompting import (
    FIRST,
    MOST_BOX_NOISE,
    MOST_LOGIT,
    Asked,
    ask,
    click_error,
    first_prompt,
    judge,
    make_prompt_step,
    mask_iou,
    mask_loss,
    noisy_box,
    propose,
    simulate,
)
from train.state import init_params, init_state, merge_prompted

MODEL = tiny_model(**HEADS)
CLICKS = ClicksConfig(clicks=2, mask_rounds=1)


def prompt_config(**changes):
    pairs = PairsConfig(views=2, slots=2, several_labels=0.9, min_area=0.01)
    fields = {"clicks": CLICKS, "shots": ((0, 0.5), (1, 0.5)), "frozen": BACKBONE}
    fields |= {"data": DataConfig(pack_size=SIZE, sprites=0, pairs=pairs)}
    return tiny_config(MODEL, **(fields | changes))


@pytest.fixture(scope="module")
def params():
    shapes = jax.eval_shape(lambda: init_params(MODEL, jax.random.key(0)))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda a: jnp.asarray(0.2 * rng.normal(size=a.shape), a.dtype), shapes)


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    return tiny_pack(tmp_path_factory.mktemp("prompting"))


def make_asked(truth, *, known=None, weight=None, scale=1.0):
    truth = jnp.asarray(truth)
    known = jnp.ones(truth.shape, bool) if known is None else jnp.asarray(known)
    weight = jnp.ones(len(truth)) if weight is None else jnp.asarray(weight)
    return Asked(truth, known, weight, scale)


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
    xy, label = jax.jit(lambda key: click_error(key, asked, jnp.asarray(mask), config))(
        jax.random.key(seed)
    )
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
    assert ((noisy - exact) / sides).std() == pytest.approx(0.01, rel=0.2)
    most = MOST_BOX_NOISE * 24
    assert np.abs(wild - exact).max() == pytest.approx(most, rel=1e-3)
    assert wild.min() >= 0
    assert wild.max() <= 24
    assert (wild[:, 1] > wild[:, 0]).all()


def first(asked, *, boxes, proposal=None):
    config = ClicksConfig(clicks=3, mask_rounds=1, boxes=boxes, box_noise=0.0)
    return jax.jit(lambda key: first_prompt(key, asked, config, proposal=proposal))(
        jax.random.key(0)
    )


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
    grads = jax.grad(lambda logits: mask_loss(logits, asked, alpha=0.25, dice=1.0).sum())(logits)
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
    logits, loss, iou = judge(masks, scores, asked, ClicksConfig(), several=several)
    picked = 1 + np.asarray(scores)[:, 1:].argmax(axis=1) if several else np.zeros(6, int)
    np.testing.assert_array_equal(logits, np.asarray(masks)[np.arange(6), picked])
    np.testing.assert_array_equal(iou, mask_iou(logits, asked))
    assert loss > 0


@pytest.mark.parametrize(("several", "learn"), [(False, [0]), (True, [0, 2])])
def test_only_the_best_of_several_masks_learns(several, learn):
    truth = draw_masks(6)
    masks, scores = four_masks(truth)
    weight = jnp.asarray([1.0, 0, 1, 1, 0, 1])
    asked = make_asked(truth, weight=weight)

    def loss(masks, scores):
        return judge(masks, scores, asked, ClicksConfig(), several=several)[1]

    by_mask, by_score = jax.jit(jax.grad(loss, argnums=(0, 1)))(masks, scores)
    asked_for = np.asarray(weight)[:, None] > 0
    wanted = asked_for & np.isin(np.arange(4), learn)
    np.testing.assert_array_equal(np.abs(by_mask).max(axis=(2, 3)) > 0, wanted)
    judged = asked_for & (np.arange(4) < (4 if several else 1))
    np.testing.assert_array_equal(by_score != 0, judged)
    # Scores go towards the IoU, whatever it is.
    hits = jnp.stack([mask_iou(masks[:, i], asked) for i in range(4)], axis=1)
    np.testing.assert_array_equal(np.sign(by_score)[judged], np.sign(scores - hits)[judged])


# --- rounds


def make_views(labels):
    labels = jnp.asarray(labels)
    rng = np.random.default_rng(0)
    images, targets = rng.normal(size=(2, *labels.shape, 3)).astype(np.float32)
    kind = jnp.zeros(len(labels), int)
    return Views(jnp.asarray(images), jnp.asarray(targets), labels, kind)


def test_every_label_of_every_view_is_a_target():
    labels = np.zeros((2, 2, SIZE, SIZE), np.int32)
    labels[0, 0, :8], labels[0, 1, :, :3], labels[1, 1, 4:, 4:] = 1, 2, 1
    labels[:, :, -1] = IGNORE
    labels[1, 0, 0, 0] = 2  # too small to be asked for
    config = prompt_config()
    asked = ask(make_views(labels), slots=2, config=config)
    flat = labels.reshape(4, SIZE, SIZE)
    for view in range(4):
        for slot in (1, 2):
            row = 2 * view + slot - 1
            np.testing.assert_array_equal(asked.truth[row], flat[view] == slot)
            np.testing.assert_array_equal(asked.known[row], flat[view] != IGNORE)
    np.testing.assert_array_equal(asked.weight, [1, 0, 0, 1, 0, 0, 1, 0])
    assert asked.scale == 1
    smaller = ask(make_views(labels[..., ::2, ::2]), slots=1, config=config)
    assert smaller.scale == 2
    assert smaller.truth.shape == (4, SIZE // 2, SIZE // 2)


def test_nearly_whole_pictures_are_not_asked_for():
    labels = np.ones((1, 2, SIZE, SIZE), np.int32)
    labels[0, 1, :4] = 0
    asked = ask(make_views(labels), slots=1, config=prompt_config())
    np.testing.assert_array_equal(asked.weight, [0, 1])


@pytest.fixture(scope="module")
def play(params):
    """Return a function that plays all rounds about two views of two labels each."""
    config = prompt_config()
    labels = np.zeros((1, 2, SIZE, SIZE), np.int32)
    labels[0, 0, 2:9, 3:12], labels[0, 0, 11:15, 1:5], labels[0, 1, 5:, 6:] = 1, 2, 1
    views = make_views(labels)
    asked = ask(views, slots=2, config=config)

    @jax.jit(static_argnames="clicks")
    def run(params, key, proposal, clicks):
        model = merge_prompted(config.seggpt, params, dtype=jnp.dtype(jnp.float32))
        return simulate(model, views, asked, clicks, key=key, proposal=proposal)

    def play(clicks=CLICKS, *, seed=0, proposal=None, params=params):
        return run(params, jax.random.key(seed), proposal, clicks)

    return play


def test_every_round_gives_a_mask(play):
    out = play()
    assert out.iou.shape == (1 + CLICKS.clicks + CLICKS.mask_rounds, 4)
    assert out.logits.shape == (4, SIZE, SIZE)
    assert np.isfinite(out.loss)
    assert out.loss > 0
    assert (out.iou >= 0).all()
    assert (out.iou <= 1).all()


def test_one_round_is_enough(play):
    out = play(replace(CLICKS, clicks=0, mask_rounds=0))
    assert out.iou.shape == (1, 4)
    assert np.isfinite(out.loss)


def test_the_first_round_is_the_same_however_many_follow(play):
    calm = ClicksConfig(boxes=1.0, box_noise=0.0, clicks=0, mask_rounds=0)
    alone, longer = play(calm), play(replace(calm, clicks=2))
    np.testing.assert_allclose(longer.iou[0], alone.iou[0], atol=1e-5)


def test_the_same_key_gives_the_same_rounds(play):
    first, again, other = play(), play(), play(seed=1)
    np.testing.assert_array_equal(first.logits, again.logits)
    assert np.abs(first.logits - other.logits).max() > 1e-4


def test_a_proposal_is_seen(play):
    proposals = [jnp.full((4, SIZE, SIZE), value) for value in (-3.0, 3.0)]
    # Without noise, prompts differ by the proposal and its mistakes alone.
    calm = ClicksConfig(clicks=1, mask_rounds=0, boxes=0.0)
    outs = [play(calm, proposal=proposal) for proposal in proposals]
    assert np.abs(outs[0].logits - outs[1].logits).max() > 1e-4


# --- a step


def test_the_recipe_freezes_all_of_the_in_context_model():
    model = get_recipe().seggpt
    plain = jax.eval_shape(lambda: init_params(model.without_heads, jax.random.key(0)))
    both = jax.eval_shape(lambda: init_params(model, jax.random.key(0)))
    assert set(BACKBONE) == plain.keys()
    assert both.keys() > plain.keys()


@pytest.fixture(scope="module", params=[0, 1], ids=["prompts", "proposals"])
def stepped(request, params, pack):
    """Return a state, the state after a step with much weight decay, and what was logged."""
    config = prompt_config(optim=OptimConfig(warmup=0, lr=0.01, weight_decay=1.0))
    optimizer = make_optimizer(config.optim, steps=4, depth=config.model.depth)
    before = init_state(params, optimizer)
    step = jax.jit(make_prompt_step(config, optimizer, examples=request.param))
    batch = tiny_batch(pack, config)
    return before, *step(before, jnp.asarray(pack.images), jnp.asarray(pack.ids), batch)


def test_a_step_logs_its_first_and_its_last_iou(stepped):
    metrics = stepped[2]
    assert metrics.keys() == {"loss", "grad_norm", "first_iou", "last_iou"}
    assert all(np.isfinite(value) for value in metrics.values())
    assert metrics["grad_norm"] > 0
    for name in ("first_iou", "last_iou"):
        assert 0 <= metrics[name] <= 1


def changes(before, after):
    """Return the names of the arrays of which a bit changed, and all names."""
    old, new = named(before), named(after)
    assert old.keys() == new.keys()
    return {name for name, leaf in new.items() if leaf.tobytes() != old[name].tobytes()}, new.keys()


@pytest.mark.parametrize("tree", ["params", "ema"])
def test_a_step_changes_no_bit_of_the_in_context_model(stepped, tree):
    before, after, _ = stepped
    assert int(after.step) == 1
    changed, _ = changes(getattr(before, tree), getattr(after, tree))
    assert changed
    assert not {name.split("/")[0] for name in changed} & set(BACKBONE)
    assert "prompt_encoder/frequencies" not in changed  # decay does not move them, either


def test_a_step_changes_all_of_the_heads(stepped, request):
    before, after, _ = stepped
    changed, names = changes(before.params, after.params)
    heads = {name for name in names if name.split("/")[0] not in BACKBONE}
    same = heads - changed - {"prompt_encoder/frequencies"}
    # Of the masks for unclear prompts, those that are never the best do not learn.
    unclear = tuple(f"mask_decoder/mask_heads/{number}/" for number in (1, 2, 3))
    if "prompts" in request.node.callspec.id:
        assert all(name.startswith(unclear) and name.endswith("bias") for name in same)
        return
    # With a proposal there always is a mask, and perhaps never a box.
    assert "prompt_encoder/no_mask" in same
    assert all(name.startswith((*unclear, "prompt_encoder/")) for name in same)


# --- proposals


def test_proposals_are_bounded_logits_of_the_other_views(params):
    labels = np.zeros((3, 2, SIZE, SIZE), np.int32)
    labels[:, :, 2:9, 3:12], labels[:, :, 11:, :4] = 1, 2
    views = make_views(labels)
    config = prompt_config()
    rest, proposal = jax.jit(lambda params: propose(config, params, views))(params)
    assert proposal.shape == (3, SIZE, SIZE)
    assert np.isfinite(proposal).all()
    assert np.abs(proposal).max() <= MOST_LOGIT
    np.testing.assert_array_equal(rest.images, views.images[:, 1:])
    np.testing.assert_array_equal(rest.labels, views.labels[:, 1:])
    np.testing.assert_array_equal(rest.kind, views.kind)


def test_proposals_mark_what_was_painted(monkeypatch):
    labels = np.random.default_rng(0).integers(0, 3, (2, 3, SIZE, SIZE)).astype(np.int32)
    views = make_views(labels)
    shown = []

    def encode(images, targets, *, kind):
        shown.append(targets)
        return jnp.zeros((2, 1))

    def decode(cache, queries, *, kind):
        assert len(cache) == len(queries) == len(kind) == 4
        found = views.labels[:, 1:].reshape(-1, SIZE, SIZE)
        return normalize(paint(jnp.where(found == 1, 1, 0), jnp.asarray(palette(1))))

    fake = SimpleNamespace(encode=encode, decode=decode)
    monkeypatch.setattr(module, "merge_plain", lambda *_: fake)
    rest, proposal = propose(prompt_config(), {}, views)
    np.testing.assert_array_equal(proposal > 0, rest.labels.reshape(-1, SIZE, SIZE) == 1)
    marked = normalize(paint(jnp.where(views.labels[:, :1] == 1, 1, 0), jnp.asarray(palette(1))))
    np.testing.assert_array_equal(shown[0], marked)  # label 1 alone, in white


def test_no_gradient_flows_into_proposals(params):
    labels = np.zeros((1, 2, SIZE, SIZE), np.int32)
    labels[:, :, 2:9, 3:12] = 1
    views = make_views(labels)

    @jax.jit
    @jax.grad
    def gradient(params):
        return propose(prompt_config(), params, views)[1].sum()

    assert not any(np.any(grad) for grad in jax.tree.leaves(gradient(params)))
