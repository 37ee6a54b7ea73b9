"""Everything mode, against the same steps done one prompt at a time on full-size masks."""

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from incontext.everything.crops import make_crops, make_grid, touches_crop
from incontext.everything.generator import AutomaticMaskGenerator
from incontext.everything.nms import suppress
from incontext.everything.proposals import propose
from incontext.everything.regions import fill_holes
from incontext.everything.sweep import Sieve, Sweep
from incontext.files import rle
from incontext.prompts.promptable import Promptable
from seggpt.errors import PromptError

SAM = Path(__file__).parents[2] / "seggpt" / "golden" / "sam"
SIDE = 5
# The weights are random, so thresholds are what some of their masks pass.
LOOSE: dict[str, Any] = {
    "pred_iou_thresh": 0.65,
    "stability_score_thresh": 0.55,
    "stability_score_offset": 0.02,
    # Every mask of random weights spans the picture: with less, one would be left.
    "box_nms_thresh": 1.0,
    "crop_nms_thresh": 1.0,
}
# The first mask of random weights expects less of itself than the others.
LOOSE_BOXES = LOOSE | {"pred_iou_thresh": 0.0, "prompts": "boxes"}
KEYS = {
    *("segmentation", "area", "bbox", "predicted_iou", "point_coords", "stability_score"),
    "crop_box",
}


@pytest.fixture(scope="module")
def model() -> Promptable:
    return Promptable.from_pretrained(SAM)


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (60, 90, 3), np.uint8)


def by_hand(model, picture, *, layers=0, nms=1.0):
    """SAM's own order of steps, with nothing shared, batched or coarse."""
    found = []
    size = picture.shape[:2]
    for crop in make_crops(size, layers=layers, overlap=512 / 1500):
        x0, y0, x1, y1 = crop.box
        state = model.encode(np.ascontiguousarray(picture[y0:y1, x0:x1]))
        mine = []
        for point in make_grid(SIDE) * (x1 - x0, y1 - y0):
            answer = model.predict(state, points=[point])
            for logits, iou in zip(answer.logits()[0], answer.scores[0], strict=True):
                around = (logits > -LOOSE["stability_score_offset"]).sum()
                stability = (logits > LOOSE["stability_score_offset"]).sum() / max(around, 1)
                if iou <= LOOSE["pred_iou_thresh"] or stability < LOOSE["stability_score_thresh"]:
                    continue
                whole = np.zeros(size, bool)
                whole[y0:y1, x0:x1] = logits > 0
                box = rle.bounding_box(whole)
                if not touches_crop(box, crop, size):
                    mine.append((whole, box, float(iou), stability, np.add(point, (x0, y0)), crop))
        mine = pick(mine, [m[2] for m in mine], nms)
        found += mine
    if layers:
        found = pick(found, [1 / np.prod(m[5].size) for m in found], nms)
    return found


def pick(found, scores, nms):
    boxes = np.array([m[1] for m in found], float).reshape(-1, 4)
    return [found[i] for i in suppress(boxes, np.asarray(scores, float), most_iou=nms)]


@pytest.mark.parametrize(
    ("layers", "batch", "nms"), [(0, 64, 1.0), (0, 7, 1.0), (1, 16, 1.0), (1, 16, 0.7)]
)
def test_equals_the_steps_by_hand(model, picture, layers, batch, nms):
    options: dict[str, Any] = LOOSE | {"box_nms_thresh": nms, "crop_nms_thresh": nms}
    generator = AutomaticMaskGenerator(
        model, SIDE, points_per_batch=batch, crop_n_layers=layers, **options
    )
    records = generator.generate(picture)
    wanted = by_hand(model, picture, layers=layers, nms=nms)
    assert len(records) == len(wanted) >= (5 if nms == 1 else 1)
    for record, (mask, box, iou, stability, point, crop) in zip(records, wanted, strict=True):
        assert record.keys() == KEYS
        assert (record["segmentation"] != mask).mean() < 1e-3  # a logit may be 0 but for rounding
        assert record["area"] == record["segmentation"].sum()
        x, y, width, height = record["bbox"]
        np.testing.assert_allclose((x, y, x + width, y + height), box, atol=1)
        assert record["predicted_iou"] == pytest.approx(iou, abs=1e-4)
        assert record["stability_score"] == pytest.approx(stability, abs=2e-3)
        np.testing.assert_allclose(record["point_coords"], [point])
        x0, y0, x1, y1 = crop.box
        assert record["crop_box"] == [x0, y0, x1 - x0, y1 - y0]


@pytest.mark.parametrize(("layers", "batch"), [(0, 64), (1, 6)])
def test_boxes_mode_asks_for_one_mask_of_each_proposal(model, picture, layers, batch):
    generator = AutomaticMaskGenerator(
        model, SIDE, points_per_batch=batch, crop_n_layers=layers, **LOOSE_BOXES
    )
    records = generator.generate(picture)
    assert records
    stability, offset = (LOOSE[f"stability_score_{name}"] for name in ("thresh", "offset"))
    sieve = Sieve(-np.inf, stability, offset)
    size = picture.shape[:2]
    wanted = {}
    for crop in make_crops(size, layers=layers, overlap=512 / 1500):
        x0, y0, x1, y1 = crop.box
        state = model.encode(np.ascontiguousarray(picture[y0:y1, x0:x1]))
        points = make_grid(SIDE // 2) * (x1 - x0, y1 - y0)
        boxes = propose(Sweep(model), state, points, sieve, batch=64, most_iou=1.0)
        assert len(boxes) <= 3 * len(points) < SIDE**2 - len(points)
        for box in boxes:
            answer = model.predict(state, boxes=box, multimask=False)
            whole = np.zeros(size, bool)
            whole[y0:y1, x0:x1] = answer.masks()[0, 0]
            centre = (box[:2] + box[2:]) / 2 + (x0, y0)
            wanted[(*centre.round(2), x0, y0, x1, y1)] = whole, answer.scores[0, 0]
    for record in records:
        assert record.keys() == KEYS
        ((x, y),) = record["point_coords"]
        x0, y0, width, height = record["crop_box"]
        mask, iou = wanted[(round(x, 2), round(y, 2), x0, y0, x0 + width, y0 + height)]
        assert (record["segmentation"] != mask).mean() < 1e-3
        assert record["predicted_iou"] == pytest.approx(iou, abs=1e-4)
        assert record["stability_score"] >= stability


@pytest.mark.parametrize("options", [LOOSE, LOOSE_BOXES], ids=["grid", "boxes"])
def test_records_agree_with_themselves_and_are_the_same_again(model, picture, options):
    generator = AutomaticMaskGenerator(model, SIDE, **options)
    first, again = generator.generate(picture), generator.generate(picture)
    assert len(first) == len(again) > 0
    for record, same in zip(first, again, strict=True):
        mask = record["segmentation"]
        np.testing.assert_array_equal(mask, same["segmentation"])
        assert all(record[key] == same[key] for key in KEYS - {"segmentation"})
        x, y, width, height = record["bbox"]
        assert record["area"] == mask.sum() == mask[y : y + height + 1, x : x + width + 1].sum()


def test_masks_exceed_the_iou_and_reach_the_stability(model, picture):
    """The edge cases of SAM's two thresholds: one is strict, the other is not."""

    def generate(**options: Any) -> list[dict[str, Any]]:
        return AutomaticMaskGenerator(model, SIDE, **{**LOOSE, **options}).generate(picture)

    records = generate()
    least = min(record["predicted_iou"] for record in records)
    assert len(generate(pred_iou_thresh=least)) == len(records) - 1
    least = min(record["stability_score"] for record in records)
    assert len(generate(stability_score_thresh=least)) == len(records)


def test_run_lengths_are_the_masks(model, picture):
    one, two, three = (
        AutomaticMaskGenerator(model, SIDE, output_mode=mode, **LOOSE).generate(picture)
        for mode in ("binary_mask", "uncompressed_rle", "coco_rle")
    )
    assert len(one) == len(two) == len(three)
    for mask, runs, coco in zip(one, two, three, strict=True):
        want = rle.encode(mask["segmentation"])
        assert runs["segmentation"] == want.to_dict()
        assert coco["segmentation"] == want.to_coco()


@pytest.mark.parametrize("options", [LOOSE, LOOSE_BOXES], ids=["grid", "boxes"])
def test_small_regions_are_cleaned(model, picture, options):
    generator = AutomaticMaskGenerator(model, SIDE, min_mask_region_area=30, **options)
    for record in generator.generate(picture):
        mask = record["segmentation"]
        cleaned, filled = fill_holes(mask, min_area=30)
        assert not filled
        np.testing.assert_array_equal(cleaned, mask)


def test_nothing_good_enough_gives_nothing(model, picture):
    assert AutomaticMaskGenerator(model, SIDE, pred_iou_thresh=1e6).generate(picture) == []


def test_own_points_take_the_place_of_the_grid(model, picture):
    points = [np.array([[0.5, 0.5]])]
    options: dict[str, Any] = {**LOOSE, "pred_iou_thresh": 0.0}
    generator = AutomaticMaskGenerator(model, None, point_grids=points, **options)
    for record in generator.generate(picture):
        assert record["point_coords"] == [[45.0, 30.0]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"points_per_side": None}, "points_per_side or point_grids"),
        ({"point_grids": [make_grid(2)]}, "one of them"),
        ({"points_per_batch": 0}, "points_per_batch 0 is no whole number from 1 on"),
        ({"points_per_side": 0}, "points_per_side 0"),
        ({"crop_n_layers": -1}, "crop_n_layers -1 is no whole number from 0 on"),
        ({"points_per_side": None, "point_grids": [make_grid(2)], "crop_n_layers": 1}, "2 layers"),
    ],
)
def test_options_that_make_no_sense(model, options, message):
    with pytest.raises(PromptError, match=message):
        AutomaticMaskGenerator(model, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompts": "dots"}, "prompts 'dots' is unknown; give one of grid, boxes"),
        ({"output_mode": "png"}, "output_mode 'png' is unknown; give one of binary_mask, "),
    ],
)
def test_choices_that_do_not_exist(model, options, message):
    # The checker that the tests put around it would be the first to complain.
    init = inspect.unwrap(AutomaticMaskGenerator.__init__)
    with pytest.raises(PromptError, match=message):
        init(AutomaticMaskGenerator.__new__(AutomaticMaskGenerator), model, **options)
