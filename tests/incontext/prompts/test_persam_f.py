"""The two numbers of PerSAM-F."""

import jax.numpy as jnp
import numpy as np
import pytest

from incontext.prompts.persam import mixing_loss, tune_mixing


@pytest.fixture
def mask() -> np.ndarray:
    mask = np.zeros((12, 16), bool)
    mask[3:9, 4:12] = True
    return mask


def by_hand(weights, logits, mask) -> float:
    mixed = np.tensordot(weights, logits, 1)
    p = 1 / (1 + np.exp(-mixed))
    dice = 1 - (2 * (p * mask).sum() + 1) / (p.sum() + mask.sum() + 1)
    focal = [
        0.25 * (1 - q) ** 2 * -np.log(q) if m else 0.75 * q**2 * -np.log(1 - q)
        for q, m in zip(p.ravel(), mask.ravel(), strict=True)
    ]
    return dice + np.mean(focal)


def test_the_loss_is_dice_and_focal(mask):
    logits = np.random.default_rng(0).normal(size=(3, 12, 16)).astype(np.float32)
    weights = np.array([0.5, 0.2, 0.3], np.float32)
    loss = float(mixing_loss(*map(jnp.asarray, (weights, logits, mask.astype(np.float32)))))
    assert loss == pytest.approx(by_hand(weights, logits, mask), rel=1e-5)


@pytest.mark.parametrize("right", range(3))
def test_the_mask_that_is_like_the_example_s_gains_weight(mask, right):
    logits = np.random.default_rng(1).normal(size=(3, 12, 16)).astype(np.float32)
    logits[right] = np.where(mask, 4.0, -4.0)
    weights = tune_mixing(logits, mask)
    assert weights.sum() == pytest.approx(1.0, abs=1e-6)
    assert weights.argmax() == right
    assert weights[right] > 0.4
    assert by_hand(weights, logits, mask) < by_hand(np.full(3, 1 / 3), logits, mask)
