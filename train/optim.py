"""AdamW with warm-up, cosine schedule, weight decay by path and layer-wise rates."""

import operator
from functools import partial
from typing import Any

import jax
import optax
from jaxtyping import PyTree

from train.config import OptimConfig

NO_DECAY = ("pos_embed", "rel_pos_h", "rel_pos_w", "frequencies", "mask_tokens")


def make_optimizer(config: OptimConfig, *, steps: int, depth: int) -> optax.GradientTransformation:
    """Return the whole chain for a run of `steps` on a model of `depth` blocks."""
    return optax.chain(
        optax.clip_by_global_norm(config.clip),
        optax.scale_by_adam(b1=config.betas[0], b2=config.betas[1]),
        optax.add_decayed_weights(config.weight_decay, mask=partial(decay_mask, slow=config.slow)),
        _scale_slow(config),
        _scale_by_depth(config.layer_decay, depth),
        optax.scale_by_learning_rate(make_schedule(config, steps=steps)),
    )


def make_schedule(config: OptimConfig, *, steps: int) -> optax.Schedule:
    """Return the learning rate by step: linear warm-up, half a cosine to zero."""
    warmup = min(config.warmup, steps // 2)
    return optax.warmup_cosine_decay_schedule(0.0, config.lr, warmup, steps)


def decay_mask(params: PyTree, *, slow: tuple[str, ...] = ()) -> PyTree:
    """Say which parameters decay: matrices, but no tables of positions and no single tokens.

    Neither do the `slow` parts, which start right.
    """

    def decays(path: tuple[Any, ...], leaf: jax.Array) -> bool:
        return (
            leaf.ndim > 1 and _name(path).split("/")[-1] not in NO_DECAY and not is_part(path, slow)
        )

    return jax.tree_util.tree_map_with_path(decays, params)


def is_part(path: tuple[Any, ...], parts: tuple[str, ...]) -> bool:
    """Tell whether a parameter is one of the named parts, such as `decoder.skip`, or in one."""
    name = jax.tree_util.keystr(path, simple=True, separator=".")
    return any(f"{name}.".startswith(f"{part}.") for part in parts)


def _scale_slow(config: OptimConfig) -> optax.GradientTransformation:
    def scale(updates: PyTree, params: PyTree) -> PyTree:
        del params
        return jax.tree_util.tree_map_with_path(
            lambda path, a: config.slow_rate * a if is_part(path, config.slow) else a, updates
        )

    return optax.stateless(scale)


def depth_scales(params: PyTree, decay: float, depth: int) -> PyTree:
    """Return each parameter's factor: embeddings are level 0, block i level i + 1, the rest 1.

    `depth` blocks are those of a `vit`, if there is one; the decoders above it are the rest.
    """
    names = [_name(path).split("/") for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    has_vit = any("vit" in parts for parts in names)

    def scale(path: tuple[Any, ...], _: jax.Array) -> float:
        parts = _name(path).split("/")
        if has_vit and "vit" not in parts:
            return 1.0
        if "blocks" in parts:
            return decay ** (depth - int(parts[parts.index("blocks") + 1]) - 1)
        is_embedding = "patch_embed" in parts or parts[-1] in ("pos_embed", "prefix_tokens")
        return decay**depth if is_embedding else 1.0

    return jax.tree_util.tree_map_with_path(scale, params)


def _scale_by_depth(decay: float, depth: int) -> optax.GradientTransformation:
    def scale(updates: PyTree, params: PyTree) -> PyTree:
        del params
        return jax.tree.map(operator.mul, updates, depth_scales(updates, decay, depth))

    return optax.stateless(scale)


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
