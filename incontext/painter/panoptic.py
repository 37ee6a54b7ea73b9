"""Panoptic segmentation: painted instances named and completed by a painted semantic map.

Source: Painter/eval/coco_panoptic/COCOPanoEvaluatorCustom.py, whose merge is panopticapi's.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int16, Int32, Integer, UInt8

from incontext.painter.instances import Instances, decode_instances
from incontext.painter.levels import Painted
from incontext.painter.semantic import COCO_COLORS, semantic_distances
from seggpt.errors import InputError

_THINGS = 80  # COCO's thing categories come first


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One segment of a panoptic map; stuff has no score."""

    id: int
    label: int
    is_thing: bool
    area_px: int
    score: float | None


@dataclass(frozen=True, eq=False)
class Panoptic:
    """A map of segment ids (0: none) and what they are, in the order of their ids."""

    ids: Int32[np.ndarray, "h w"]
    segments: tuple[Segment, ...]


def classify_instances(
    masks: Bool[np.ndarray, "n h w"],
    distances: Int16[np.ndarray, "h w k"],
    *,
    things: int = _THINGS,
) -> Int32[np.ndarray, " n"]:
    """Name each mask by the thing class (0..things-1) whose colour is nearest over all its pixels.

    The reference takes the greatest sum of 1 - distance / greatest distance over the mask, which is
    the least sum of distances; an empty mask gets class 0.

    Raises:
        InputError: There are fewer classes than things.
    """
    if not 1 <= things <= distances.shape[-1]:
        raise InputError(f"things is {things}; distances has 1..{distances.shape[-1]} to choose")
    near = distances[..., :things]
    classes = [near[mask].sum(axis=0, dtype=np.int64).argmin() for mask in masks]
    return np.array(classes, np.int32)


def merge_panoptic(
    instances: Instances,
    semantic: Integer[np.ndarray, "h w"],
    *,
    classes: Integer[np.ndarray, " n"],
    things: int = _THINGS,
    min_score: float = 0.55,
    max_overlap: float = 0.5,
    min_stuff_px: int = 8192,
) -> Panoptic:
    """Lay down instances from the best score on, then stuff where nothing lies.

    An instance is left out if its score is below `min_score` or if more than `max_overlap` of it is
    taken; else it gets what is free. Stuff (labels from `things` on, in their order) needs
    `min_stuff_px` free pixels, in the size of the original picture. The defaults are the
    reference's. Free pixels that the semantic map calls a thing stay 0.

    Raises:
        InputError: The instances, their classes and the semantic map do not fit together.
    """
    masks, scores = instances.masks, instances.scores
    if not len(masks) == len(scores) == len(classes):
        raise InputError(f"classes has {len(classes)} for {len(masks)} masks; pass one a mask")
    if masks.shape[1:] != semantic.shape:
        raise InputError(
            f"semantic has shape {semantic.shape}, the masks {masks.shape[1:]}; resize one"
        )
    ids = np.zeros(semantic.shape, np.int32)
    segments: list[Segment] = []

    def lay(where: np.ndarray, *, label: int, score: float | None) -> None:
        area_px, new = int(where.sum()), len(segments) + 1
        ids[where] = new
        is_thing = score is not None
        segments.append(
            Segment(id=new, label=label, is_thing=is_thing, area_px=area_px, score=score)
        )

    for i in np.argsort(-scores, kind="stable"):
        if scores[i] < min_score:
            break
        area = masks[i].sum()
        free = masks[i] & (ids == 0)
        if area == 0 or (area - free.sum()) / area > max_overlap or not free.any():
            continue
        lay(free, label=int(classes[i]), score=float(scores[i]))
    for label in np.unique(semantic[semantic >= things]):
        free = (semantic == label) & (ids == 0)
        if free.any() and free.sum() >= min_stuff_px:
            lay(free, label=int(label), score=None)
    return Panoptic(ids=ids, segments=tuple(segments))


def decode_panoptic(
    instance_rgb: Painted,
    semantic_rgb: UInt8[np.ndarray, "_ _ 3"] | Float[np.ndarray, "_ _ 3"],
) -> Panoptic:
    """Read COCO panoptic from Painter's two pictures of one image, with the reference's limits.

    Both must already have the size of the original image (the reference resizes the instance
    picture by nearest, the semantic one bilinearly).

    Raises:
        InputError: One is no painted picture, or their sizes differ.
    """
    instances = decode_instances(instance_rgb)
    distances = semantic_distances(semantic_rgb, COCO_COLORS)
    if distances.shape[:2] != instance_rgb.shape[:2]:
        raise InputError(
            f"semantic_rgb has shape {semantic_rgb.shape}, instance_rgb {instance_rgb.shape}; "
            "resize both to the original image"
        )
    semantic = distances.argmin(axis=-1).astype(np.int32)
    classes = classify_instances(instances.masks, distances)
    return merge_panoptic(instances, semantic, classes=classes)
