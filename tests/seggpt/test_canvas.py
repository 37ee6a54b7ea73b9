import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seggpt.canvas import denormalize, from_patches, normalize, to_patches
from seggpt.resize import bicubic_resize, linear_resize, smooth_resize


def test_patches_round_trip_and_are_row_column_channel() -> None:
    image = jnp.arange(2 * 6 * 4 * 3.0).reshape(2, 6, 4, 3)
    patches = to_patches(image, 2)
    assert patches.shape == (2, 6, 12)
    np.testing.assert_array_equal(patches[0, 1], image[0, :2, 2:4].reshape(-1))
    np.testing.assert_array_equal(from_patches(patches, 2, shape=(3, 2)), image)


def test_normalisation_round_trips_and_knows_imagenet() -> None:
    rgb = jax.random.uniform(jax.random.key(0), (4, 3))
    np.testing.assert_allclose(denormalize(normalize(rgb)), rgb, atol=1e-6)
    np.testing.assert_allclose(normalize(jnp.asarray([[0.485, 0.456, 0.406]])), 0, atol=1e-6)
    np.testing.assert_allclose(normalize(jnp.ones((1, 3)))[0, 0], (1 - 0.485) / 0.229, rtol=1e-5)


def test_resizing_to_the_same_size_does_nothing() -> None:
    table = jax.random.normal(jax.random.key(0), (5, 4, 2))
    assert bicubic_resize(table, (5, 4)) is table
    assert linear_resize(table[0], 4) is not None
    np.testing.assert_array_equal(linear_resize(table[0], 4), table[0])


def test_resizing_keeps_constants_and_linear_ramps_inside() -> None:
    ones = jnp.ones((4, 4, 1))
    np.testing.assert_allclose(bicubic_resize(ones, (9, 7)), 1, atol=1e-6)
    ramp = jnp.arange(8.0)[:, None]
    doubled = linear_resize(ramp, 16)[:, 0]
    np.testing.assert_allclose(doubled[1:-1], np.arange(16)[1:-1] / 2 - 0.25, atol=1e-6)


@pytest.mark.torch
@pytest.mark.parametrize(("old", "new"), [((14, 14), (56, 28)), ((6, 5), (3, 4))])
def test_resizing_equals_torch(old: tuple[int, int], new: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch")
    table = np.random.default_rng(0).normal(size=(*old, 3)).astype(np.float32)
    grid = torch.tensor(table).permute(2, 0, 1)[None]
    want = torch.nn.functional.interpolate(grid, size=new, mode="bicubic", align_corners=False)
    got = bicubic_resize(jnp.asarray(table), new)
    np.testing.assert_allclose(got, want[0].permute(1, 2, 0), atol=1e-5)
    row = torch.nn.functional.interpolate(grid[:, :, 0], size=new[1] + 4, mode="linear")
    np.testing.assert_allclose(
        linear_resize(jnp.asarray(table[0]), new[1] + 4), row[0].T, atol=1e-5
    )


@pytest.mark.torch
@pytest.mark.parametrize("new", [(3, 4), (6, 9), (14, 4)])
def test_smooth_resizing_equals_torch(new: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch")
    table = np.random.default_rng(0).normal(size=(6, 7, 3)).astype(np.float32)
    grid = torch.tensor(table).permute(2, 0, 1)[None]
    want = torch.nn.functional.interpolate(
        grid, size=new, mode="bicubic", align_corners=False, antialias=True
    )
    got = smooth_resize(jnp.asarray(table), new)
    np.testing.assert_allclose(got, want[0].permute(1, 2, 0), atol=1e-5)
