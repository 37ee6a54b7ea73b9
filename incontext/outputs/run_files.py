"""Outputs of a whole run: one COCO file, and a table of regions."""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Int32

from incontext.outputs.annotations import name_of, to_coco
from incontext.outputs.regions import find_regions

RUN_FILES: Mapping[str, str] = {"coco": "coco.json", "table": "table.csv"}
"""The file of each format."""

COLUMNS = ("image", "label", "name", "region", "components", "area", "x", "y", "width", "height")


@dataclass(kw_only=True, eq=False)
class RunFiles:
    """What has been seen of a run; images are added one by one.

    Args:
        names: What labels are called.
        instances: Whether each connected component (8-connectivity) is a region of its own.
    """

    names: Mapping[int, str] = field(default_factory=dict)
    instances: bool = False
    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    rows: list[tuple[object, ...]] = field(default_factory=list)

    def add(self, file_name: str, label_map: Int32[np.ndarray, "h w"]) -> None:
        """Add one image."""
        height, width = label_map.shape
        image = {"id": len(self.images) + 1, "file_name": file_name}
        self.images.append({**image, "width": width, "height": height})
        for annotation in to_coco(label_map, instances=self.instances):
            number = len(self.annotations) + 1
            self.annotations.append({"id": number, "image_id": image["id"], **annotation})
        components: dict[int, int] = {}
        for part in find_regions(label_map, instances=True):
            components[part.label] = components.get(part.label, 0) + 1
        for number, region in enumerate(find_regions(label_map, instances=self.instances), start=1):
            count = 1 if self.instances else components[region.label]
            name = name_of(region.label, self.names)
            self.rows.append(
                (file_name, region.label, name, number, count, region.area, *region.box)
            )

    def coco(self) -> str:
        """Return the COCO file; categories are the labels that occur, or have a name."""
        found = {annotation["category_id"] for annotation in self.annotations}
        categories = [
            {"id": label, "name": name_of(label, self.names), "supercategory": ""}
            for label in sorted(found | set(self.names))
        ]
        return json.dumps(
            {"images": self.images, "annotations": self.annotations, "categories": categories}
        )

    def table(self) -> str:
        """Return the table as CSV: a row for each region, areas and boxes in pixels."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(self.rows)
        return text.getvalue()
