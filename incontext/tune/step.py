"""One update of a prompt and the views that it sees, as pure functions."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree, UInt8

from incontext.tune.config import TuneConfig
from incontext.tune.prompt import Palette, Prompt
from incontext.tune.views import change_colors, cut_view
from seggpt.canvas import denormalize, normalize
from seggpt.losses import balanced_weights, smooth_l1
from seggpt.palette import IGNORE

FLOOR = 0.02  # least share of a picture that a colour is taken to have, as in training
SOFT = 0.02  # added to squared distances of colours (RGB of 0..1): far colours have a slope too
SMALLEST = 0.002  # share of a picture that is added to both sides of a soft IoU
WARMUP = 10  # steps

# Adam as the models were trained with; its rate comes with the step.
ADAM = optax.scale_by_adam(b1=0.9, b2=0.98)

View = tuple[Array, Array]
"""A query in the model's units and its class_ids; views of a round are stacked."""


@partial(jax.jit, static_argnames="config")
def draw_view(
    image: UInt8[Array, "side side 3"],
    class_ids: UInt8[Array, "side side"],
    key: Array,
    *,
    config: TuneConfig,
) -> View:
    """Cut a view out of a picture by a key, and change its colours."""
    key_cut, key_color = jax.random.split(key)
    pixels, class_ids = cut_view(
        key_cut, image, class_ids, size=config.view_size, scale=config.scale, turns=config.turns
    )
    if config.jitter:
        pixels = change_colors(key_color, pixels, amount=config.jitter)
    return normalize(pixels), class_ids


@cache
def make_step(
    prompt: Prompt, palette: Palette, config: TuneConfig
) -> Callable[..., tuple[PyTree, PyTree, PyTree, Array]]:
    """Return a compiled update: learned arrays, moments and the average in, the next and the loss.

    `keep` is the share of the average that stays.
    """

    @partial(jax.jit, donate_argnums=(1, 2, 3))
    def step(
        params: PyTree,
        learned: PyTree,
        moments: PyTree,
        average: PyTree,
        pool: View,
        index: Int[Array, "parts micro"],
        rate: Float[Array, ""],
        keep: Float[Array, ""],
    ) -> tuple[PyTree, PyTree, PyTree, Array]:
        # Examples are encoded once for all queries of a batch, whatever its parts.
        arrays, pull = jax.vjp(lambda learned: prompt.expand(params, learned), learned)

        def add(total: tuple[Array, PyTree], rows: Int[Array, " micro"]) -> tuple[Any, None]:
            views = jax.tree.map(lambda a: a[rows], pool)
            loss, grads = jax.value_and_grad(view_loss)(
                arrays, params, views, prompt=prompt, palette=palette, config=config
            )
            return jax.tree.map(jnp.add, total, (loss, grads)), None

        zero = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, arrays))
        (loss, grads), _ = jax.lax.scan(add, zero, index)
        (grads,) = pull(jax.tree.map(lambda g: g / len(index), grads))
        updates, moments = ADAM.update(grads, moments)
        learned = jax.tree.map(lambda a, u: a - rate * u, learned, updates)
        average = jax.tree.map(lambda a, b: keep * a + (1 - keep) * b, average, learned)
        return learned, moments, average, loss / len(index)

    return step


def view_loss(
    arrays: PyTree,
    params: PyTree,
    views: View,
    *,
    prompt: Prompt,
    palette: Palette,
    config: TuneConfig,
) -> Float[Array, ""]:
    """Return how far what is painted on some views is from their true colours and their labels."""
    queries, class_ids = views
    painted = prompt.paint(params, arrays, queries, remat=config.remat).astype(jnp.float32)
    places = jnp.moveaxis(jnp.asarray(palette.places())[:, class_ids], 0, 1)
    targets = jnp.moveaxis(palette.targets(class_ids), 0, 1)
    weights = balanced_weights(
        places,
        places != IGNORE,
        classes=len(palette.colors) - 1,
        floor=FLOOR,
        power=config.balance,
    )
    distance = smooth_l1(
        painted,
        targets.reshape(painted.shape),
        weights.reshape(painted.shape[:-1]),
        beta=config.beta,
    )
    if not config.overlap:
        return distance
    places = places.reshape(painted.shape[:-1])
    return distance + config.overlap * soft_iou_loss(painted, places, jnp.asarray(palette.colors))


def soft_iou_loss(
    painted: Float[Array, "b h w 3"], places: Int[Array, "b h w"], colors: Float[Array, "k 3"]
) -> Float[Array, ""]:
    """Return 1 less the IoU of painted probabilities and labels, by picture and label.

    The probabilities are those of `color_probabilities`, softened; the scores that a prompt is
    judged by are IoU, which a distance of colours says little of where few pixels are marked.
    """
    squares = ((denormalize(painted)[..., None, :] - colors) ** 2).sum(axis=-1)
    shares = 1 / (squares + SOFT)
    known = (places != IGNORE)[..., None]
    probabilities = known * shares / shares.sum(axis=-1, keepdims=True)
    truth = (places[..., None] == jnp.arange(len(colors))) & known
    hits = (probabilities * truth).sum(axis=(1, 2))
    union = (probabilities + truth).sum(axis=(1, 2)) - hits
    least = SMALLEST * places.shape[1] * places.shape[2]
    return (1 - (hits + least) / (union + least))[:, 1:].mean()
