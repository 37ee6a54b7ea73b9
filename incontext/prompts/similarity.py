"""Feature similarity for PerSAM: target feature, similarity map, extreme points, guidance."""

import numpy as np
from jaxtyping import Bool, Float32
from PIL import Image

from seggpt.frame import Frame
from seggpt.resize import bilinear_matrix

COVERED = 0.5  # share of a patch that a mask must exceed for the patch to show the thing


def describe(
    embedding: Float32[np.ndarray, "gh gw d"],
    mask: Bool[np.ndarray, "h w"],
    frame: Frame,
    *,
    peaks: bool,
) -> Float32[np.ndarray, " d"]:
    """Return the mean feature of the patches that a mask covers; with `peaks`, half of it maxima.

    Of a thing smaller than any patch it is that of the patches it covers most.
    """
    shares = _coverage(mask, frame, embedding.shape[:2])
    inside = embedding[(shares > COVERED) | (shares == shares.max())]
    mean = inside.mean(axis=0)
    return 0.5 * (mean + inside.max(axis=0)) if peaks else mean


def measure_similarity(
    embedding: Float32[np.ndarray, "gh gw d"], feature: Float32[np.ndarray, " d"]
) -> Float32[np.ndarray, "gh gw"]:
    """Return the cosine between each patch and a feature."""
    norms = np.linalg.norm(embedding, axis=-1) * np.linalg.norm(feature)
    return embedding @ feature / np.maximum(norms, np.finfo(np.float32).tiny)


def find_extremes(
    similarity: Float32[np.ndarray, "gh gw"], frame: Frame
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the pixels (x, y) of the picture that look most and least like the thing.

    Patches become pixels by the resizing of masks: fourfold first, then as the decoder's masks.
    """
    gh, gw = similarity.shape
    rows, cols = frame.upsampling((4 * gh, 4 * gw))
    down, across = rows @ bilinear_matrix(gh, 4 * gh), cols @ bilinear_matrix(gw, 4 * gw)
    full = (down.astype(np.float32) @ similarity) @ across.astype(np.float32).T
    (y1, x1), (y0, x0) = (np.unravel_index(i, full.shape) for i in (full.argmax(), full.argmin()))
    return (int(x1), int(y1)), (int(x0), int(y0))


def guide(similarity: Float32[np.ndarray, "gh gw"], frame: Frame) -> Float32[np.ndarray, "gh gw"]:
    """Return what attention is drawn by: the sigmoid of standard deviations above the mean.

    Both are those of the patches that the picture fills. The authors take them at the picture's
    size and stretch it to the square; here every patch keeps its place.
    """
    rows, cols = (
        -(-extent * count // outer)
        for extent, count, outer in zip(frame.inner, similarity.shape, frame.outer, strict=True)
    )
    inner = similarity[:rows, :cols]
    standard = (similarity - inner.mean()) / max(float(inner.std()), 1e-12)
    return (0.5 * (1 + np.tanh(0.5 * standard))).astype(np.float32)


def _coverage(
    mask: Bool[np.ndarray, "h w"], frame: Frame, grid: tuple[int, ...]
) -> Float32[np.ndarray, "gh gw"]:
    """Return which share of each patch a mask covers."""
    height, width = frame.inner
    resized = Image.fromarray(mask.astype(np.float32)).resize(
        (width, height), Image.Resampling.BILINEAR
    )
    seen = np.zeros(frame.outer, np.float32)
    seen[:height, :width] = np.asarray(resized)
    (rows, cols), (gh, gw) = frame.outer, grid
    return seen.reshape(gh, rows // gh, gw, cols // gw).mean(axis=(1, 3))
