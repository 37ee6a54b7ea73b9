import dataclasses

import numpy as np
import pytest

from data.folder import open_folders
from data.views.photos import View, ViewsConfig, picture_names, random_view, read_view
from tests.data.drawn import COLOURS, write_drawn_dataset

PLAIN = ViewsConfig(size=42, jitter=0.0, grey=0.0, flip=0.0)


def rng(seed):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("views")
    return open_folders(write_drawn_dataset(root, name="drawn", pictures=9, classes=3))[0]


def ramp(*, marked=1):
    """Return a view whose red tells the column and whose green tells the row, 0..249."""
    rows, columns = np.mgrid[:250, :250].astype(np.uint8)
    image = np.stack([columns, rows, np.zeros_like(rows)], axis=-1)
    classes = np.zeros((250, 250), np.uint8)
    classes[:marked, :marked] = 1
    return View(image, classes, np.zeros_like(classes))


def test_a_picture_is_read_with_its_masks(folder):
    view = read_view(folder, "p00")
    np.testing.assert_array_equal(view.image, folder.image("p00"))
    np.testing.assert_array_equal(view.classes, folder.labels("p00"))
    np.testing.assert_array_equal(view.instances, folder.instance_ids("p00"))


def test_ids_without_meaning_count_as_instances(tmp_path):
    path = write_drawn_dataset(tmp_path, name="r", kind="regions", instances=False)
    [folder] = open_folders(path)
    labels = folder.labels("p01")
    view = read_view(folder, "p01")
    np.testing.assert_array_equal(view.classes, np.where(labels == 255, 255, 0))
    np.testing.assert_array_equal(view.instances, np.where(labels == 255, 0, labels))


def test_the_generator_decides(folder):
    whole = read_view(folder, "p00")
    first, again, other = (random_view(whole, rng(s), config=ViewsConfig()) for s in (3, 3, 4))
    assert first.image.shape == (336, 336, 3)
    for name in ("image", "classes", "instances"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert (first.image != other.image).any()


def test_masks_lie_on_what_they_mark(folder):
    hues = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in COLOURS[:3]])
    for seed in range(12):
        whole = read_view(folder, f"p0{seed % 6}")
        view = random_view(whole, rng(seed), config=dataclasses.replace(PLAIN, flip=0.5))
        for c in set(np.unique(view.classes).tolist()) - {0, 255}:
            pixels = view.image[view.classes == c].astype(float)
            assert np.abs(np.median(pixels, axis=0) - hues[c - 1]).max() < 25
            # An instance is of one class, whatever was cut off.
            ids = np.unique(view.instances[view.classes == c])
            assert len(ids) == 1
            assert ids[0] > 0


def test_flips_turn_pictures_and_masks_alike():
    views = [
        random_view(ramp(marked=250), rng(5), config=dataclasses.replace(PLAIN, flip=f))
        for f in (0.0, 1.0)
    ]
    np.testing.assert_array_equal(views[0].image, views[1].image[:, ::-1])
    np.testing.assert_array_equal(views[0].classes, views[1].classes[:, ::-1])


def test_crops_have_the_area_asked_for():
    shares, ratios = [], []
    for seed in range(60):
        image = random_view(ramp(marked=250), rng(seed), config=PLAIN).image.astype(int)
        width, height = np.ptp(image[..., 0]) / 249, np.ptp(image[..., 1]) / 249
        shares.append(width * height)
        ratios.append(width / height)
    assert 0.17 < min(shares) < 0.35
    assert max(shares) > 0.9
    assert np.exp(-0.45) < min(ratios) < 0.8
    assert 1.25 < max(ratios) < np.exp(0.45)


def test_crops_that_show_something_are_preferred():
    def shown(tries):
        config = dataclasses.replace(PLAIN, tries=tries)
        views = [random_view(ramp(marked=40), rng(s), config=config) for s in range(40)]
        return np.mean([view.classes.any() for view in views])

    assert shown(8) > 0.95 > shown(1)


def test_a_mask_that_shows_nothing_is_no_obstacle():
    assert not random_view(ramp(marked=0), rng(0), config=PLAIN).classes.any()


def test_colours_change_only_if_asked(folder):
    whole = read_view(folder, "p02")
    plain, jittered, grey = (
        random_view(whole, rng(1), config=dataclasses.replace(PLAIN, **change)).image.astype(int)
        for change in ({}, {"jitter": 1.0}, {"grey": 1.0})
    )
    assert np.abs(plain - jittered).mean() > 2
    assert np.ptp(grey, axis=-1).max() == 0
    assert np.ptp(plain, axis=-1).max() > 50


def test_capped_names_are_spread_evenly(folder):
    names = folder.pictures("train")
    assert picture_names(folder, split="train") == names
    assert picture_names(folder, split="train", cap=10) == names
    assert picture_names(folder, split="train", cap=3) == [names[0], names[2], names[5]]
