"""One update of a prompt, and the pictures that it sees: pure functions, compiled once."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree, UInt8

from incontext.tuning.config import TuneConfig
from incontext.tuning.prompt import Palette, Prompt
from incontext.tuning.views import cut_view
from seggpt.canvas import normalize
from seggpt.coloring import IGNORE
from seggpt.losses import balanced_weights, smooth_l1
from seggpt.model import Started

FLOOR = 0.02  # least share of a picture that a colour is taken to have, as in training
WARMUP = 10  # steps

# Adam as the models were trained with; its rate comes with the step.
ADAM = optax.scale_by_adam(b1=0.9, b2=0.98)

View = tuple[Array, Array, Started | None]
"""A query in the model's units, its slots, and what is computed before anything learned."""


def make_view(
    prompt: Prompt, config: TuneConfig
) -> Callable[[PyTree, PyTree, Array, Array, Array], View]:
    """Return a compiled function that cuts a view and takes it as far as nothing is learned."""

    @jax.jit
    def prepare(
        params: PyTree,
        arrays: PyTree,
        image: UInt8[Array, "side side 3"],
        slots: UInt8[Array, "side side"],
        key: Array,
    ) -> View:
        size = config.view_size or prompt.config.image_size
        pixels, slots = cut_view(key, image, slots, size=size, scale=config.scale)
        query = normalize(pixels)
        return query, slots, start_one(prompt, params, arrays, query)

    return prepare


def start_one(
    prompt: Prompt, params: PyTree, arrays: PyTree, query: Float[Array, "h w 3"]
) -> Started | None:
    """Start one query; tokens are divided by stream, so that such results can be stacked."""
    started = prompt.start(params, arrays, query[None])
    if started is None:
        return None
    passes = jax.tree.leaves(arrays)[0].shape[0]
    tokens = started.tokens.reshape(-1, passes, *started.tokens.shape[1:])
    return started._replace(tokens=tokens)


def join_started(started: Started | None) -> Started | None:
    """Undo the stacking of what `start_one` gave for several queries."""
    if started is None:
        return None
    tokens = jnp.moveaxis(started.tokens, 1, 0)  # (stream, query, pass)
    tokens = tokens.reshape(-1, *tokens.shape[3:])
    taps, found = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), (started.taps, started.found))
    return Started(tokens, taps, found)


def make_step(
    prompt: Prompt, palette: Palette, config: TuneConfig
) -> Callable[..., tuple[PyTree, PyTree, Array]]:
    """Return a compiled update: learned arrays and moments in, the next ones and the loss out."""

    @partial(jax.jit, donate_argnums=(1, 2))
    def step(
        params: PyTree,
        learned: PyTree,
        moments: PyTree,
        frozen: PyTree,
        pool: View,
        index: Int[Array, "parts micro"],
        rate: Float[Array, ""],
    ) -> tuple[PyTree, PyTree, Array]:
        # Examples are encoded once for all queries of a batch, whatever its parts.
        arrays, pull = jax.vjp(lambda learned: prompt.expand(params, learned, frozen), learned)

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
        return learned, moments, loss / len(index)

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
    """Return the smooth L1 between what is painted on some views and their true colours."""
    queries, slots, started = views
    painted = prompt.finish(
        params, arrays, queries, join_started(started), remat=config.remat
    ).astype(jnp.float32)
    places = jnp.moveaxis(jnp.asarray(palette.places())[:, slots], 0, 1)
    targets = jnp.moveaxis(palette.targets(slots), 0, 1)
    weights = balanced_weights(
        places,
        places != IGNORE,
        classes=len(palette.colors) - 1,
        floor=FLOOR,
        power=config.balance,
    )
    return smooth_l1(
        painted,
        targets.reshape(painted.shape),
        weights.reshape(painted.shape[:-1]),
        beta=config.beta,
    )
