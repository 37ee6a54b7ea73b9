"""Label maps as polygons in the formats of annotation tools, and as COCO's run lengths."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Int32

from incontext.files import rle
from incontext.files.mask_rules import Color
from incontext.outputs.outlines import Outline, trace
from incontext.outputs.regions import Region, find_regions

LABELME_VERSION = "5.5.0"

Names = Mapping[int, str]


def name_of(label: int, names: Names) -> str:
    """Return what a label is called: its name, or its number."""
    return names.get(label, str(label))


def to_labelme(
    label_map: Int32[np.ndarray, "h w"], *, names: Names, image_path: str, instances: bool
) -> dict[str, Any]:
    """Return labelme's JSON: a polygon for each connected part, those of one region in a group.

    Polygons of this format have no holes, so these are cut open to leave their holes out.
    """
    shapes = [
        {
            "label": name_of(region.label, names),
            "points": outline.cut_open().astype(float).tolist(),
            "group_id": group,
            "description": "",
            "shape_type": "polygon",
            "flags": {},
        }
        for group, region, outline in _outlines(label_map, instances=instances)
    ]
    height, width = label_map.shape
    return {
        "version": LABELME_VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": image_path,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }


def to_yolo(label_map: Int32[np.ndarray, "h w"], *, labels: tuple[int, ...]) -> str:
    """Return the text of a YOLO segmentation file: class, then x and y in 0..1, a polygon a line.

    The class is the place of the label among `labels`, from 0; holes are cut open.
    """
    height, width = label_map.shape
    lines = []
    for _, region, outline in _outlines(label_map, instances=True):
        numbers = (outline.cut_open() / (width, height)).ravel()
        lines.append(" ".join([str(labels.index(region.label)), *(f"{n:.6g}" for n in numbers)]))
    return "".join(line + "\n" for line in lines)


def to_geojson(
    label_map: Int32[np.ndarray, "h w"],
    *,
    names: Names,
    palette: Mapping[int, Color],
    instances: bool,
) -> dict[str, Any]:
    """Return GeoJSON as QuPath reads it: a feature for each region, in pixels, with holes."""
    features: dict[int, dict[str, Any]] = {}
    for number, region, outline in _outlines(label_map, instances=instances):
        color = list(palette.get(region.label, (0, 0, 0)))
        kind = {"name": name_of(region.label, names), "color": color}
        feature = features.setdefault(
            number,
            {
                "type": "Feature",
                "geometry": {"type": "MultiPolygon", "coordinates": []},
                "properties": {"objectType": "annotation", "classification": kind},
            },
        )
        rings = [[*ring.tolist(), ring[0].tolist()] for ring in (outline.exterior, *outline.holes)]
        feature["geometry"]["coordinates"].append(rings)
    return {"type": "FeatureCollection", "features": list(features.values())}


def to_coco(label_map: Int32[np.ndarray, "h w"], *, instances: bool) -> Iterator[dict[str, Any]]:
    """Yield COCO annotations without `id` and `image_id`; `category_id` is the label."""
    for region in find_regions(label_map, instances=instances):
        runs = rle.encode(region.mask, origin=(region.left, region.top), size=label_map.shape)
        yield {
            "category_id": region.label,
            "segmentation": runs.to_coco(),
            "area": region.area,
            "bbox": list(region.box),
            "iscrowd": 0,
        }


def _outlines(
    label_map: Int32[np.ndarray, "h w"], *, instances: bool
) -> Iterator[tuple[int, Region, Outline]]:
    """Yield every outline in pixels of the image, with its region and that one's number."""
    for number, region in enumerate(find_regions(label_map, instances=instances), start=1):
        offset = np.array((region.left, region.top), np.int32)
        for outline in trace(region.mask):
            holes = tuple(hole + offset for hole in outline.holes)
            yield number, region, Outline(outline.exterior + offset, holes)
