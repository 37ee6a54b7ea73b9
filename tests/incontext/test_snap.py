"""Coarse masks and the edges of pictures."""

import numpy as np

from incontext.snap import FINE, snap

CELLS = 16


def disc(side, radius):
    rows, cols = np.mgrid[:side, :side] + 0.5
    return np.hypot(rows - side / 2, cols - side / 2) < radius * side


def picture(mask):
    rng = np.random.default_rng(0)
    colors = np.where(mask[..., None], (220, 160, 40), (30, 60, 90))
    return np.clip(colors + rng.normal(0, 8, colors.shape), 0, 255).astype(np.uint8)


def iou(one, other):
    return (one & other).sum() / (one | other).sum()


def test_a_coarse_mask_goes_to_the_edge_of_what_it_marks():
    truth = disc(FINE, 0.3)
    coarse = np.where(disc(CELLS, 0.3), 4.0, -4.0).astype(np.float32)
    blocky = np.asarray(coarse > 0).repeat(FINE // CELLS, 0).repeat(FINE // CELLS, 1)
    snapped = snap(coarse, picture(truth)) > 0
    assert iou(blocky, truth) < 0.95
    assert iou(snapped, truth) > 0.98


def test_where_a_picture_says_nothing_a_mask_stays():
    logits = np.zeros((CELLS, CELLS), np.float32)
    logits[:, : CELLS // 2], logits[:, CELLS // 2 :] = 4, -4
    flat = np.full((50, 80, 3), 128, np.uint8)
    snapped = snap(logits, flat) > 0
    assert snapped[:, : FINE // 2 - 4].all()
    assert not snapped[:, FINE // 2 + 4 :].any()


def test_all_and_nothing_stay_so_on_any_picture():
    noise = np.random.default_rng(1).integers(0, 256, (7, 300, 3), np.uint8)
    for value in (-10.0, 10.0):
        snapped = snap(np.full((CELLS, CELLS), value, np.float32), noise)
        assert snapped.shape == (FINE, FINE)
        assert np.isfinite(snapped).all()
        assert ((snapped > 0) == (value > 0)).all()
