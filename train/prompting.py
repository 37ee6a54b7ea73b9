"""Simulated interactive segmentation for training heads: prompts, rounds of clicks, loss.

Each window is encoded once. Then come rounds: the first prompt is a point or a box, or a mask that
is there already with a point at its mistakes; every later round adds a click where the last mask
was wrong, or nothing but that mask ("Segment Anything", section 3 and appendix A). No gradient
flows from a round to the one before.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from data.prompt_samples import STRIDE, PromptBatch, PromptShape
from seggpt.prompts import (
    ABSENT,
    BACKGROUND,
    FIRST_CORNER,
    FOREGROUND,
    PADDING,
    SECOND_CORNER,
)
from seggpt.resize import resize
from train.config import ClicksConfig

GAMMA = 2  # of the focal loss
MOST_BOX_NOISE = 20 / 1024  # of the picture's side, as published
INTERIOR = 8  # a click lies inside where this part of a side around it is wrong, too
FIRST = 2  # slots of the first prompt: a point and its padding, or a box
PROPOSED = 6.0  # the logits of a mask that is there already reach so far, before noise
NOISE = 6.0  # most deviation of that noise
CELL = 14  # pixels of a mask along a side of the noise's cells

Masks = Bool[Array, "p h w"]
Decode = Callable[[Array, Array, Array | None], tuple[Float[Array, "p 4 h w"], Float[Array, "p 4"]]]
"""From the coordinates, labels and earlier mask of each prompt to four masks and their scores."""


class Simulated(NamedTuple):
    """What came of some rounds with some prompts."""

    loss: Float[Array, ""]  # mean over prompts and rounds
    iou: Float[Array, "rounds p"]  # of the mask that a user would be shown
    logits: Float[Array, "p h w"]  # of the last round


class Asked(NamedTuple):
    """Targets to be found, each in one of the windows that were encoded."""

    truth: Masks
    known: Masks  # pixels that count
    free: Masks  # where nothing is
    weight: Float[Array, " p"]
    is_thing: Bool[Array, " p"]  # False where nothing is pointed at
    scale: float  # pixels of the window for one of these


class Asking(NamedTuple):
    """What someone has told the model so far."""

    coords: Float[Array, "p s 2"]
    labels: Int[Array, "p s"]
    logits: Float[Array, "p h w"]


def ask(batch: PromptBatch) -> Asked:
    """Return every target of every window."""
    b, t = batch.weight.shape

    def each(masks: ArrayLike) -> Masks:
        return jnp.repeat(jnp.asarray(masks), t, axis=0)

    truth = jnp.asarray(batch.truth).reshape(b * t, *batch.truth.shape[2:])
    weight, is_thing = (jnp.asarray(a).reshape(-1) for a in (batch.weight, batch.is_thing))
    return Asked(truth, each(batch.known), each(batch.free), weight, is_thing, float(STRIDE))


def simulate(
    decode: Decode, asked: Asked, config: ClicksConfig, *, shape: PromptShape, key: Array
) -> Simulated:
    """Play all rounds of a batch of a shape."""
    key_first, key_free, key_rounds, key_mask = jax.random.split(key, 4)
    proposal = propose(key_mask, asked) if shape.proposed else None
    asking = first_prompt(key_first, asked, config, shape=shape, proposal=proposal)

    def play(asking: Asking, *, first: bool) -> tuple[Asking, Float[Array, ""], Array]:
        mask = asking.logits if proposal is not None or not first else None
        masks, scores = decode(asking.coords, asking.labels, mask)
        # A box is a clear prompt, and so is anything after the first point.
        unclear = is_lone_point(asking.labels) if first and proposal is None else None
        logits, loss, iou = judge(masks, scores, asked, config, unclear=unclear)
        return asking._replace(logits=jax.lax.stop_gradient(logits)), loss, iou

    asking, loss, iou = play(asking, first=True)
    later = shape.clicks + shape.mask_rounds
    if not later:
        return Simulated(loss, iou[None], asking.logits)
    # One can click on what is not there only once.
    weight = asked.weight * asked.is_thing
    asked = asked._replace(weight=weight)

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
    between = later - (shape.mask_rounds > 0)
    has_click = jax.random.permutation(key_free, jnp.arange(between) < shape.clicks)
    has_click = jnp.concatenate([has_click, jnp.zeros(later - between, bool)])
    keys = jax.random.split(key_rounds, later)
    asking, (losses, ious) = jax.lax.scan(answer, asking, (jnp.arange(later), has_click, keys))
    total = (loss + losses.sum()) / (1 + later)
    return Simulated(total, jnp.concatenate([iou[None], ious]), asking.logits)


def is_lone_point(labels: Int[Array, "p s"]) -> Bool[Array, " p"]:
    """Return which first prompts are points, not boxes."""
    return (labels != FIRST_CORNER).all(axis=1)


def propose(key: Array, asked: Asked) -> Float[Array, "p h w"]:
    """Return masks as examples might have found them: blurred truth with noise of all strengths."""
    key_noise, key_strength = jax.random.split(key)
    p, height, width = asked.truth.shape
    cells = (max(1, height // CELL), max(1, width // CELL))
    strength = jax.random.uniform(key_strength, (p, 1, 1, 1), maxval=NOISE)
    noise = strength * jax.random.normal(key_noise, (p, *cells, 1))
    sure = PROPOSED * (2 * asked.truth.astype(jnp.float32)[..., None] - 1)
    blurred = 0.5 * (sure + resize(resize(sure, (2 * cells[0], 2 * cells[1])), (height, width)))
    return (blurred + resize(noise, (height, width)))[..., 0]


def judge(
    masks: Float[Array, "p 4 h w"],
    scores: Float[Array, "p 4"],
    asked: Asked,
    config: ClicksConfig,
    *,
    unclear: Bool[Array, " p"] | None,
) -> tuple[Float[Array, "p h w"], Float[Array, ""], Float[Array, " p"]]:
    """Return the logits that a user is shown, the loss, and those logits' IoU.

    The first mask, for clear prompts, learns and is shown. Where a prompt is `unclear` the best of
    the three others learns, too, and the one of them with the highest predicted IoU is shown;
    without any such prompt (None) only the first is looked at.
    """
    rows = jnp.arange(len(masks))
    if unclear is None:
        masks, scores = masks[:, :1], scores[:, :1]
    losses = jax.vmap(
        partial(mask_loss, asked=asked, alpha=config.alpha, dice=config.dice), in_axes=1, out_axes=1
    )(masks)
    hits = jax.vmap(partial(mask_iou, asked=asked), in_axes=1, out_axes=1)(masks)
    # Where nothing is, no mask is right, and none is to be learned.
    hits, losses = (jnp.where(asked.is_thing[:, None], a, 0.0) for a in (hits, losses))
    misjudged = (scores - hits) ** 2
    loss, shown = losses[:, 0] + misjudged[:, 0], jnp.zeros(len(masks), int)
    if unclear is not None:
        # Not `min`: its gradient is no number where rounding makes the least differ from itself.
        least = 1 + losses[:, 1:].argmin(axis=1)
        several = losses[rows, least] + misjudged[:, 1:].mean(axis=1)
        loss = loss + jnp.where(unclear, several, 0.0)
        shown = jnp.where(unclear, 1 + scores[:, 1:].argmax(axis=1), 0)
    mean = (loss * asked.weight).sum() / jnp.maximum(asked.weight.sum(), 1)
    return masks[rows, shown], mean, hits[rows, shown]


def mask_loss(
    logits: Float[Array, "p h w"], asked: Asked, *, alpha: float, dice: float
) -> Float[Array, " p"]:
    """Return 20 times the focal loss, and the dice loss with its weight."""
    truth, known = asked.truth.astype(jnp.float32), asked.known.astype(jnp.float32)
    probability = jax.nn.sigmoid(logits)
    wrong = probability * (1 - truth) + (1 - probability) * truth
    entropy = optax.sigmoid_binary_cross_entropy(logits, truth)
    balance = alpha * truth + (1 - alpha) * (1 - truth)
    pixels = jnp.maximum(known.sum(axis=(1, 2)), 1)
    focal = (known * balance * wrong**GAMMA * entropy).sum(axis=(1, 2)) / pixels
    both = (known * probability * truth).sum(axis=(1, 2))
    total = (known * (probability + truth)).sum(axis=(1, 2))
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
    shape: PromptShape,
    proposal: Float[Array, "p h w"] | None,
) -> Asking:
    """Point at targets or draw boxes around them; with a proposal, point at its mistakes."""
    key_point, key_box, key_which = jax.random.split(key, 3)
    p = len(asked.truth)
    slots = FIRST + shape.clicks + shape.mask_rounds
    shown = jnp.zeros_like(asked.truth) if proposal is None else proposal > 0
    there = asked.is_thing[:, None, None]
    pointed = asked._replace(truth=jnp.where(there, asked.truth, asked.free))
    xy, label = click_error(key_point, pointed, jnp.where(there, shown, False), config)
    point = jnp.stack([xy, jnp.zeros_like(xy)], axis=1)
    corners = noisy_box(key_box, asked, config)
    share = config.boxes if proposal is None else config.boxes / 2
    is_box = jax.random.bernoulli(key_which, share, (p,)) & asked.is_thing
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
    """Draw boxes around targets, more or less wrong: the upper left and the lower right corner."""
    key_size, key_noise = jax.random.split(key)
    ends = []
    for axis in (1, 2):  # columns, rows
        marked = asked.truth.any(axis=axis)
        size = marked.shape[1]
        low, high = marked.argmax(axis=1), size - marked[:, ::-1].argmax(axis=1)
        ends.append(jnp.stack([low, high], axis=1))
    box = jnp.stack(ends, axis=2) * asked.scale
    side = asked.truth.shape[1] * asked.scale
    size = config.box_noise * jax.random.uniform(key_size, (len(box), 1, 1))
    noise = size * (box[:, 1] - box[:, 0])[:, None] * jax.random.normal(key_noise, box.shape)
    most = MOST_BOX_NOISE * side
    return jnp.clip(box + jnp.clip(noise, -most, most), 0, side)
