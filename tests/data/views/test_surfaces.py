import dataclasses

import numpy as np
import pytest
from PIL import Image

from data.views.surfaces import draw_surface, finish, paint_ground, smooth_noise, soften


def rng(seed):
    return np.random.default_rng(seed)


def red(rng):
    return Image.new("RGB", (50, 40), (200, 10, 10))


def test_noise_has_mean_0_and_deviation_1_and_the_width_asked_for():
    fine, coarse = (smooth_noise(rng(0), width, 96) for width in (2.0, 20.0))
    for noise in (fine, coarse):
        assert noise.shape == (96, 96)
        assert abs(noise.mean()) < 1e-5
        assert noise.std() == pytest.approx(1, abs=1e-4)
    assert np.abs(np.diff(coarse)).mean() < np.abs(np.diff(fine)).mean() / 3


def test_contrasts_can_be_seen_on_their_ground():
    for seed in range(50):
        surface = draw_surface(rng(seed), photos=False)
        grain = np.linalg.norm([weight for _, weight in surface.grains]) * surface.depth.mean()
        assert np.abs(surface.contrast).max() > 0.7 * grain
        # There is room for them on a ground near black or white.
        if not 95 < surface.base.mean() < 160:
            assert (surface.contrast.mean() > 0) == (surface.base.mean() < 128)


def test_a_ground_is_a_blurred_photo_or_noise():
    plain = dataclasses.replace(draw_surface(rng(1), photos=False), slope=0.0, grey=False)
    photo = dataclasses.replace(plain, blur_px=3.0)
    ground = paint_ground(photo, rng(2), photo=red, size=32)
    np.testing.assert_allclose(ground.mean(axis=(0, 1)), (200, 10, 10), atol=1)
    noise = paint_ground(plain, rng(2), photo=red, size=64)
    np.testing.assert_allclose(noise.mean(axis=(0, 1)), plain.base, atol=1e-3)
    grey = paint_ground(dataclasses.replace(plain, grey=True), rng(2), photo=red, size=32)
    assert np.ptp(grey, axis=-1).max() == 0


def test_light_falls_off_along_a_slope():
    plain = draw_surface(rng(1), photos=False)
    flat = dataclasses.replace(plain, slope=0.0, depth=np.zeros(3), grey=False)
    ground = paint_ground(dataclasses.replace(flat, slope=0.5), rng(0), photo=red, size=32)
    ratio = ground.max(axis=(0, 1)) / ground.min(axis=(0, 1))
    assert (ratio > 1.4).all()


def test_finished_pictures_are_clipped():
    canvas = np.full((8, 8, 3), 300.0)
    assert (finish(canvas, rng(0), noise=1.0) == 255).all()
    assert soften(np.ones((8, 8), bool), 1.0).shape == (8, 8, 1)
