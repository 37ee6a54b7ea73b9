"""The start of a tuning run: size of the prompt, colours, and first arrays."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, PyTree

from incontext.device import compile_for
from incontext.examples.context import split_labels
from incontext.examples.engine import SegGPTEngine
from incontext.examples.passes import LABELS_PER_PASS
from incontext.examples.squares import labels_to_square, to_square
from incontext.options import SegType
from incontext.tune.baselines import Plain, best_single, cover_labels
from incontext.tune.config import MAX_PROMPT_BYTES, TuneConfig
from incontext.tune.pictures import Pictures
from incontext.tune.prompt import (
    Palette,
    Prompt,
    random_pairs,
)
from incontext.tune.run import Run
from seggpt.canvas import normalize
from seggpt.model import INSTANCE, SEMANTIC

SPREAD = 32  # pictures whose tokens a prompt starts from
MOST_PAIRS = 3  # without being told
RARITY = 0.25  # power of the inverse share of its label in the chance of a token to be kept


def fill(config: TuneConfig, engine: SegGPTEngine, train: Pictures) -> TuneConfig:
    """Choose how many pairs a prompt has, by what its file may hold."""
    passes = -(-len(train.labels) // (config.labels_per_pass or LABELS_PER_PASS))
    pairs = config.prompts
    if not pairs:
        # The tokens of a spread start are of many pictures anyway, and each costs every step.
        several = engine.config.attention == "prefix" and config.start != "spread"
        most = MOST_PAIRS if several else 1
        sizes = {
            n: passes * _pass_bytes(_prompt(config, engine, pairs=n), engine.params)
            for n in range(2, min(most, len(train)) + 1)
        }
        pairs = max([1, *(n for n, size in sizes.items() if size <= MAX_PROMPT_BYTES)])
    return dataclasses.replace(config, prompts=pairs)


def _prompt(
    config: TuneConfig, engine: SegGPTEngine, *, pairs: int, seg_type: SegType = "semantic"
) -> Prompt:
    assert config.learn != "auto"  # resolve
    assert config.learn != "head"  # tune_prompt
    return Prompt(
        graphdef=engine.graphdef,
        config=engine.config,
        kind=config.learn,
        pairs=pairs,
        type_id=SEMANTIC if seg_type == "semantic" else INSTANCE,
    )


def prepare_run(
    engine: SegGPTEngine,
    train: Pictures,
    held: Pictures,
    plains: Sequence[Plain],
    *,
    config: TuneConfig,
    seg_type: SegType,
) -> tuple[Run, PyTree]:
    """Return a run and the prompt that it starts from."""
    prompt = _prompt(config, engine, pairs=config.prompts, seg_type=seg_type)
    palette = choose_palette(prompt, engine.params, train.labels, config=config)
    if config.start == "spread":
        learned = _spread(engine, prompt, train, palette, seed=config.seed)
    else:
        rows = choose_rows(train, plains, count=config.prompts, seed=config.seed)
        images, targets = _pairs(train.take(rows), palette, engine.config.image_size)
        if config.start == "random":
            images, targets = random_pairs(jax.random.key(config.seed), images.shape)
        learned = compile_for(Prompt.start, prompt)(engine.params, images, targets)
    learned = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), learned)
    run = Run(
        config=config,
        pictures=train,
        held=held,
        prompt=prompt,
        palette=palette,
        params=engine.params,
        model=engine.fingerprint,
        seg_type=seg_type,
    )
    return run, learned


def choose_palette(
    prompt: Prompt, params: PyTree, labels: Sequence[int], *, config: TuneConfig
) -> Palette:
    """Divide labels into passes: as in training where the file can hold that, else fewer."""
    per_pass = config.labels_per_pass
    if not per_pass:
        fit = max(1, MAX_PROMPT_BYTES // _pass_bytes(prompt, params))
        per_pass = -(-len(labels) // min(fit, -(-len(labels) // LABELS_PER_PASS)))
    return Palette(split_labels(range(1, len(labels) + 1), per_pass))


def choose_rows(train: Pictures, plains: Sequence[Plain], *, count: int, seed: int) -> list[int]:
    """Return the pictures that a prompt starts from: the best alone, then what it lacks."""
    single = best_single(plains)
    order = cover_labels(train, np.random.default_rng([seed, 4]))
    rows = [*single.rows, *(row for row in order if row not in single.rows)]
    return [rows[i % len(rows)] for i in range(count)]


def _spread(
    engine: SegGPTEngine, prompt: Prompt, train: Pictures, palette: Palette, *, seed: int
) -> PyTree:
    """Return keys and values of some tokens of many pictures, as many as `pairs` pairs have.

    A block sees any number of tokens with one softmax: some of every picture paint much as all of
    them do, for a fraction of the time and of the file.
    """
    model = engine.config
    order = cover_labels(train, np.random.default_rng([seed, 5]))[:SPREAD]
    rows = [order[i % len(order)] for i in range(max(len(order), prompt.pairs))]
    start = compile_for(Prompt.start, dataclasses.replace(prompt, pairs=1))
    small = [
        labels_to_square(train.class_ids[row].astype(np.int32), model.image_size) for row in rows
    ]
    step = model.patch_size
    middles = np.stack(
        [class_ids[step // 2 :: step, step // 2 :: step].ravel() for class_ids in small]
    )
    parts = []
    for row, kept in zip(rows, choose_tokens(middles, prompt.pairs, seed=seed), strict=True):
        cache = start(engine.params, *_pairs(train.take([row]), palette, model.image_size))
        parts.append(jax.tree.map(lambda a, kept=kept: a[:, kept], cache))
    return jax.tree.map(lambda *a: jnp.concatenate(a, axis=1), *parts)


def choose_tokens(
    class_ids: Int[np.ndarray, "pictures tokens"], pairs: int, *, seed: int
) -> list[Int[np.ndarray, " _"]]:
    """Draw which tokens of each picture to keep, as many as `pairs` pictures have in all.

    Those of rare labels are drawn more often: a few would be left of them, or none.
    """
    shares = np.bincount(class_ids.ravel(), minlength=256) / class_ids.size
    chance = shares[class_ids.ravel()] ** -RARITY
    kept = np.zeros(class_ids.size, bool)
    rng = np.random.default_rng([seed, 6])
    count = pairs * class_ids.shape[1]
    kept[rng.choice(class_ids.size, count, replace=False, p=chance / chance.sum())] = True
    return [np.flatnonzero(row) for row in kept.reshape(class_ids.shape)]


def _pairs(pictures: Pictures, palette: Palette, size: int) -> tuple[jax.Array, jax.Array]:
    """Return pictures and their targets in every pass, in the model's units."""
    images = np.stack([to_square(image, size) for image in pictures.images])
    class_ids = np.stack([labels_to_square(s.astype(np.int32), size) for s in pictures.class_ids])
    passes = len(palette.passes)
    pixels = jnp.broadcast_to(normalize(jnp.asarray(images)), (passes, *images.shape))
    return pixels, palette.targets(jnp.asarray(class_ids))


def _pass_bytes(prompt: Prompt, params: PyTree) -> int:
    """Return what a file needs for one pass at 2 bytes a number."""
    size = prompt.config.image_size
    pair = jax.ShapeDtypeStruct((1, prompt.pairs, size, size, 3), jnp.float32)
    learned = jax.eval_shape(prompt.start, params, pair, pair)
    arrays = jax.eval_shape(prompt.expand, params, learned)
    return sum(2 * leaf.size for leaf in jax.tree.leaves(arrays))
