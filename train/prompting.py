"""Training heads for prompts: someone who points, is shown a mask, and points at its mistakes.

Each picture is encoded once. Then come rounds: the first prompt is a point, a box, or what an
example pair proposes together with a point; every later round adds a click where the last mask was
wrong, or nothing but that mask ("Segment Anything", section 3 and appendix A). No gradient flows
from a round to the one before.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PyTree

from data.augment import Views, make_views
from seggpt.canvas import denormalize, normalize
from seggpt.coloring import IGNORE, paint, palette
from seggpt.model import SEMANTIC
from seggpt.prompts import (
    ABSENT,
    BACKGROUND,
    FIRST_CORNER,
    FOREGROUND,
    PADDING,
    SECOND_CORNER,
)
from seggpt.sam import PromptedSegGPT
from train.config import ClicksConfig, TrainConfig
from train.state import TrainState, merge_plain, merge_prompted
from train.step import Metrics, Step, apply_gradients, compute_dtype

GAMMA = 2  # of the focal loss
MOST_LOGIT = 10.0  # of a proposal
MOST_BOX_NOISE = 20 / 1024  # of the picture's side, as published
INTERIOR = 8  # a click lies inside where this part of a side around it is wrong, too
FIRST = 2  # slots of the first prompt: a point and its padding, or a box

Masks = Bool[Array, "p h w"]


class Simulated(NamedTuple):
    """What came of some rounds with some prompts."""

    loss: Float[Array, ""]  # mean over prompts and rounds
    iou: Float[Array, "rounds p"]  # of the mask that a user would be shown
    logits: Float[Array, "p h w"]  # of the last round


class Asked(NamedTuple):
    """Targets to be found, each in one of the pictures that were encoded."""

    truth: Masks
    known: Masks  # pixels that count
    weight: Float[Array, " p"]  # 0 where there is nothing to find
    scale: float  # pixels of the model's square for one of these


class Asking(NamedTuple):
    """What someone has told the model so far."""

    coords: Float[Array, "p s 2"]
    labels: Int[Array, "p s"]
    logits: Float[Array, "p h w"]


def make_prompt_step(
    config: TrainConfig, optimizer: optax.GradientTransformation, *, examples: int
) -> Step:
    """Return a step on the heads; with an example the first prompt is what it proposes."""
    clicks = config.clicks
    assert clicks is not None
    dtype = compute_dtype(config)

    def step(
        state: TrainState, images: Array, ids: Array, batch: dict[str, Array]
    ) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(config.seed), state.step)
        key_views, key_rounds = jax.random.split(key)
        size = config.view_size or config.seggpt.image_size
        views = make_views(images, ids, batch, key=key_views, size=size, config=config.pictures)
        proposal = None
        if examples:
            views, proposal = propose(config, state.params, views)

        def loss_of(params: PyTree) -> tuple[Array, Metrics]:
            model = merge_prompted(config.seggpt, params, dtype=dtype)
            asked = ask(views, slots=1 if examples else config.pictures.pairs.slots, config=config)
            if not examples:
                asked = prefer_things(asked, views.kind, classes=clicks.classes)
            out = simulate(
                model,
                views,
                asked,
                clicks,
                key=key_rounds,
                proposal=proposal,
                remat=config.remat,
            )
            weight = asked.weight / jnp.maximum(asked.weight.sum(), 1)
            names = ("first_iou", "last_iou")
            shown = {n: (out.iou[i] * weight).sum() for n, i in zip(names, (0, -1), strict=True)}
            return out.loss, shown

        return apply_gradients(state, loss_of, config, optimizer)

    return step


def propose(
    config: TrainConfig, params: PyTree, views: Views
) -> tuple[Views, Float[Array, "p h w"]]:
    """Let the frozen in-context model find label 1 of each sample's first view in the others.

    Returns the other views, and logits as a mask prompt holds them.
    """
    model = merge_plain(config.seggpt, params)
    white = jnp.asarray(palette(1))
    marked = jnp.where(views.labels == 1, 1, 0)
    count = views.images.shape[1] - 1
    targets = normalize(paint(marked[:, :1], white))
    cache = model.encode(views.images[:, :1], targets, kind=views.kind)
    cache = jax.tree.map(lambda a: jnp.repeat(a, count, axis=0), cache)
    queries = views.images[:, 1:].reshape(-1, *views.images.shape[2:])
    painted = model.decode(cache, queries, kind=jnp.repeat(views.kind, count))
    rgb = jnp.clip(denormalize(painted.astype(jnp.float32)), 0, 1)
    near, far = (((rgb - color) ** 2).sum(axis=-1) + 1e-4 for color in (white[1], white[0]))
    logits = jnp.clip(jnp.log(far / near), -MOST_LOGIT, MOST_LOGIT)  # log odds of the shares
    rest = Views(views.images[:, 1:], views.targets[:, 1:], views.labels[:, 1:], views.kind)
    return rest, jax.lax.stop_gradient(logits)


def ask(views: Views, *, slots: int, config: TrainConfig) -> Asked:
    """Return every label of every view as a target of its own."""
    labels = views.labels.reshape(-1, *views.labels.shape[2:])
    truth = labels[:, None] == jnp.arange(1, slots + 1)[:, None, None]
    known = jnp.broadcast_to((labels != IGNORE)[:, None], truth.shape)
    truth, known = (a.reshape(-1, *a.shape[2:]) for a in (truth, known))
    area = truth.mean(axis=(1, 2))
    least = config.pictures.pairs.min_area
    weight = ((area >= least) & (area < 0.9)).astype(jnp.float32)
    return Asked(truth, known, weight, config.seggpt.image_size / labels.shape[1])


def prefer_things(asked: Asked, kind: Int[Array, " b"], *, classes: float) -> Asked:
    """Weigh all things of a class less than single ones: who points mostly means one."""
    weight = jnp.where(kind == SEMANTIC, classes, 1.0)
    weight = jnp.repeat(weight, len(asked.weight) // len(kind))
    return asked._replace(weight=asked.weight * weight)


def simulate(
    model: PromptedSegGPT,
    views: Views,
    asked: Asked,
    config: ClicksConfig,
    *,
    key: Array,
    proposal: Float[Array, "p h w"] | None = None,
    remat: bool = False,
) -> Simulated:
    """Play all rounds; without a proposal the first prompt is a point or a box."""
    images = views.images.reshape(-1, *views.images.shape[2:])
    embedding = model.encode(images.astype(model.vit.pos_embed[...].dtype)).astype(jnp.float32)
    embedding = jnp.repeat(embedding, len(asked.truth) // len(images), axis=0)
    key_first, key_free, key_rounds = jax.random.split(key, 3)
    asking = first_prompt(key_first, asked, config, proposal=proposal)

    def play(asking: Asking, *, first: bool) -> tuple[Asking, Float[Array, ""], Array]:
        mask = asking.logits if proposal is not None or not first else None
        masks, scores = model.decode(embedding, asking.coords, asking.labels, mask=mask)
        several = first and proposal is None
        logits, loss, iou = judge(masks, scores, asked, config, several=several)
        return asking._replace(logits=jax.lax.stop_gradient(logits)), loss, iou

    asking, loss, iou = play(asking, first=True)
    later = config.clicks + config.mask_rounds
    if not later:
        return Simulated(loss, iou[None], asking.logits)

    def answer(asking: Asking, given: tuple[Array, Array, Array]) -> tuple[Asking, tuple]:
        number, has_click, key = given
        xy, label = click_error(key, asked, asking.logits > 0, config)
        asking = asking._replace(
            coords=asking.coords.at[:, FIRST + number].set(xy),
            labels=asking.labels.at[:, FIRST + number].set(jnp.where(has_click, label, ABSENT)),
        )
        asking, loss, iou = play(asking, first=False)
        return asking, (loss, iou)

    # The last round brings no click, and others somewhere between do not.
    between = later - (config.mask_rounds > 0)
    has_click = jax.random.permutation(key_free, jnp.arange(between) < config.clicks)
    has_click = jnp.concatenate([has_click, jnp.zeros(later - between, bool)])
    keys = jax.random.split(key_rounds, later)
    answer = jax.checkpoint(answer) if remat else answer
    asking, (losses, ious) = jax.lax.scan(answer, asking, (jnp.arange(later), has_click, keys))
    total = (loss + losses.sum()) / (1 + later)
    return Simulated(total, jnp.concatenate([iou[None], ious]), asking.logits)


def judge(
    masks: Float[Array, "p 4 h w"],
    scores: Float[Array, "p 4"],
    asked: Asked,
    config: ClicksConfig,
    *,
    several: bool,
) -> tuple[Float[Array, "p h w"], Float[Array, ""], Float[Array, " p"]]:
    """Return the logits that a user is shown, the loss, and those logits' IoU.

    With `several` the best of the three masks for unclear prompts learns (and the one for clear
    ones, which a box is), and the one with the highest predicted IoU is shown.
    """
    rows = jnp.arange(len(masks))
    losses = jax.vmap(
        partial(mask_loss, asked=asked, alpha=config.alpha, dice=config.dice), in_axes=1, out_axes=1
    )(masks)
    hits = jax.vmap(partial(mask_iou, asked=asked), in_axes=1, out_axes=1)(masks)
    misjudged = (scores - hits) ** 2
    loss, shown = losses[:, 0] + misjudged[:, 0], jnp.zeros(len(masks), int)
    if several:
        # Not `min`: its gradient is no number where rounding makes the least differ from itself.
        least = 1 + losses[:, 1:].argmin(axis=1)
        loss = loss + losses[rows, least] + misjudged[:, 1:].mean(axis=1)
        shown = 1 + scores[:, 1:].argmax(axis=1)
    mean = (loss * asked.weight).sum() / jnp.maximum(asked.weight.sum(), 1)
    return masks[rows, shown], mean, hits[rows, shown]


def mask_loss(
    logits: Float[Array, "p h w"], asked: Asked, *, alpha: float, dice: float
) -> Float[Array, " p"]:
    """Return 20 times the focal loss, and the dice loss with its weight."""
    truth, known = asked.truth.astype(jnp.float32), asked.known.astype(jnp.float32)
    chance = jax.nn.sigmoid(logits)
    wrong = chance * (1 - truth) + (1 - chance) * truth
    entropy = optax.sigmoid_binary_cross_entropy(logits, truth)
    balance = alpha * truth + (1 - alpha) * (1 - truth)
    pixels = jnp.maximum(known.sum(axis=(1, 2)), 1)
    focal = (known * balance * wrong**GAMMA * entropy).sum(axis=(1, 2)) / pixels
    both = (known * chance * truth).sum(axis=(1, 2))
    total = (known * (chance + truth)).sum(axis=(1, 2))
    return 20 * focal + dice * (1 - (2 * both + 1) / (total + 1))


def mask_iou(logits: Float[Array, "p h w"], asked: Asked) -> Float[Array, " p"]:
    """Return the IoU of the pixels above 0; nothing to find and nothing found is 1."""
    mask, known = logits > 0, asked.known
    both = (mask & asked.truth & known).sum(axis=(1, 2))
    either = ((mask | asked.truth) & known).sum(axis=(1, 2))
    return jnp.where(either > 0, both / jnp.maximum(either, 1), 1.0)


def first_prompt(
    key: Array,
    asked: Asked,
    config: ClicksConfig,
    *,
    proposal: Float[Array, "p h w"] | None,
) -> Asking:
    """Point at targets or draw boxes around them; with a proposal, point at its mistakes."""
    key_point, key_box, key_which = jax.random.split(key, 3)
    p = len(asked.truth)
    slots = FIRST + config.clicks + config.mask_rounds
    shown = jnp.zeros_like(asked.truth) if proposal is None else proposal > 0
    xy, label = click_error(key_point, asked, shown, config)
    point = jnp.stack([xy, jnp.zeros_like(xy)], axis=1)
    corners = noisy_box(key_box, asked, config)
    share = config.boxes if proposal is None else config.boxes / 2
    is_box = jax.random.bernoulli(key_which, share, (p,))
    coords = jnp.where(is_box[:, None, None], corners, point)
    kinds = jnp.stack([label, jnp.full_like(label, PADDING)], axis=1)
    kinds = jnp.where(is_box[:, None], jnp.asarray([FIRST_CORNER, SECOND_CORNER]), kinds)
    coords = jnp.zeros((p, slots, 2)).at[:, :FIRST].set(coords)
    labels = jnp.full((p, slots), ABSENT).at[:, :FIRST].set(kinds)
    blank = jnp.zeros(asked.truth.shape, jnp.float32)
    return Asking(coords, labels, blank if proposal is None else proposal)


def click_error(
    key: Array, asked: Asked, mask: Masks, config: ClicksConfig
) -> tuple[Float[Array, "p 2"], Int[Array, " p"]]:
    """Point at a pixel where masks are wrong, and say which it is; without any, at the target.

    Some clicks fall anywhere in what is wrong, some well inside it, as people's do.
    """
    key_where, key_how = jax.random.split(key)
    error = (mask != asked.truth) & asked.known
    error = jnp.where(error.any(axis=(1, 2), keepdims=True), error, asked.truth)
    p, _, width = error.shape
    window = width // INTERIOR | 1
    inside = jax.lax.reduce_window(
        error.astype(jnp.float32), 0.0, jax.lax.add, (1, window, window), (1, 1, 1), "SAME"
    )
    deep = jax.random.bernoulli(key_how, config.interior, (p, 1, 1))
    rank = jnp.where(deep, inside, 0.0) + jax.random.uniform(key_where, error.shape)
    place = jnp.where(error, rank, -1.0).reshape(p, -1).argmax(axis=1)
    label = jnp.where(asked.truth.reshape(p, -1)[jnp.arange(p), place], FOREGROUND, BACKGROUND)
    xy = jnp.stack([place % width, place // width], axis=1)
    return (xy + 0.5) * asked.scale - 0.5, label


def noisy_box(key: Array, asked: Asked, config: ClicksConfig) -> Float[Array, "p 2 2"]:
    """Draw boxes around targets, somewhat wrong: the upper left and the lower right corner."""
    ends = []
    for axis in (1, 2):  # columns, rows
        marked = asked.truth.any(axis=axis)
        size = marked.shape[1]
        low, high = marked.argmax(axis=1), size - marked[:, ::-1].argmax(axis=1)
        ends.append(jnp.stack([low, high], axis=1))
    box = jnp.stack(ends, axis=2) * asked.scale
    side = asked.truth.shape[1] * asked.scale
    noise = config.box_noise * (box[:, 1] - box[:, 0])[:, None] * jax.random.normal(key, box.shape)
    most = MOST_BOX_NOISE * side
    return jnp.clip(box + jnp.clip(noise, -most, most), 0, side)
