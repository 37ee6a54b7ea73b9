"""DAVIS's measures of masks over a clip: region similarity J, contour accuracy F, and their mean.

J is the IoU of a thing's mask, and 1 where neither mask has anything. F is the F-measure of
contour pixels that lie within 0.8 % of the frame's diagonal of the other contour (Perazzi et al.
2016). The first frame, whose mask is given, and the last one do not count (both editions).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Integer
from scipy.ndimage import distance_transform_edt

TOLERANCE = 0.008  # of the diagonal, between contours that agree
RECALLED = 0.5  # J or F above which a frame counts for recall


@dataclass(frozen=True)
class ClipScores:
    """What each thing of a clip reached in each frame that counts."""

    region: Float[np.ndarray, "things t"]
    contour: Float[np.ndarray, "things t"]

    @property
    def means(self) -> tuple[float, float, float]:
        """J&F, J and F in percent: means over frames, then over things."""
        j, f = (100 * float(table.mean()) for table in (self.region, self.contour))
        return (j + f) / 2, j, f

    @property
    def recalls(self) -> tuple[float, float]:
        """The share of frames in percent in which J, and in which F, is above a half."""
        return (
            100 * float((self.region > RECALLED).mean()),
            100 * float((self.contour > RECALLED).mean()),
        )


def score_clip(
    found: Iterable[Integer[np.ndarray, "h w"]],
    truth: Sequence[Integer[np.ndarray, "h w"]],
    *,
    one_thing: bool = False,
) -> ClipScores:
    """Compare label maps, a frame after the other.

    Args:
        found: As many as `truth`.
        truth: The label maps of all frames; the labels of the first one are scored (255 is
            ignored, as in 2017's edition).
        one_thing: All labels are one thing, as in 2016's edition.

    Raises:
        ValueError: if there are no labels, or fewer than three frames.
    """
    labels = sorted({int(label) for label in np.unique(truth[0])} - {0, 255})
    if not labels or len(truth) < 3:
        raise ValueError("a clip to score has three frames or more, and things in the first one")
    rows = []
    for number, (guess, right) in enumerate(zip(found, truth, strict=True)):
        if not 0 < number < len(truth) - 1:
            continue
        known = right != 255
        pairs = (
            [(guess > 0, right > 0)]
            if one_thing
            else [(guess == label, right == label) for label in labels]
        )
        rows.append([
            (region_similarity(a & known, b & known), contour_accuracy(a & known, b & known))
            for a, b in pairs
        ])  # fmt: skip
    table = np.asarray(rows)
    return ClipScores(table[..., 0].T, table[..., 1].T)


def region_similarity(mask: Bool[np.ndarray, "h w"], truth: Bool[np.ndarray, "h w"]) -> float:
    """Return the IoU of two masks; 1 if both are empty."""
    union = np.count_nonzero(mask | truth)
    return np.count_nonzero(mask & truth) / union if union else 1.0


def contour_accuracy(
    mask: Bool[np.ndarray, "h w"], truth: Bool[np.ndarray, "h w"], *, tolerance: float = TOLERANCE
) -> float:
    """Return the F-measure of two masks' contours; 1 if both are empty, 0 if one is."""
    radius = np.ceil(tolerance * np.hypot(*mask.shape))
    edges = contour(mask), contour(truth)
    if not (edges[0].any() and edges[1].any()):
        return float(edges[0].any() == edges[1].any())
    near = [distance_transform_edt(~edge) <= radius for edge in edges]
    precision = np.count_nonzero(edges[0] & near[1]) / np.count_nonzero(edges[0])
    recall = np.count_nonzero(edges[1] & near[0]) / np.count_nonzero(edges[1])
    return 2 * precision * recall / max(precision + recall, 1e-12)


def contour(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Return the pixels that differ from their neighbour to the right, below or both.

    Outside the frame is what is at its border: a thing that is cut by it has no contour there.
    """
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    right, below, across = padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    return (mask != right) | (mask != below) | (mask != across)
