"""The training step of SegGPT, and the update shared by all tasks."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Bool, Float, PyTree

from data.augment import Views, make_views
from seggpt.canvas import to_patches
from seggpt.losses import balanced_weights, smooth_l1
from seggpt.masking import block_mask, half_mask
from seggpt.model import SegGPT
from seggpt.palette import IGNORE
from train.config import TrainConfig
from train.optim import is_part
from train.sharding import keep_sharded, make_mesh
from train.state import TrainState, split_model

Metrics = dict[str, Array]
Loss = tuple[Array, tuple[Array, Metrics]]  # the mean over what counts, how much that is, metrics
Step = Callable[[TrainState, dict[str, Array]], tuple[TrainState, Metrics]]


def make_train_step(
    config: TrainConfig, optimizer: optax.GradientTransformation, *, examples: int
) -> Step:
    """Return a step whose samples have so many examples; the other views are queries."""
    graphdef = split_model(config.seggpt)
    dtype = compute_dtype(config)

    def step(state: TrainState, batch: dict[str, Array]) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(config.seed), state.step)
        key_views, key_mask, key_depth = jax.random.split(key, 3)
        size = config.view_size or config.seggpt.image_size
        views = make_views(batch, key=key_views, size=size, config=config.pictures)
        masks = draw_masks(key_mask, views, config, examples=examples)
        kept = draw_kept(key_depth, config, masks)
        progress = state.step / config.steps

        def loss_of(params: PyTree, part: tuple[Any, Any, Any]) -> Loss:
            model = nnx.merge(graphdef, jax.tree.map(lambda p: p.astype(dtype), params))
            views, masks, kept = part
            return sample_loss(
                model, views, config, masks=masks, kept=kept, examples=examples, progress=progress
            )

        return apply_gradients(state, loss_of, (views, masks, kept), config, optimizer)

    return step


def apply_gradients(
    state: TrainState,
    loss_of: Callable[[PyTree, Any], Loss],
    batch: PyTree,
    config: TrainConfig,
    optimizer: optax.GradientTransformation,
) -> tuple[TrainState, Metrics]:
    """Make one update of all parts that are not frozen; one that is not finite is left out."""

    def loss_of_free(params: PyTree, part: PyTree) -> Loss:
        return loss_of(_map_parts(jax.lax.stop_gradient, params, config.frozen), part)

    loss, metrics, grads = mean_gradients(
        loss_of_free, state.params, batch, parts=config.accumulate
    )
    updates, moments = optimizer.update(grads, state.moments, state.params)
    updates = _map_parts(jnp.zeros_like, updates, config.frozen)  # weight decay, too
    params = optax.apply_updates(state.params, updates)
    # Early averages would be mostly the random start: the decay grows with the steps.
    decay = jnp.minimum(config.optim.ema, (1 + state.step) / (10 + state.step))
    # Written so that what is frozen keeps every bit.
    ema = jax.tree.map(lambda e, p: e + (1 - decay) * (p - e), state.ema, params)
    metrics = metrics | {"loss": loss, "grad_norm": optax.tree.norm(grads)}
    is_finite = jnp.isfinite(loss) & jnp.isfinite(metrics["grad_norm"])
    params, ema, moments = jax.tree.map(
        lambda new, old: jnp.where(is_finite, new, old),
        (params, ema, moments),
        (state.params, state.ema, state.moments),
    )
    after = TrainState(state.step + 1, params, ema, moments)
    return keep_sharded(after, make_mesh(config.fsdp)), metrics


def mean_gradients(
    loss_of: Callable[[PyTree, Any], Loss], params: PyTree, batch: PyTree, *, parts: int
) -> tuple[Array, Metrics, PyTree]:
    """Return the loss, metrics and gradient of a batch that is taken in parts, one after the other.

    A part counts by its weight, so that the result is that of the whole batch. Each takes every
    `parts`-th sample: they lie on all devices alike.
    """
    differentiate = jax.value_and_grad(loss_of, has_aux=True)
    if parts == 1:
        (loss, (_, metrics)), grads = differentiate(params, batch)
        return loss, metrics, grads

    leaves, structure = jax.tree.flatten(batch)

    def weighted(part: list[Array]) -> tuple[Array, PyTree]:
        (loss, (weight, metrics)), grads = differentiate(params, structure.unflatten(part))
        return weight, jax.tree.map(lambda a: weight * a, (loss, metrics, grads))

    def add(total: PyTree, part: list[Array]) -> tuple[PyTree, None]:
        return jax.tree.map(jnp.add, total, weighted(part)), None

    split = [a.reshape(-1, parts, *a.shape[1:]).swapaxes(0, 1) for a in leaves]
    shapes = jax.eval_shape(weighted, [a[0] for a in split])
    start = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
    (weight, sums), _ = jax.lax.scan(add, start, split)
    return jax.tree.map(lambda a: a / jnp.maximum(weight, 1e-6), sums)


def _map_parts(change: Callable[[Array], Array], params: PyTree, parts: tuple[str, ...]) -> PyTree:
    """Apply a function to the arrays of the named parts, and leave the others."""

    def at(path: tuple[Any, ...], leaf: Array) -> Array:
        return change(leaf) if is_part(path, parts) else leaf

    return jax.tree_util.tree_map_with_path(at, params) if parts else params


def sample_loss(
    model: SegGPT,
    views: Views,
    config: TrainConfig,
    *,
    masks: Bool[Array, "b c g n"] | None,
    kept: Float[Array, "b c depth 2 2"] | None = None,
    examples: int,
    progress: float | Float[Array, ""],
) -> Loss:
    """Return the loss of a batch of samples, its weight and what to watch."""
    loss = config.loss
    beta, power = (a + (b - a) * progress for a, b in (loss.beta, loss.balance))
    valid = views.labels != IGNORE
    weights = balanced_weights(
        views.labels, valid, classes=config.pictures.pairs.slots, floor=loss.floor, power=power
    )
    if masks is None:
        painted, target, weights = _prefix(model, views, weights, config, examples=examples)
    else:
        painted, target, weights = _mutual(model, views, weights, config, masks=masks, kept=kept)
    value = smooth_l1(painted, target, weights, beta=beta)
    spread = within_patch_std(painted, config.seggpt.patch_size)
    truth = within_patch_std(target, config.seggpt.patch_size)
    return value, (weights.sum(), {"patch_std": spread / jnp.maximum(truth, 1e-6)})


def _prefix(
    model: SegGPT,
    views: Views,
    weights: Float[Array, "b v h w"],
    config: TrainConfig,
    *,
    examples: int,
) -> tuple[Array, Array, Array]:
    """Encode the examples once, paint every other view of the sample."""
    dtype = compute_dtype(config)
    images, targets = views.images.astype(dtype), views.targets.astype(dtype)
    queries = images.shape[1] - examples
    cache = model.encode(
        images[:, :examples], targets[:, :examples], kind=views.kind, remat=config.remat
    )
    flat = images[:, examples:].reshape(-1, *images.shape[2:])
    painted = model.decode(
        repeat_cache(cache, queries),
        flat,
        kind=jnp.repeat(views.kind, queries),
        remat=config.remat,
    )
    # A sample whose examples show nothing says nothing about what to paint.
    shown = (views.labels[:, :examples] > 0) & (views.labels[:, :examples] != IGNORE)
    weights = weights[:, examples:] * shown.any(axis=(1, 2, 3), keepdims=True)
    shape = painted.shape[:-1]
    target = views.targets[:, examples:].reshape(painted.shape)
    return painted, target, weights.reshape(shape)


def _mutual(
    model: SegGPT,
    views: Views,
    weights: Float[Array, "b v h w"],
    config: TrainConfig,
    *,
    masks: Bool[Array, "b c g n"],
    kept: Float[Array, "b c depth 2 2"] | None,
) -> tuple[Array, Array, Array]:
    """Paint masked patches of canvases: pairs of views for one example, else the query alone."""
    h, w = weights.shape[2:]
    gh, gw = h // config.seggpt.patch_size, w // config.seggpt.patch_size
    dtype = compute_dtype(config)
    each, grids = masks.shape[1:3]
    fold = partial(_fold, count=each * grids, grids=grids)
    images, targets, weights = fold(views.images), fold(views.targets), fold(weights)
    kind = jnp.repeat(views.kind, each)
    masks = masks.reshape(-1, *masks.shape[2:])
    canvases = len(masks)
    output = "canvas" if grids == 2 else "query"
    painted = model.paint(
        images.astype(dtype),
        targets.astype(dtype),
        masks,
        kind=kind,
        output=output,
        kept=None if kept is None else kept.reshape(canvases, *kept.shape[2:]),
        remat=config.remat,
    )
    patch = config.seggpt.patch_size
    pixels = masks.reshape(canvases, grids, gh, gw).repeat(patch, axis=2).repeat(patch, axis=3)
    weights = weights * pixels
    if output == "query":
        return painted, targets[:, -1], weights[:, -1]
    return painted, targets.reshape(painted.shape), weights.reshape(painted.shape[:-1])


def _fold(a: Array, *, count: int, grids: int) -> Array:
    """Make canvases of `grids` views each out of a sample's first `count` views."""
    return a[:, :count].reshape(-1, grids, *a.shape[2:])


def draw_masks(
    key: Array, views: Views, config: TrainConfig, *, examples: int
) -> Bool[Array, "b c g n"] | None:
    """Draw the masks of the canvases that each sample's views make; None if none are masked."""
    if config.seggpt.attention == "prefix":
        return None
    b, v, h, w = views.labels.shape
    shape = (h // config.seggpt.patch_size, w // config.seggpt.patch_size)
    canvases = b * (v // (examples + 1))
    masks = canvas_masks(key, canvases, shape, half=config.half_masks if examples == 1 else 1.0)
    masks = jnp.concatenate([jnp.repeat(masks[:, :1], examples, axis=1), masks[:, 1:]], axis=1)
    return masks.reshape(b, -1, examples + 1, shape[0] * shape[1])


def draw_kept(
    key: Array, config: TrainConfig, masks: Bool[Array, "b c g n"] | None
) -> Float[Array, "b c depth 2 2"] | None:
    """Draw which canvases pass by a block (stochastic depth); what is left counts for more.

    Attention and MLP are drawn apart, and so are streams, as in Painter's code. The share rises
    from 0 to `drop_path` over the blocks.
    """
    if masks is None or not config.drop_path:
        return None
    depth = config.seggpt.depth
    share = 1 - jnp.linspace(0, config.drop_path, depth)[:, None, None]
    return jax.random.bernoulli(key, share, (*masks.shape[:2], depth, 2, 2)) / share


def canvas_masks(
    key: Array, count: int, shape: tuple[int, int], *, half: float
) -> Bool[Array, "b two n"]:
    """Draw masks of canvases: the query's half, or blocks over half of all patches."""
    key_kind, key_blocks = jax.random.split(key)
    canvas = (2 * shape[0], shape[1])
    patches = canvas[0] * canvas[1]
    draw = partial(block_mask, shape=canvas, count=patches // 2)
    blocks = jax.vmap(draw)(jax.random.split(key_blocks, count))
    is_half = jax.random.bernoulli(key_kind, half, (count, 1, 1))
    return jnp.where(is_half, half_mask(canvas), blocks).reshape(count, 2, -1)


def repeat_cache(cache: PyTree[Array], queries: int) -> PyTree[Array]:
    """Give each of a sample's queries the sample's cache."""
    return jax.tree.map(lambda a: jnp.repeat(a, queries, axis=0), cache)


def within_patch_std(image: Float[Array, "b h w 3"], patch: int) -> Float[Array, ""]:
    """Average the deviation inside patches: near 0 if every patch is one flat colour."""
    patches = to_patches(image, patch)
    pixels = patches.reshape(*patches.shape[:2], patch * patch, 3)
    return pixels.astype(jnp.float32).std(axis=2).mean()


def compute_dtype(config: TrainConfig) -> jnp.dtype:
    """Return the dtype of activations."""
    if config.dtype == "auto":
        return jnp.dtype(jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16)
    return jnp.dtype(config.dtype)
