"""The location prior of PerSAM, recomputed pixel by pixel."""

import numpy as np
import pytest

from incontext.prompts.similarity import describe, find_extremes, guide, measure_similarity
from seggpt.frame import Frame

GRID, SIDE, WIDTH = 6, 24, 5


@pytest.fixture
def embedding() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(GRID, GRID, WIDTH)).astype(np.float32)


def bilinear(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize as torch does without align_corners, one pixel after the other."""
    out = np.empty(size)
    for y, x in np.ndindex(size):
        (sy, sx) = (
            (i + 0.5) * n / m - 0.5 for i, n, m in zip((y, x), array.shape, size, strict=True)
        )
        sy, sx = max(sy, 0.0), max(sx, 0.0)
        y0, x0 = int(sy), int(sx)
        y1, x1 = min(y0 + 1, array.shape[0] - 1), min(x0 + 1, array.shape[1] - 1)
        top = array[y0, x0] * (1 - sx + x0) + array[y0, x1] * (sx - x0)
        low = array[y1, x0] * (1 - sx + x0) + array[y1, x1] * (sx - x0)
        out[y, x] = top * (1 - sy + y0) + low * (sy - y0)
    return out


@pytest.mark.parametrize("size", [(24, 24), (30, 20), (11, 40)])
def test_the_points_are_where_the_enlarged_similarity_is_extreme(embedding, size):
    frame = Frame.in_square(size, SIDE)
    feature = np.arange(1.0, 1.0 + WIDTH, dtype=np.float32)
    cosine = np.empty((GRID, GRID))
    for y, x in np.ndindex(GRID, GRID):
        patch = embedding[y, x] / np.linalg.norm(embedding[y, x])
        cosine[y, x] = patch @ (feature / np.linalg.norm(feature))
    similarity = measure_similarity(embedding, feature)
    np.testing.assert_allclose(similarity, cosine, atol=1e-6)
    square = bilinear(bilinear(cosine, (4 * GRID, 4 * GRID)), (SIDE, SIDE))
    height, width = frame.inner
    full = bilinear(square[:height, :width], size)
    (x1, y1), (x0, y0) = find_extremes(similarity, frame)
    assert full[y1, x1] == pytest.approx(full.max(), abs=1e-6)
    assert full[y0, x0] == pytest.approx(full.min(), abs=1e-6)


def test_the_feature_is_of_the_patches_that_are_mostly_covered(embedding):
    mask = np.zeros((24, 24), bool)
    mask[4:12, 4:11] = True  # patches 1 and 2 in both directions; of column 2 three quarters
    mask[12:13] = True  # a quarter of row 3
    inside = embedding[1:3, 1:3].reshape(-1, WIDTH)
    frame = Frame.in_square((24, 24), SIDE)
    mean = describe(embedding, mask, frame, peaks=False)
    np.testing.assert_allclose(mean, inside.mean(axis=0), rtol=1e-5)
    both = describe(embedding, mask, frame, peaks=True)
    np.testing.assert_allclose(both, 0.5 * (mean + inside.max(axis=0)), rtol=1e-5)


def test_a_thing_smaller_than_a_patch_has_the_feature_of_its_patch(embedding):
    mask = np.zeros((240, 240), bool)
    mask[90, 130] = True
    feature = describe(embedding, mask, Frame.in_square((240, 240), SIDE), peaks=False)
    np.testing.assert_array_equal(feature, embedding[2, 3])


def test_guidance_is_the_sigmoid_of_standard_scores_in_the_picture(embedding):
    similarity = embedding[..., 0]
    inner = similarity[:3]  # the picture fills the upper half
    want = 1 / (1 + np.exp(-(similarity - inner.mean()) / inner.std()))
    np.testing.assert_allclose(guide(similarity, Frame.in_square((30, 60), SIDE)), want, rtol=1e-5)


def test_a_picture_of_one_colour_draws_nowhere():
    flat = np.full((GRID, GRID), 0.25, np.float32)
    np.testing.assert_array_equal(guide(flat, Frame.in_square((9, 9), SIDE)), 0.5)
