"""Random crops, flips and colours of a picture, on the accelerator, driven by keys."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt8

ASPECT = 4 / 3  # crops are up to this much wider or taller
LUMA = (0.299, 0.587, 0.114)  # ITU-R 601


class Window(NamedTuple):
    """A part of a picture, in shares of its sides; turned where bottom or right come first."""

    top: Float[Array, ""]
    left: Float[Array, ""]
    bottom: Float[Array, ""]
    right: Float[Array, ""]
    on_side: Bool[Array, ""]  # whether rows become columns


def draw_window(key: Array, *, scale: float, turns: bool = False) -> Window:
    """Draw a box that covers `scale` to all of a picture, flipped or not.

    With `turns` it is also turned upside down or not, and its rows become columns or not.
    """
    key_area, key_aspect, key_place, key_flip, key_turn = jax.random.split(key, 5)
    area = jax.random.uniform(key_area, minval=scale, maxval=1.0)
    bound = jnp.log(ASPECT)
    aspect = jnp.exp(jax.random.uniform(key_aspect, minval=-bound, maxval=bound))
    sides = jnp.minimum(jnp.stack([jnp.sqrt(area * aspect), jnp.sqrt(area / aspect)]), 1.0)
    corner = jax.random.uniform(key_place, (2,)) * (1 - sides)
    top, left, bottom, right = jnp.concatenate([corner, corner + sides])
    flip = jax.random.bernoulli(key_flip)
    left, right = jnp.where(flip, right, left), jnp.where(flip, left, right)
    upside_down, on_side = turns & jax.random.bernoulli(key_turn, shape=(2,))
    top, bottom = jnp.where(upside_down, bottom, top), jnp.where(upside_down, top, bottom)
    return Window(top, left, bottom, right, on_side)


def cut_pixels(
    image: Float[Array, "side side c"], window: Window, *, size: int
) -> Float[Array, "s s c"]:
    """Cut a window out of a picture and resize it."""
    rows, cols = _grid(window, len(image), size)
    pixels = jnp.einsum("ys,stc->ytc", _weights(rows, len(image)), image)
    pixels = jnp.einsum("xt,ytc->yxc", _weights(cols, len(image)), pixels)
    return jnp.where(window.on_side, pixels.swapaxes(0, 1), pixels)


def cut_labels(
    class_ids: UInt8[Array, "side side"], window: Window, *, size: int
) -> Int[Array, "s s"]:
    """Cut a window out of a label map and resize it to the nearest."""
    places = _grid(window, len(class_ids), size)
    rows, cols = (jnp.clip(jnp.round(p).astype(int), 0, len(class_ids) - 1) for p in places)
    cut = class_ids[rows][:, cols].astype(jnp.int32)
    return jnp.where(window.on_side, cut.T, cut)


def cut_view(
    key: Array,
    image: UInt8[Array, "side side 3"],
    class_ids: UInt8[Array, "side side"],
    *,
    size: int,
    scale: float,
    turns: bool = False,
) -> tuple[Float[Array, "s s 3"], Int[Array, "s s"]]:
    """Cut a random window out of a picture and its labels: RGB in 0..1 and labels."""
    window = draw_window(key, scale=scale, turns=turns)
    pixels = cut_pixels(image.astype(jnp.float32) / 255, window, size=size)
    return pixels, cut_labels(class_ids, window, size=size)


def change_colors(
    key: Array, image: Float[Array, "h w 3"], *, amount: float
) -> Float[Array, "h w 3"]:
    """Change brightness, contrast and saturation by factors of 1 - `amount` to 1 + `amount`."""
    key_brightness, key_contrast, key_saturation = jax.random.split(key, 3)

    def factor(key: Array) -> Float[Array, ""]:
        return jax.random.uniform(key, minval=1 - amount, maxval=1 + amount)

    out = image * factor(key_brightness)
    mean = out.mean()
    out = (out - mean) * factor(key_contrast) + mean
    grey = (out @ jnp.asarray(LUMA))[..., None]
    return jnp.clip(grey + (out - grey) * factor(key_saturation), 0, 1)


def _grid(window: Window, old: int, new: int) -> tuple[Float[Array, " new"], Float[Array, " new"]]:
    """Return where the rows and columns of a window's new pixels lie among the old ones."""
    top, left, bottom, right, _ = window
    return _places(top, bottom, old, new), _places(left, right, old, new)


def _places(
    low: Float[Array, ""], high: Float[Array, ""], old: int, new: int
) -> Float[Array, " new"]:
    """Return where the new pixels' centres lie among the old ones; `low` > `high` is flipped."""
    return (low + (jnp.arange(new) + 0.5) / new * (high - low)) * old - 0.5


def _weights(places: Float[Array, " new"], old: int) -> Float[Array, "new old"]:
    """Return a matrix of triangles around places, as wide as the stride when it shrinks."""
    stride = jnp.maximum(jnp.abs(places[1] - places[0]), 1.0)
    weights = jnp.maximum(1 - jnp.abs(places[:, None] - jnp.arange(old)) / stride, 0)
    return weights / jnp.maximum(weights.sum(axis=1, keepdims=True), 1e-6)
