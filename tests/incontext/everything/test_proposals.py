"""Proposed boxes, on a model that knows what it sees: each thing has a shade of its own."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from incontext.everything.generator import AutomaticMaskGenerator
from incontext.everything.proposals import box_prompts, point_prompts, propose
from incontext.everything.sweep import Sieve, Sweep
from incontext.examples.encoded import load_source
from incontext.prompts.promptable import EncodedImage, Promptable
from seggpt.frame import Frame
from seggpt.prompts import FIRST_CORNER, FOREGROUND, PADDING, SECOND_CORNER

GRID, PATCH = 32, 4
SIDE = GRID * PATCH
# x0, y0, x1, y1 in pixels of the square
THINGS = [(8, 8, 48, 40), (60, 4, 120, 28), (16, 60, 36, 116), (44, 52, 84, 88), (92, 40, 124, 92)]
SIEVE = Sieve(0.88, 0.95, 1.0)
OPTIONS: dict[str, Any] = {"points_per_side": 16, "points_per_batch": 24}


class Knower:
    """Answers any prompt with the thing at its middle, sure of things and not of what is none."""

    params, cell, patch, fingerprint = {}, 4, PATCH, "knower"
    thresholds = (0.88, 0.95)
    device = jax.devices("cpu")[0]

    def check(self, prompts):
        raise NotImplementedError

    def encode(self, source):
        raise NotImplementedError

    def patches(self, embedding):
        raise NotImplementedError

    def look(self, params, embedding, coords, labels):
        del params
        first, second = coords[:, 0], coords[:, 1]
        boxed = (labels[:, 1] == SECOND_CORNER)[:, None]
        col, row = jnp.moveaxis(jnp.where(boxed, (first + second) / 2, first) // PATCH, -1, 0)
        return embedding[0, row.astype(int), col.astype(int), 0]

    def scores(self, params, found):
        del params
        return jnp.where(found > 0, 0.9 + found / 1000, 0.2)[:, None].repeat(4, axis=1)

    def draw(self, params, embedding, found, *, part):
        del params
        rows, cols = part
        logits = jnp.where(embedding[..., :rows, :cols, 0] == found[:, None, None], 9.0, -9.0)
        fine = logits.repeat(4, axis=1).repeat(4, axis=2)
        return fine[:, None].repeat(4, axis=1)


class Model(Promptable):
    """A `Promptable` around `Knower`, which has no weights."""

    def __init__(self) -> None:
        self.engine: Any = Knower()

    def encode(self, image, **options):
        picture = load_source(image)
        frame = Frame.in_square(picture.shape[:2], SIDE)
        centres = (np.arange(GRID) + 0.5) * PATCH
        rows, cols = (
            np.minimum(centres * extent / inner, extent - 1).astype(int)
            for extent, inner in zip(frame.size, frame.inner, strict=True)
        )
        shades = picture[rows][:, cols, :1].astype(np.float32)
        shades[centres >= frame.inner[0]] = shades[:, centres >= frame.inner[1]] = 0
        return EncodedImage(jnp.asarray(shades)[None], frame, "knower", 4, PATCH)


@pytest.fixture(scope="module")
def model() -> Promptable:
    return Model()


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return paint(THINGS, (SIDE, SIDE))


def paint(things, size):
    picture = np.zeros((*size, 3), np.uint8)
    for shade, (x0, y0, x1, y1) in enumerate(things, 1):
        picture[y0:y1, x0:x1] = shade
    return picture


def count_prompts(monkeypatch):
    """Return a list that grows by the number of prompts whenever some are asked."""
    asked = []
    coarse = Sweep.coarse

    def counting(self, state, prompts, *args, **options):
        asked.append(len(prompts.labels))
        return coarse(self, state, prompts, *args, **options)

    monkeypatch.setattr(Sweep, "coarse", counting)
    return asked


def as_set(records):
    return {record["segmentation"].tobytes() for record in records}


def test_boxes_find_what_the_grid_finds_with_fewer_prompts(model, picture, monkeypatch):
    asked = count_prompts(monkeypatch)
    grid = AutomaticMaskGenerator(model, **OPTIONS).generate(picture)
    assert sum(asked) == 256
    asked.clear()
    boxes = AutomaticMaskGenerator(model, prompts="boxes", **OPTIONS).generate(picture)
    assert asked == [64, len(THINGS)]
    assert len(boxes) == len(grid) == len(THINGS)
    assert as_set(boxes) == as_set(grid)
    for record in boxes:
        x, y, width, height = record["bbox"]
        (point,) = record["point_coords"]
        np.testing.assert_allclose(point, (x + (width + 1) / 2, y + (height + 1) / 2), atol=1)


@pytest.mark.parametrize("size", [(SIDE, SIDE), (96, 128), (64, 40), (300, 400)])
def test_they_hold_what_was_found_in_pixels_of_the_picture(model, size):
    scale = max(size) / SIDE
    inside = [(8, 8, 40, 32), (12, 44, 32, 60)]
    things = [tuple(int(side * scale * 0.6) for side in thing) for thing in inside]
    state = model.encode(paint(things, size))
    points = np.stack(np.meshgrid(np.arange(3, size[1], 5.0), np.arange(3, size[0], 5.0)), -1)
    found = propose(
        Sweep(model), state, points.reshape(-1, 2), SIEVE, batch=64, most_iou=0.7
    ).tolist()
    # The last thing has the highest score.
    np.testing.assert_allclose(found, things[::-1], atol=scale * PATCH)
    height, width = size
    for x0, y0, x1, y1 in found:
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height


@pytest.mark.parametrize("batch", [1, 6, 25, 1000])
def test_the_batch_changes_nothing(model, picture, batch):
    sweep, state = Sweep(model), model.encode(picture)
    points = np.random.default_rng(0).uniform(0, SIDE, (30, 2))
    found, alone = (
        propose(sweep, state, points, SIEVE, batch=size, most_iou=0.7) for size in (batch, 30)
    )
    np.testing.assert_array_equal(found, alone)


@pytest.mark.parametrize("points", [np.zeros((0, 2)), np.array([[2.0, 2.0]])])
def test_points_on_nothing_propose_nothing(model, picture, points):
    found = propose(Sweep(model), model.encode(picture), points, SIEVE, batch=8, most_iou=0.7)
    assert found.shape == (0, 4)


def test_no_proposals_give_no_masks(model):
    generator = AutomaticMaskGenerator(model, prompts="boxes", **OPTIONS)
    assert generator.generate(np.zeros((SIDE, SIDE, 3), np.uint8)) == []


@pytest.mark.parametrize("most_iou", [0.7, 1.0])
def test_a_thing_is_proposed_once_however_many_points_meet_it(model, picture, most_iou):
    x0, y0, x1, y1 = THINGS[0]
    points = np.random.default_rng(1).uniform((x0, y0), (x1, y1), (20, 2))
    state = model.encode(picture)
    found = propose(Sweep(model), state, points, SIEVE, batch=8, most_iou=most_iou)
    np.testing.assert_allclose(found, [THINGS[0]])


def test_crops_find_what_is_too_small_for_the_whole(model):
    """One point of the crops' grids meets it, none of the whole picture's."""
    thing = (51, 51, 60, 60)
    picture = paint([thing], (SIDE, SIDE))
    options: dict[str, Any] = {"points_per_side": 8, "prompts": "boxes"}
    assert AutomaticMaskGenerator(model, **options).generate(picture) == []
    (record,) = AutomaticMaskGenerator(model, crop_n_layers=1, **options).generate(picture)
    x, y, width, height = record["bbox"]
    np.testing.assert_allclose((x, y, x + width + 1, y + height + 1), thing, atol=4)


def test_prompts_hold_points_and_boxes_and_nothing_else():
    frame = Frame.in_square((50, 100), 200)
    slots = point_prompts(np.array([[10.0, 20.0], [0.0, 5.0]]), frame)
    assert slots.labels.tolist() == [[FOREGROUND, PADDING]] * 2
    np.testing.assert_allclose(slots.coords[:, 0], [[20, 40], [0, 10]])
    slots = box_prompts(np.array([[10.0, 20.0, 30.0, 40.0]]), frame)
    assert slots.labels.tolist() == [[FIRST_CORNER, SECOND_CORNER]]
    np.testing.assert_allclose(slots.coords, [[[20, 40], [60, 80]]])
    assert box_prompts(np.zeros((0, 4)), frame).labels.shape == (0, 2)
