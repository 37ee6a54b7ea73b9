import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seggpt.palette import (
    IGNORE,
    ColoringConfig,
    color_probabilities,
    paint,
    palette,
    random_colors,
)


def draw(config: ColoringConfig, count: int, classes: int = 4) -> np.ndarray:
    keys = jax.random.split(jax.random.key(0), count)
    return np.asarray(jax.vmap(lambda k: random_colors(k, classes, config=config))(keys))


def pairwise_distance(colors: np.ndarray) -> np.ndarray:
    """The largest channel difference of every pair of colours of every map."""
    gaps = np.abs(colors[:, :, None] - colors[:, None]).max(axis=-1)
    return gaps[:, ~np.eye(colors.shape[1], dtype=bool)]


@pytest.mark.parametrize("levels", [3, 4, 6])
def test_colours_keep_their_distance_from_each_other_and_the_background(levels: int) -> None:
    config = ColoringConfig(levels=levels, jitter=0.05, fixed_palette=0.0)
    colors = draw(config, 500)
    assert colors.min() >= 0
    assert colors.max() <= 1
    assert pairwise_distance(colors).min() >= config.min_distance - 1e-6


def test_shares_of_black_backgrounds_and_of_the_fixed_palette() -> None:
    colors = draw(ColoringConfig(black_background=0.7, fixed_palette=0.0), 2000)
    black = (colors[:, 0] == 0).all(axis=-1).mean()
    assert abs(black - 0.7) < 0.05
    colors = draw(ColoringConfig(fixed_palette=0.4), 2000)
    fixed = (colors == palette(4)).all(axis=(1, 2)).mean()
    assert abs(fixed - 0.4) < 0.05


def test_every_lattice_colour_is_drawn() -> None:
    config = ColoringConfig(levels=3, jitter=0.0, black_background=0.0, fixed_palette=0.0)
    assert len(np.unique(draw(config, 500).reshape(-1, 3), axis=0)) == 27


def test_colours_that_could_meet_are_refused() -> None:
    with pytest.raises(ValueError, match="jitter"):
        ColoringConfig(levels=6, jitter=0.1)


@pytest.mark.parametrize(
    ("classes", "base", "margin"), [(1, 2, 128), (7, 2, 128), (20, 3, 85), (80, 5, 51)]
)
def test_palette_is_the_published_formula(classes: int, base: int, margin: int) -> None:
    colors = (palette(classes) * 255).round().astype(int)
    assert colors[0].tolist() == [0, 0, 0]
    assert colors[1].tolist() == [255, 255, 255]
    k = classes - 1
    want = [255 - margin * (k // base**2), 255 - margin * (k % base**2 // base)]
    assert colors[-1].tolist() == [*want, 255 - margin * (k % base)]
    assert len(np.unique(colors, axis=0)) == classes + 1


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 12), st.integers(0, 2**31))
def test_decoding_undoes_painting(classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes + 1, (5, 7))
    colors = palette(classes)
    painted = paint(jnp.asarray(labels), jnp.asarray(colors))
    probabilities = color_probabilities(np.asarray(painted), colors)
    np.testing.assert_array_equal(probabilities.argmax(axis=0), labels)
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-5)


def test_confidence_is_half_halfway_and_falls_with_distance() -> None:
    colors = palette(1)
    greys = np.linspace(0, 1, 11, dtype=np.float32)
    rgb = np.repeat(greys[None, :, None], 3, axis=2)
    white = color_probabilities(rgb, colors)[1, 0]
    assert abs(white[5] - 0.5) < 1e-5
    assert (np.diff(white) > 0).all()


def test_ignored_pixels_are_painted_as_background() -> None:
    labels = jnp.asarray([0, 1, IGNORE])
    painted = paint(labels, jnp.asarray(palette(1)))
    np.testing.assert_array_equal(painted, [[0, 0, 0], [1, 1, 1], [0, 0, 0]])
