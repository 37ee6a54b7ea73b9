"""Suppression, against the plain quadratic loop."""

import numpy as np
import pytest

from incontext.everything.nms import suppress


def plain(boxes, scores, most_iou):
    kept = []
    for index in np.argsort(-scores, kind="stable"):
        overlaps = []
        for other in kept:
            low = np.maximum(boxes[index, :2], boxes[other, :2])
            high = np.minimum(boxes[index, 2:], boxes[other, 2:])
            shared = np.prod(np.maximum(high - low, 0))
            areas = [np.prod(box[2:] - box[:2]) for box in (boxes[index], boxes[other])]
            union = sum(areas) - shared
            overlaps.append(union > 0 and shared / union > most_iou)
        if not any(overlaps):
            kept.append(index)
    return kept


@pytest.mark.parametrize("count", [1, 5, 64, 150])
def test_equals_the_plain_loop(count):
    rng = np.random.default_rng(count)
    corners = rng.integers(0, 30, (count, 2))
    boxes = np.concatenate([corners, corners + rng.integers(0, 15, (count, 2))], axis=1)
    scores = rng.random(count).round(1)  # with ties
    kept = suppress(boxes.astype(float), scores, most_iou=0.4)
    assert kept.tolist() == plain(boxes, scores, 0.4)


def test_nothing_gives_nothing():
    assert suppress(np.zeros((0, 4)), np.zeros(0), most_iou=0.5).tolist() == []
