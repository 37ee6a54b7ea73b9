"""Everything mode: masks of all things in a picture, from grids of points or proposed boxes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, Unpack

import numpy as np
from jaxtyping import Float, UInt8

from incontext.everything.crops import Box, Crop, make_crops, make_grids, touches_crop
from incontext.everything.nms import suppress
from incontext.everything.proposals import box_prompts, point_prompts, propose
from incontext.everything.regions import drop_islands, fill_holes
from incontext.everything.selection import Selection
from incontext.everything.sweep import Found, Sieve, Sweep
from incontext.files import rle
from incontext.files.images import ImageSource, PictureOptions, load_image
from incontext.options import PromptMode, check_choice
from incontext.prompts.promptable import EncodedImage, OnPromptable, Promptable
from seggpt.errors import PromptError

OutputMode = Literal["binary_mask", "uncompressed_rle", "coco_rle"]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Record:
    """One mask, compact; boxes are x0, y0, x1, y1 with the last pixel inside."""

    runs: rle.RunLengths
    box: Box
    iou: float
    stability: float
    point: tuple[float, float]
    crop: Crop


class AutomaticMaskGenerator(OnPromptable):
    """Finds all things in a picture; `segment_anything.SamAutomaticMaskGenerator` by its names.

    It never changes, so threads may share it. Masks are kept as run lengths, so memory grows with
    what is found, not with points times pixels.

    Args:
        model: Loaded with `Promptable.from_pretrained`, or a `Predictor`'s `model`.
        points_per_side: Points along a side of the grid; None for `point_grids`.
        points_per_batch: Prompts decoded at a time.
        pred_iou_thresh: Masks must exceed it in predicted IoU. Without it, it is what suits the
            weights: 0.88 for SAM's, as published.
        stability_score_thresh: Masks must reach it in stability: the share of their pixels that
            stay when the edge moves by `stability_score_offset` logits either way. Without it, it
            is what suits the weights: 0.95 for SAM's.
        stability_score_offset: See above.
        box_nms_thresh: Of two masks of a crop whose boxes overlap by more, one is dropped.
        crop_n_layers: Layer i also looks at 2^i by 2^i crops.
        crop_nms_thresh: As `box_nms_thresh`, between crops; smaller crops win.
        crop_overlap_ratio: What neighbouring crops share of the picture's shorter side.
        crop_n_points_downscale_factor: How many times fewer points a side each layer has.
        point_grids: Points (x, y) in 0..1 for each layer, in place of `points_per_side`.
        min_mask_region_area: Fill holes and drop islands of fewer pixels.
        output_mode: How `generate` gives masks.
        prompts: "grid" asks at every point for three masks. "boxes" asks at the points of a grid
            with half of them a side (or at `point_grids`), keeps the boxes of what that shows
            coarsely, and asks for one mask of each box: mostly far fewer prompts, and from two
            points a side on never more. What no sparse point meets is not found.

    Raises:
        PromptError: An argument makes no sense.
    """

    def __init__(
        self,
        model: Promptable,
        points_per_side: int | None = 32,
        points_per_batch: int = 64,
        pred_iou_thresh: float | None = None,
        stability_score_thresh: float | None = None,
        stability_score_offset: float = 1.0,
        box_nms_thresh: float = 0.7,
        crop_n_layers: int = 0,
        crop_nms_thresh: float = 0.7,
        crop_overlap_ratio: float = 512 / 1500,
        crop_n_points_downscale_factor: int = 1,
        point_grids: Sequence[Float[np.ndarray, "_ 2"]] | None = None,
        min_mask_region_area: int = 0,
        output_mode: OutputMode = "binary_mask",
        prompts: PromptMode = "grid",
    ) -> None:
        if (points_per_side is None) == (point_grids is None):
            raise PromptError("give points_per_side or point_grids, one of them")
        check_choice("output_mode", output_mode, OutputMode)
        check_choice("prompts", prompts, PromptMode)
        for name, value, least in (
            ("points_per_side", 1 if points_per_side is None else points_per_side, 1),
            ("points_per_batch", points_per_batch, 1),
            ("crop_n_layers", crop_n_layers, 0),
            ("crop_n_points_downscale_factor", crop_n_points_downscale_factor, 1),
        ):
            if not isinstance(value, int) or value < least:
                raise PromptError(f"{name} {value!r} is no whole number from {least} on")
        if point_grids is None:
            side = points_per_side or 1
            if prompts == "boxes":
                side = max(1, side // 2)
            point_grids = make_grids(
                side, layers=crop_n_layers, factor=crop_n_points_downscale_factor
            )
        if len(point_grids) <= crop_n_layers:
            raise PromptError(f"{len(point_grids)} point_grids for {crop_n_layers + 1} layers")
        self.model = model
        self._grids = [np.asarray(grid, np.float64) for grid in point_grids]
        self._batch = points_per_batch
        iou, stability = model.engine.thresholds
        iou = iou if pred_iou_thresh is None else pred_iou_thresh
        stability = stability if stability_score_thresh is None else stability_score_thresh
        # SAM's rule: a threshold of 0 keeps even those that are predicted to be below it.
        self._sieve = Sieve(iou if iou > 0 else -np.inf, stability, stability_score_offset)
        self._box_nms, self._crop_nms = box_nms_thresh, crop_nms_thresh
        self._layers, self._overlap = crop_n_layers, crop_overlap_ratio
        self._min_area = min_mask_region_area
        self._output_mode: OutputMode = output_mode
        self._prompts: PromptMode = prompts
        self._sweep = Sweep(model)

    @property
    def thresholds(self) -> tuple[float, float]:
        """The predicted IoU that masks must exceed, and the stability that they must reach."""
        return self._sieve.iou, self._sieve.stability

    def generate(
        self,
        image: ImageSource,
        *,
        select: Selection | None = None,
        **options: Unpack[PictureOptions],
    ) -> list[dict[str, Any]]:
        """Find all things, or those that are selected; one dictionary a mask, with SAM's keys.

        `segmentation` as `output_mode` says, `area` in pixels, `bbox` and `crop_box` as x, y,
        width, height (SAM's boxes end at the last pixel, so they are a pixel smaller than
        COCO's), `predicted_iou`, `stability_score`, and `point_coords`, the point asked, or the
        centre of the box asked, which need not be in the mask. `options` are those of
        `incontext.files.images.load_image`: max_pixels, alpha, bands.

        Raises:
            InputError: if the picture cannot be used.
            PromptError: if what is to be selected makes no sense.
        """
        picture = load_image(image, **options)
        size = picture.shape[:2]
        if select is not None:
            select.pick([], size)  # a mistake must not wait for the sweep
        records: list[_Record] = []
        crops = make_crops(size, layers=self._layers, overlap=self._overlap)
        for crop in crops:
            records += self._look_at(picture, crop)
        if len(crops) > 1:
            scores = [1.0 / (r.crop.size[0] * r.crop.size[1]) for r in records]
            records = _best(records, scores, self._crop_nms)
        if self._min_area > 0:
            records = self._clean(records)
        if select is not None:
            masks = [rle.decode(record.runs) for record in records]
            records = [records[index] for index in select.pick(masks, size)]
        return [self._describe(record) for record in records]

    def _look_at(self, picture: UInt8[np.ndarray, "h w 3"], crop: Crop) -> list[_Record]:
        """Return what one crop shows whole, best first."""
        size = picture.shape[:2]
        x0, y0, x1, y1 = crop.box
        state = self.model.encode(np.ascontiguousarray(picture[y0:y1, x0:x1]))
        records = []
        for found, (x, y) in self._ask(state, crop, size):
            left, top, right, bottom = rle.bounding_box(found.mask)
            box = (left + x0, top + y0, right + x0, bottom + y0)
            if touches_crop(box, crop, size):
                continue
            records.append(
                _Record(
                    runs=rle.encode(found.mask, origin=(x0, y0), size=size),
                    box=box,
                    iou=found.iou,
                    stability=found.stability,
                    point=(float(x + x0), float(y + y0)),
                    crop=crop,
                )
            )
        return _best(records, [record.iou for record in records], self._box_nms)

    def _ask(
        self, state: EncodedImage, crop: Crop, size: tuple[int, int]
    ) -> Iterator[tuple[Found, Float[np.ndarray, " 2"]]]:
        """Yield what is found in a crop, each with the point (x, y) of the crop that it is of."""
        height, width = crop.size
        points = self._grids[crop.layer] * (width, height)
        run = partial(self._sweep.run, state, sieve=self._sieve, batch=self._batch)
        if self._prompts == "grid":
            for found in run(point_prompts(points, state.frame), multimask=True):
                yield found, points[found.prompt]
            return
        boxes = propose(
            self._sweep, state, points, self._sieve, batch=self._batch, most_iou=self._box_nms
        )
        x0, y0, _, _ = crop.box
        whole = [
            not touches_crop((left + x0, top + y0, right + x0, bottom + y0), crop, size)
            for left, top, right, bottom in boxes.round().astype(int).tolist()
        ]
        boxes = boxes[np.array(whole, bool)]
        for found in run(box_prompts(boxes, state.frame), multimask=False):
            yield found, boxes[found.prompt].reshape(2, 2).mean(axis=0)

    def _clean(self, records: list[_Record]) -> list[_Record]:
        """Fill holes and drop islands; of what then looks alike, untouched masks win."""
        cleaned, scores = [], []
        for record in records:
            mask, filled = fill_holes(rle.decode(record.runs), min_area=self._min_area)
            mask, dropped = drop_islands(mask, min_area=self._min_area)
            if filled or dropped:
                record = replace(record, runs=rle.encode(mask), box=rle.bounding_box(mask))
            cleaned.append(record)
            scores.append(0.0 if filled or dropped else 1.0)
        return _best(cleaned, scores, max(self._box_nms, self._crop_nms))

    def _describe(self, record: _Record) -> dict[str, Any]:
        segmentations = {
            "binary_mask": rle.decode,
            "uncompressed_rle": rle.RunLengths.to_dict,
            "coco_rle": rle.RunLengths.to_coco,
        }
        return {
            "segmentation": segmentations[self._output_mode](record.runs),
            "area": record.runs.area,
            "bbox": _xywh(record.box),
            "predicted_iou": record.iou,
            "point_coords": [list(record.point)],
            "stability_score": record.stability,
            "crop_box": _xywh(record.crop.box),
        }


def _best(records: list[_Record], scores: Sequence[float], most_iou: float) -> list[_Record]:
    boxes = np.array([record.box for record in records], np.float64).reshape(-1, 4)
    return [records[index] for index in suppress(boxes, np.asarray(scores), most_iou=most_iou)]


def _xywh(box: Box) -> list[int]:
    x0, y0, x1, y1 = box
    return [x0, y0, x1 - x0, y1 - y0]
