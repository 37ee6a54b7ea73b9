"""Data augmentation on the accelerator: crops, flips and colour jitter, driven by keys.

Pictures stay uint8 until they are cut out. A crop with its flips and its resize to the model's
size is two small matrix products for the picture and two look-ups for the ids.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Integer, UInt8

from data.config import AugmentConfig, DataConfig
from seggpt.canvas import normalize
from seggpt.palette import IGNORE, paint, random_colors

Box = Float[Array, " 4"]  # y0, x0, y1, x1 in 0..1; y0 > y1 is upside down


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Views:
    """A batch of samples as the model eats them."""

    images: Float[Array, "b v h w 3"]  # normalised
    targets: Float[Array, "b v h w 3"]  # normalised colours
    labels: Int[Array, "b v h w"]  # 0 background, 1..slots, 255 ignored
    kind: Int[Array, " b"]


def make_views(batch: dict[str, Array], *, key: Array, size: int, config: DataConfig) -> Views:
    """Cut, flip, recolour and stitch every view of a batch of samples, and paint its labels."""
    picked, labels = batch["images"], batch["labels"]
    b, v = labels.shape[:2]
    key_view, key_tone, key_stitch, key_color = jax.random.split(key, 4)
    one = partial(view, size=size, config=config.augment)
    recolor = partial(jitter, config=config.augment)
    keys = jax.random.split(key_view, (b, v))
    pixels, labels = jax.vmap(jax.vmap(one))(keys, picked, labels)
    pixels = jax.vmap(recolor)(jax.random.split(key_tone, b), pixels)
    stitch = partial(stitch_views, config=config.augment)
    pixels, labels = jax.vmap(stitch)(jax.random.split(key_stitch, b), pixels, labels)
    color = partial(random_colors, classes=config.pairs.slots, config=config.coloring)
    colors = jax.vmap(color)(jax.random.split(key_color, b))
    targets = jax.vmap(paint)(labels, colors)
    return Views(normalize(pixels), normalize(targets), labels, batch["kind"])


def view(
    key: Array,
    image: UInt8[Array, "size size 3"],
    labels: Integer[Array, "size size"],
    *,
    size: int,
    config: AugmentConfig,
) -> tuple[Float[Array, "s s 3"], Int[Array, "s s"]]:
    """Cut one view out of a picture: RGB in 0..1 and labels."""
    key_box, key_turn = jax.random.split(key)
    box = choose_box(key_box, (labels > 0) & (labels != IGNORE), config=config)
    pixels, labels = cut(image, labels, box, size=size)
    turned = jax.random.bernoulli(key_turn, config.transpose)
    pixels = jnp.where(turned, pixels.transpose(1, 0, 2), pixels)
    labels = jnp.where(turned, labels.T, labels)
    return pixels, labels.astype(jnp.int32)


def choose_box(key: Array, marked: Bool[Array, "size size"], *, config: AugmentConfig) -> Box:
    """Draw some crops and take the first that shows enough of what is marked."""
    key_box, key_flip = jax.random.split(key)
    coarse = marked[::4, ::4].astype(jnp.float32)
    boxes = jax.vmap(partial(random_box, config=config))(jax.random.split(key_box, config.tries))
    place = (jnp.arange(coarse.shape[0]) + 0.5) / coarse.shape[0]
    rows = (place >= boxes[:, None, 0]) & (place < boxes[:, None, 2])
    cols = (place >= boxes[:, None, 1]) & (place < boxes[:, None, 3])
    shown = jnp.einsum("ty,tx,yx->t", rows * 1.0, cols * 1.0, coarse)
    share = shown / jnp.maximum(rows.sum(axis=1) * cols.sum(axis=1), 1)
    # Rank: showing something but not only that; the first of equals wins.
    box = boxes[jnp.argmax((share > 0.01) * 2.0 + (share < 0.95) * 1.0 * (share > 0))]
    flips = jax.random.uniform(key_flip, (2,)) < jnp.asarray([config.upside_down, config.flip])
    return jnp.concatenate([jnp.where(flips, box[2:], box[:2]), jnp.where(flips, box[:2], box[2:])])


def random_box(key: Array, *, config: AugmentConfig) -> Box:
    """Draw a crop by area and aspect, somewhere inside the picture."""
    key_area, key_aspect, key_place = jax.random.split(key, 3)
    area = jax.random.uniform(key_area, minval=config.scale[0], maxval=config.scale[1])
    bound = jnp.log(config.aspect)
    aspect = jnp.exp(jax.random.uniform(key_aspect, minval=-bound, maxval=bound))
    sides = jnp.minimum(jnp.stack([jnp.sqrt(area * aspect), jnp.sqrt(area / aspect)]), 1.0)
    corner = jax.random.uniform(key_place, (2,)) * (1 - sides)
    return jnp.concatenate([corner, corner + sides])


def cut(
    image: UInt8[Array, "size size 3"], labels: Integer[Array, "size size"], box: Box, *, size: int
) -> tuple[Float[Array, "s s 3"], Integer[Array, "s s"]]:
    """Resize a box of a picture (linear, antialiased) and of its labels (nearest)."""
    old = image.shape[0]
    centres = (jnp.arange(size) + 0.5) / size
    rows = (box[0] + centres * (box[2] - box[0])) * old - 0.5
    cols = (box[1] + centres * (box[3] - box[1])) * old - 0.5
    weights_y = _linear_weights(rows, old, jnp.abs(box[2] - box[0]) * old / size)
    weights_x = _linear_weights(cols, old, jnp.abs(box[3] - box[1]) * old / size)
    pixels = jnp.einsum("ys,stc->ytc", weights_y, image.astype(jnp.float32) / 255)
    pixels = jnp.einsum("xt,ytc->yxc", weights_x, pixels)
    near_y, near_x = (jnp.clip(jnp.round(p).astype(jnp.int32), 0, old - 1) for p in (rows, cols))
    return pixels, labels[near_y][:, near_x]


def _linear_weights(
    places: Float[Array, " new"], old: int, stride: Float[Array, ""]
) -> Float[Array, "new old"]:
    """Return a matrix of triangles around places, as wide as the stride when it shrinks."""
    width = jnp.maximum(stride, 1.0)
    weights = jnp.maximum(1 - jnp.abs(places[:, None] - jnp.arange(old)) / width, 0)
    return weights / jnp.maximum(weights.sum(axis=1, keepdims=True), 1e-6)


def jitter(
    key: Array, images: Float[Array, "v h w 3"], *, config: AugmentConfig
) -> Float[Array, "v h w 3"]:
    """Change brightness, contrast and saturation of a sample's views, or leave them all alone.

    Views change together and depart from each other by less: pictures that are segmented
    together mostly come from one camera, and a thing's colour says much about it.
    """
    key_on, key_grey, *keys = jax.random.split(key, 5)

    def factor(key: Array, amount: float) -> Float[Array, "v 1 1 1"]:
        key_all, key_own = jax.random.split(key)
        own = amount * config.own_jitter
        shared = jax.random.uniform(key_all, minval=1 - amount, maxval=1 + amount)
        apart = jax.random.uniform(key_own, (len(images), 1, 1, 1), minval=1 - own, maxval=1 + own)
        return shared * apart

    grey_weights = jnp.asarray([0.299, 0.587, 0.114])  # ITU-R 601 luma
    out = images * factor(keys[0], config.brightness)
    mean = out.mean(axis=(1, 2, 3), keepdims=True)
    out = (out - mean) * factor(keys[1], config.contrast) + mean
    luma = (out @ grey_weights)[..., None]
    is_grey = jax.random.bernoulli(key_grey, config.grey)
    out = luma + (out - luma) * jnp.where(is_grey, 0.0, factor(keys[2], config.saturation))
    on = jax.random.bernoulli(key_on, config.jitter)
    return jnp.where(on, jnp.clip(out, 0, 1), images)


def stitch_views(
    key: Array,
    images: Float[Array, "v h w 3"],
    labels: Int[Array, "v h w"],
    *,
    config: AugmentConfig,
) -> tuple[Float[Array, "v h w 3"], Int[Array, "v h w"]]:
    """Put two views of a sample side by side in some of its views: mixed context.

    Both parts are under the sample's one map of labels. The cut is vertical or horizontal.
    """
    v, h, w = labels.shape
    key_on, key_cut, key_axis, key_other = jax.random.split(key, 4)
    on = jax.random.bernoulli(key_on, config.stitch, (v, 1, 1))
    at = jax.random.uniform(key_cut, (v, 1, 1), minval=0.3, maxval=0.7)
    across = jax.random.bernoulli(key_axis, 0.5, (v, 1, 1))
    other = (jnp.arange(v) + jax.random.randint(key_other, (v,), 1, max(v, 2))) % v
    rows, cols = jnp.arange(h)[:, None] / h, jnp.arange(w)[None, :] / w
    taken = on & jnp.where(across, rows >= at, cols >= at)
    images = jnp.where(taken[..., None], images[other], images)
    return images, jnp.where(taken, labels[other], labels)
