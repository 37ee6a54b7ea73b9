"""Training a correction head: crops of cached features, loss and update, as pure functions."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, PyTree

from incontext.tune.step import ADAM
from seggpt.in_context.head import Head, split_head
from seggpt.in_context.matching import label_fractions
from seggpt.palette import IGNORE

CROP = 16  # tokens along a crop's sides, at most
DROP = 0.2  # share of the tokens' channels that a crop lacks
BALANCE = 0.5  # power of a label's inverse share in the cross-entropy
LEAST_SHARE = 1e-3
SMALLEST = 0.002  # share of a batch that is added to both sides of a soft IoU
WARMUP = 10  # steps


class Bank(NamedTuple):
    """What a head learns from: cached features of all pictures, filled up to one shape.

    Attributes:
        tokens: (n, gh, gw, f).
        pixels: At stride 4, (n, h, w, c).
        guess: Logarithms of the probabilities that the model finds, at stride 4, (n, h, w, k).
        class_ids: At stride 2, (n, 2 h, 2 w); 255 is ignored.
        grids: How many tokens each picture has, (n, 2).
    """

    tokens: Array
    pixels: Array
    guess: Array
    class_ids: Array
    grids: Array


class Crop(NamedTuple):
    """A part of a picture, or of several, as `Bank` has them; `truth` are shares of labels."""

    tokens: Array
    pixels: Array
    guess: Array
    truth: Array


def fill_bank(
    tokens: Sequence[np.ndarray],
    pixels: Sequence[np.ndarray],
    guesses: Sequence[np.ndarray],
    class_ids: Sequence[np.ndarray],
) -> Bank:
    """Return pictures of any shapes as one bank."""
    grids = np.array([one.shape[:2] for one in tokens], np.int32)
    return Bank(
        tokens=_stack(tokens, 0),
        pixels=_stack(pixels, 0),
        guess=_stack(guesses, 0),
        class_ids=_stack([one[1::2, 1::2] for one in class_ids], IGNORE),
        grids=jnp.asarray(grids),
    )


def _stack(arrays: Sequence[np.ndarray], fill: int) -> Array:
    sides = np.max([one.shape[:2] for one in arrays], axis=0)
    out = np.full((len(arrays), *sides, *arrays[0].shape[2:]), fill, arrays[0].dtype)
    for row, one in zip(out, arrays, strict=True):
        row[: one.shape[0], : one.shape[1]] = one
    return jnp.asarray(out)


def choose_crop(bank: Bank, *, turns: bool) -> tuple[int, int]:
    """Return the height and width of crops in tokens: even, and no picture's side is less."""
    height, width = (min(CROP, int(side) // 2 * 2) for side in bank.grids.min(axis=0))
    least = min(height, width)
    return (least, least) if turns else (height, width)


def cut(
    bank: Bank,
    row: Int[Array, ""],
    key: Array,
    *,
    size: tuple[int, int],
    patch: int,
    turns: bool,
) -> Crop:
    """Cut a random part out of a picture, mirrored or not; with `turns` also turned."""
    key_place, key_flip, key_drop = jax.random.split(key, 3)
    # An even number of tokens is a whole number of cells at strides 2 and 4.
    spare = (bank.grids[row] - jnp.asarray(size)) // 2 + 1
    pair = (jax.random.uniform(key_place, (2,)) * spare).astype(jnp.int32)
    across, down, on_side = jax.random.bernoulli(key_flip, shape=(3,)) & jnp.asarray(
        [True, turns, turns]
    )

    def part(array: Array, cells: int) -> Array:
        """Return what `size` has of an array that has some cells for two tokens."""
        sides = [side // 2 * cells for side in size]
        start = (row, pair[0] * cells, pair[1] * cells, *(0,) * (array.ndim - 3))
        found = jax.lax.dynamic_slice(array, start, (1, *sides, *array.shape[3:]))[0]
        found = jnp.where(across, found[:, ::-1], found)
        found = jnp.where(down, found[::-1], found)
        return jnp.where(on_side, found.swapaxes(0, 1), found) if turns else found

    tokens = part(bank.tokens, 2)
    kept = jax.random.bernoulli(key_drop, 1 - DROP, tokens.shape[-1:]) / (1 - DROP)
    guess, class_ids = part(bank.guess, patch // 2), part(bank.class_ids, patch)
    height, width, channels = guess.shape
    truth = label_fractions(class_ids[None].astype(jnp.int32), channels - 1, (height, width))[0]
    return Crop(tokens * kept, part(bank.pixels, patch // 2), guess, truth)


def head_loss(
    learned: PyTree, crops: Crop, weights: Float[Array, " k"], *, graphdef: nnx.GraphDef[Head]
) -> Float[Array, ""]:
    """Return the cross-entropy, rare labels weighing more, plus 1 less the soft IoU of a batch."""
    head = nnx.merge(graphdef, learned)
    logs = jax.nn.log_softmax(crops.guess + head(crops.tokens, crops.pixels, crops.guess), axis=-1)
    weighted = crops.truth * weights
    entropy = -(weighted * logs).sum() / jnp.maximum(weighted.sum(), 1e-6)
    probabilities = jnp.exp(logs) * crops.truth.sum(axis=-1, keepdims=True)
    hits, both = ((a * crops.truth).sum(axis=(0, 1, 2)) for a in (probabilities, jnp.ones(())))
    union = probabilities.sum(axis=(0, 1, 2)) + both - hits
    least = SMALLEST * crops.truth.size / crops.truth.shape[-1]
    return entropy + (1 - (hits + least) / (union + least))[1:].mean()


def balance(bank: Bank, rows: Sequence[int]) -> Float[Array, " k"]:
    """Return the weight of each label by its share in some pictures."""
    class_ids = np.asarray(bank.class_ids)[list(rows)]
    counts = np.bincount(class_ids[class_ids != IGNORE].ravel(), minlength=bank.guess.shape[-1])
    return jnp.asarray(np.maximum(counts / max(counts.sum(), 1), LEAST_SHARE) ** -BALANCE)


Update = Callable[..., tuple[PyTree, Array]]


def make_update(bank: Bank, *, patch: int, turns: bool) -> Update:
    """Return a compiled update: learned arrays, moments and average in, the next and the loss."""
    graphdef = split_head(bank.tokens.shape[-1], bank.guess.shape[-1])
    return _compile_update(graphdef, size=choose_crop(bank, turns=turns), patch=patch, turns=turns)


@cache
def _compile_update(
    graphdef: nnx.GraphDef[Head], *, size: tuple[int, int], patch: int, turns: bool
) -> Update:
    @partial(jax.jit, donate_argnums=0)
    def update(
        state: PyTree,
        bank: Bank,
        rows: Int[Array, " b"],
        key: Array,
        weights: Float[Array, " k"],
        rate: Float[Array, ""],
        keep: Float[Array, ""],
    ) -> tuple[PyTree, Array]:
        learned, moments, average = state
        cut_one = partial(cut, bank, size=size, patch=patch, turns=turns)
        crops = jax.vmap(cut_one)(rows, jax.random.split(key, len(rows)))
        loss, grads = jax.value_and_grad(head_loss)(learned, crops, weights, graphdef=graphdef)
        updates, moments = ADAM.update(grads, moments)
        learned = jax.tree.map(lambda a, u: a - rate * u, learned, updates)
        average = jax.tree.map(lambda a, b: keep * a + (1 - keep) * b, average, learned)
        return (learned, moments, average), loss

    return update


def start_head(bank: Bank, *, seed: int) -> PyTree:
    """Return the weights of a head that corrects nothing."""
    head = Head(bank.tokens.shape[-1], bank.guess.shape[-1], rngs=nnx.Rngs(seed))
    return nnx.as_pure(nnx.state(head, nnx.Param))


def learn_head(
    update: Update,
    bank: Bank,
    rows: Sequence[int],
    *,
    steps: int,
    batch: int,
    lr: float,
    average: float,
    seed: int,
    tell: Callable[[int, float], None],
) -> tuple[PyTree, float]:
    """Return the average of the weights learned from some pictures, and the mean of late losses.

    `tell` is given the number of steps done and the loss.
    """
    learned = start_head(bank, seed=seed)
    state = (learned, ADAM.init(learned), jax.tree.map(jnp.copy, learned))
    rng, key = np.random.default_rng([seed, 9]), jax.random.key(seed)
    weights, losses = balance(bank, rows), []
    drawn = [rng.permutation(list(rows)) for _ in range(-(-steps * batch // len(rows)))]
    order = np.concatenate(drawn)[: steps * batch].reshape(steps, batch)
    for step in range(steps):
        key, key_step = jax.random.split(key)
        keep = np.float32(min(average, (1 + step) / (4 + step)))
        fall = 0.5 * (1 + np.cos(np.pi * step / steps))
        rate = np.float32(lr * min(1.0, (step + 1) / WARMUP) * fall)
        state, loss = update(state, bank, order[step], key_step, weights, rate, keep)
        losses.append(float(loss))
        tell(step + 1, losses[-1])
    return state[2], float(np.mean(losses[-20:]))
