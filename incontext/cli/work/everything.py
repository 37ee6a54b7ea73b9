"""`seggpt everything` at work: load the model once, find all things in picture after picture."""

import argparse
import json
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import incontext
from incontext.cli.attempts import load_job, one_by_one, saved
from incontext.cli.console import Console
from incontext.cli.inputs import check_examples, example_options
from incontext.cli.outcome import Exit
from incontext.cli.plan import Job
from incontext.cli.run import Task, pick_formats, run_all
from incontext.cli.running.pipeline import Model
from incontext.everything.selection import Selection
from incontext.files.atomic import write_whole
from incontext.files.drawing import draw_overlay, save_png
from incontext.files.rle import RunLengths, decode
from incontext.prompts.engine import SAMEngine
from incontext.prompts.promptable import Promptable

logger = logging.getLogger(__name__)

SUFFIXES = {"json": ".json", "overlay": ".overlay.png"}
_COLORS = 254  # of the palette, without the background's and the border's


def sweep_all(args: argparse.Namespace, console: Console) -> Exit:
    """Carry out `seggpt everything`."""
    formats = pick_formats(args, SUFFIXES)
    if args.example:
        check_examples(args, [args.example], formats=formats)

    def begin(_: int) -> Model:
        generator = incontext.AutomaticMaskGenerator.from_pretrained(
            args.model,
            encoder=args.encoder,
            device=args.device,
            points_per_side=args.points_per_side,
            points_per_batch=args.points_per_batch,
            pred_iou_thresh=args.pred_iou_thresh,
            stability_score_thresh=args.stability_score_thresh,
            box_nms_thresh=args.box_nms_thresh,
            crop_n_layers=args.crop_n_layers,
            min_mask_region_area=args.min_mask_region_area,
            output_mode="uncompressed_rle",
            prompts=args.prompts,
        )

        select = _selector(args, generator.model)

        def find(picture: np.ndarray) -> tuple[np.ndarray, list[dict[str, Any]]]:
            return picture, generator.generate(picture, select=select(picture))

        def save(job: Job, found: tuple[np.ndarray, list[dict[str, Any]]]) -> dict[str, Any]:
            picture, records = found
            if not records:
                logger.warning(
                    "%s: nothing found; lower --pred-iou-thresh (%g) or "
                    "--stability-score-thresh (%g)",
                    job.source,
                    *generator.thresholds,
                )
            masks = [_runs(record["segmentation"]) for record in records]
            for name, path in zip(formats, job.outputs, strict=True):
                if name == "overlay":
                    save_png(path, Image.fromarray(_overlay(picture, masks)), compress_level=3)
                else:
                    _write(path, picture, records, masks)
            return {"masks": len(records)}

        fingerprint = generator.model.fingerprint
        return Model(fingerprint, partial(load_job, args), one_by_one(find), saved(save))

    suffixes = [SUFFIXES[name] for name in formats]
    task = Task(suffixes=suffixes, label="finding", begin=begin, protected=args.example or ())
    return run_all(args, console, task)


def _selector(
    args: argparse.Namespace, model: Promptable
) -> Callable[[np.ndarray], Selection | None]:
    """Return what says which things of a picture are meant; None is all of them.

    What an example shows is found by the same weights, or by the shipped ones if those are SAM's.
    """
    given: dict[str, Any] = {}
    if args.point:
        given["points"] = [point[:2] for point in args.point]
        given["labels"] = [point[2] for point in args.point]
    if args.box:
        given["boxes"] = args.box
    if not args.example:
        return lambda _: Selection(**given) if given else None
    own = (
        {}
        if isinstance(model.engine, SAMEngine)
        else {"name_or_path": args.model, "encoder": args.encoder}
    )
    segmenter = incontext.Segmenter.from_pretrained(**own, device=args.device)
    context = segmenter.context([incontext.Example(*args.example, **example_options(args))])
    return lambda picture: Selection(**given, result=segmenter.segment(picture, context))


def _runs(segmentation: dict[str, Any]) -> RunLengths:
    height, width = segmentation["size"]
    return RunLengths((height, width), np.asarray(segmentation["counts"], np.int64))


def _write(
    path: Path, picture: np.ndarray, records: list[dict[str, Any]], masks: list[RunLengths]
) -> None:
    """Write the records with COCO's compressed run lengths."""
    height, width = picture.shape[:2]
    rows = [
        record | {"segmentation": runs.to_coco()}
        for record, runs in zip(records, masks, strict=True)
    ]
    text = json.dumps({"width": width, "height": height, "masks": rows}) + "\n"
    write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))


def _overlay(picture: np.ndarray, masks: list[RunLengths]) -> np.ndarray:
    """Tint every mask, small ones on top of large ones."""
    labels = np.zeros(picture.shape[:2], np.int32)
    order = sorted(range(len(masks)), key=lambda index: -masks[index].area)
    for rank, index in enumerate(order):
        labels[decode(masks[index])] = 1 + rank % _COLORS
    return draw_overlay(picture, labels)
