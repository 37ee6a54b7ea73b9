"""Labels to colours and colours to labels.

Training maps labels to random colours, the same map for every picture of a sample, so that a
colour means nothing but "what the example paints so". Inference uses one fixed palette. Both
directions live here.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int

IGNORE = 255


@dataclass(frozen=True, kw_only=True)
class ColoringConfig:
    """Random colouring: colours are distinct points of a lattice in RGB, each moved a little.

    Two colours of a map, the background's included, differ by at least
    `1 / (levels - 1) - 2 * jitter` in some channel (RGB in 0..1).
    """

    levels: int = 4  # lattice points along each channel: levels**3 colours
    jitter: float = 0.08
    black_background: float = 0.8  # share of maps whose background is exactly black
    fixed_palette: float = 0.3  # share of maps that are the palette of inference

    def __post_init__(self) -> None:
        """Check that colours cannot meet.

        Raises:
            ValueError: if they can.
        """
        if self.min_distance <= 0:
            raise ValueError(f"jitter {self.jitter} lets colours of {self.levels} levels meet")

    @property
    def min_distance(self) -> float:
        """Least difference of two colours of a map, in the channel where they differ most."""
        return 1 / (self.levels - 1) - 2 * self.jitter


def palette(classes: int) -> Float32[np.ndarray, "k 3"]:
    """Return the colours of inference, RGB in 0..1: black, then one for each class.

    The formula is `build_palette` of transformers' SegGPT image processor: one class is white.
    """
    base = int(classes ** (1 / 3)) + 1
    margin = 256 // base
    index = np.arange(classes)
    steps = np.stack([index // base**2, index % base**2 // base, index % base], axis=1)
    colors = np.concatenate([np.zeros((1, 3)), 255 - margin * steps])
    return (colors / 255).astype(np.float32)


def random_colors(key: Array, classes: int, *, config: ColoringConfig) -> Float[Array, "k 3"]:
    """Draw a map for `classes` labels and the background (row 0), RGB in 0..1."""
    key_order, key_jitter, key_black, key_fixed = jax.random.split(key, 4)
    lattice = np.stack(np.meshgrid(*[np.linspace(0, 1, config.levels)] * 3), -1).reshape(-1, 3)
    is_black = jnp.asarray(lattice.sum(axis=1) == 0)
    order = jax.random.uniform(key_order, (len(lattice),))
    black = jax.random.bernoulli(key_black, config.black_background)
    # A black background comes first in the order and is not moved.
    order = jnp.where(is_black & black, -1.0, order)
    colors = jnp.asarray(lattice)[jnp.argsort(order)[: classes + 1]]
    jitter = jax.random.uniform(
        key_jitter, colors.shape, minval=-config.jitter, maxval=config.jitter
    )
    jitter = jitter.at[0].multiply(1.0 - black)
    # Folding at the borders of 0..1 moves a colour by no more than the jitter.
    colors = 1 - jnp.abs(1 - jnp.abs(colors + jitter))
    fixed = jax.random.bernoulli(key_fixed, config.fixed_palette)
    return jnp.where(fixed, palette(classes), colors)


def paint(labels: Int[Array, "*b"], colors: Float[Array, "k 3"]) -> Float[Array, "*b 3"]:
    """Give every label its colour; ignored pixels get the background's."""
    return colors[jnp.where(labels == IGNORE, 0, labels)]


def color_probabilities(
    rgb: Float32[np.ndarray, "h w 3"], colors: Float32[np.ndarray, "k 3"]
) -> Float32[np.ndarray, "k h w"]:
    """Turn painted colours into the probability of each label, background first.

    A label's share falls with the squared distance to its colour, so the nearest colour wins,
    and a pixel halfway between two colours is torn between their labels.
    """
    squares = ((rgb[None] - colors[:, None, None]) ** 2).sum(axis=-1)
    shares = 1 / (squares + 1e-4)
    return (shares / shares.sum(axis=0)).astype(np.float32)
