"""Dense features of a prompt for every patch and pixel, before any attention.

How near it is to points, whether it lies in the box, and how much it looks like what the prompt
marks: a frozen encoder's features, compared within the picture, carry a mark from the patches
under a point to all that look alike. It is what matching does between pictures
(`seggpt.in_context.matching`), with the prompt in the place of an example's colours.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from seggpt.canvas import to_patches
from seggpt.layers import unit
from seggpt.prompts.encoder import BACKGROUND, FIRST_CORNER, FOREGROUND, SECOND_CORNER

REACHES_PX = (14.0, 36.0, 90.0)  # deviations of Gaussians around points, in pixels of the model
MIDDLE = 1  # the reach of what a point is taken to mark
RIM = 0.25  # how likely the rim of a box is foreground, if its middle is for sure
EDGE_PX = 9.0  # how soft a box's edge is, for patches
FINE_PX = 2.0  # and for pixels
CLICK_PX = 5.0  # deviation of Gaussians around points, for pixels
DRAWN = 3  # maps of `draw_prompts`
SHARPNESS = 20.0  # cosine to logits
MOST_ODDS = 6.0  # of logits of what looks alike


class Hints(NamedTuple):
    """What a prompt says about patches.

    Attributes:
        feats: All of it, for a layer to read.
        odds: The log odds of each patch by its looks, for each of the encoder's layers.
    """

    feats: Float[Array, "p n f"]
    odds: Float[Array, "p n layers"]


def compare_patches(layers: Float[Array, "i n l d"]) -> Float[Array, "i l n n"]:
    """Return for every patch how much the others look like it, in each of an encoder's layers.

    The weights add up to 1; nothing here is learned.
    """
    feats = jnp.moveaxis(layers, 2, 1)
    return jax.nn.softmax(SHARPNESS * (feats @ feats.swapaxes(-1, -2)), axis=-1)


def unit_layers(layers: tuple[Float[Array, "i n d"], ...]) -> Float[Array, "i n l d"]:
    """Return each layer's tokens relative to the picture's mean, at length 1."""
    return jnp.stack([unit(a - a.mean(axis=1, keepdims=True)) for a in layers], axis=2)


def feature_count(layers: int) -> int:
    """Return the number of features of `give_hints`."""
    return 2 * len(REACHES_PX) + 2 + 4 * layers


def give_hints(
    coords: Float[Array, "p s 2"],
    labels: Int[Array, "p s"],
    mask: Float[Array, "p h w"] | None,
    *,
    layers: Float[Array, "i n l d"],
    affinity: Float[Array, "i l n n"],
    shape: tuple[int, int],
    patch: int,
) -> Hints:
    """Measure patches against prompts, as many for each picture, those of the first one first.

    `coords` are in pixels of the picture as the model sees it, `shape` its height and width in
    patches; a mask is logits of any number of pixels a patch.
    """
    near_front, near_back = (
        _near(coords, labels == kind, shape=shape, patch=patch) for kind in (FOREGROUND, BACKGROUND)
    )
    box, middle = _boxed(coords, labels, shape=shape, patch=patch, edge=EDGE_PX)
    front_at, back_at = near_front[..., MIDDLE], near_back[..., MIDDLE]
    if mask is None:
        prior = jnp.maximum(front_at, box * (RIM + (1 - RIM) * middle))
    else:
        side = mask.shape[1] // shape[0]
        inside = to_patches(jax.nn.sigmoid(mask)[..., None], side).mean(axis=-1)
        prior = jnp.maximum(inside, near_front[..., 0])
    prior = prior * (1 - back_at)
    front, back = (_spread(affinity, side) for side in (prior, 1 - prior))
    plain = front / (front + back)
    # As if both sides had the same area.
    front, back = (
        spread / jnp.maximum(side.mean(axis=1), 1e-3)[:, None, None]
        for spread, side in ((front, prior), (back, 1 - prior))
    )
    odds = jnp.clip(jnp.log(front + 1e-3) - jnp.log(back + 1e-3), -MOST_ODDS, MOST_ODDS)
    cosines = [
        _cosine(coords, labels == kind, layers, shape=shape, patch=patch)
        for kind in (FOREGROUND, BACKGROUND)
    ]
    parts = [near_front, near_back, box[..., None], middle[..., None], plain, odds / MOST_ODDS]
    return Hints(jnp.concatenate([*parts, *cosines], axis=-1), odds)


def draw_prompts(
    coords: Float[Array, "p s 2"], labels: Int[Array, "p s"], *, shape: tuple[int, int], stride: int
) -> Float[Array, "p h w 3"]:
    """Draw prompts over cells of `stride` pixels: the box, and what is near either kind of point.

    Tokens tell a place to within a patch; masks need it to within a pixel.
    """
    box, _ = _boxed(coords, labels, shape=shape, patch=stride, edge=FINE_PX)
    near = [
        _near(coords, labels == kind, shape=shape, patch=stride, reaches=(CLICK_PX,))[..., 0]
        for kind in (FOREGROUND, BACKGROUND)
    ]
    return jnp.stack([box, *near], axis=-1).reshape(len(coords), *shape, DRAWN)


def _centres(shape: tuple[int, int], patch: int) -> tuple[Array, Array]:
    """Return the rows and columns of patches' centres, in pixels."""
    rows, cols = (patch * (jnp.arange(count) + 0.5) for count in shape)
    return rows, cols


def _near(
    coords: Float[Array, "p s 2"],
    there: Array,
    *,
    shape: tuple[int, int],
    patch: int,
    reaches: tuple[float, ...] = REACHES_PX,
) -> Float[Array, "p n reaches"]:
    """Return Gaussians around the nearest of the points that are there."""
    rows, cols = _centres(shape, patch)
    down = rows[:, None] - (coords[..., 1] + 0.5)[..., None, None]
    across = cols - (coords[..., 0] + 0.5)[..., None, None]
    squares = jnp.where(there[..., None, None], down**2 + across**2, jnp.inf).min(axis=1)
    squares = squares.reshape(len(coords), -1, 1)
    return jnp.exp(-squares / (2 * jnp.square(jnp.asarray(reaches))))


def _boxed(
    coords: Float[Array, "p s 2"],
    labels: Int[Array, "p s"],
    *,
    shape: tuple[int, int],
    patch: int,
    edge: float,
) -> tuple[Float[Array, "p n"], Float[Array, "p n"]]:
    """Return whether patches lie in the box, and a Gaussian around its middle of its size."""
    low, high = (
        jnp.where((labels == kind)[..., None], coords + 0.5, 0.0).sum(axis=1)
        for kind in (FIRST_CORNER, SECOND_CORNER)
    )
    rows, cols = _centres(shape, patch)
    inside = middle = (labels == FIRST_CORNER).any(axis=1).astype(jnp.float32)[:, None, None]
    for axis, line in enumerate((cols[None, None, :], rows[None, :, None])):
        start, end = low[:, axis, None, None], high[:, axis, None, None]
        inside = inside * jax.nn.sigmoid((line - start) / edge)
        inside = inside * jax.nn.sigmoid((end - line) / edge)
        half = jnp.maximum((end - start) / 2, edge)
        middle = middle * jnp.exp(-2 * jnp.square((line - (start + end) / 2) / half))
    flat = (len(coords), -1)
    return inside.reshape(flat), middle.reshape(flat)


def _spread(
    affinity: Float[Array, "i l n n"], prior: Float[Array, "p n"]
) -> Float[Array, "p n layers"]:
    """Carry what is marked to what looks alike."""
    pictures, n = len(affinity), prior.shape[-1]
    spread = jnp.einsum("ilnm,itm->itnl", affinity, prior.reshape(pictures, -1, n))
    return spread.reshape(len(prior), n, -1)


def _cosine(
    coords: Float[Array, "p s 2"],
    there: Array,
    layers: Float[Array, "i n l d"],
    *,
    shape: tuple[int, int],
    patch: int,
) -> Float[Array, "p n layers"]:
    """Return the highest cosine with the patches under the points that are there, or -1."""
    column, row = (
        jnp.clip((coords[..., axis] + 0.5) // patch, 0, shape[1 - axis] - 1).astype(jnp.int32)
        for axis in (0, 1)
    )
    place = row * shape[1] + column
    pictures, (count, slots) = len(layers), place.shape
    under = jax.vmap(lambda own, at: own[at])(layers, place.reshape(pictures, -1))
    cosines = jnp.einsum("inld,iqld->iqnl", layers, under)
    cosines = cosines.reshape(count, slots, *cosines.shape[2:])
    return jnp.where(there[..., None, None], cosines, -1.0).max(axis=1)
