"""Small pictures with known labels, and the files of annotation tools that describe them."""

import base64
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from incontext.annotations.find import find_examples
from incontext.outputs.annotations import to_geojson, to_labelme, to_yolo
from incontext.outputs.run_files import RunFiles

NAMES = {1: "leaf", 2: "stem"}
LABELS = np.zeros((20, 30), np.int32)
LABELS[3:12, 2:14] = 1
LABELS[6:8, 5:9] = 0  # a hole
LABELS[10:18, 16:27] = 2
LABELS[0, 0] = 2
KINDS = ("coco", "labelme", "geojson", "yolo")


def picture(path: Path, size=(30, 20)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 120, 60)).save(path)
    return path


def mask(path: Path, labels: np.ndarray = LABELS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels.astype(np.uint8)).save(path)
    return path


def write_json(path: Path, data) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def exported(folder: Path, kind: str, labels=LABELS, names=NAMES) -> Path:
    """Write a picture and what our own outputs say of its labels; return the file."""
    picture(folder / "a.png", labels.shape[::-1])
    match kind:
        case "coco":
            run = RunFiles(names=names)
            run.add("a.png", labels)
            return write_json(folder / "coco.json", json.loads(run.coco()))
        case "labelme":
            page = to_labelme(labels, names=names, image_path="a.png", instances=True)
            return write_json(folder / "a.json", page)
        case "geojson":
            page = to_geojson(labels, names=names, palette={}, instances=True)
            return write_json(folder / "a.geojson", page)
    (folder / "classes.txt").write_text("leaf\nstem\n")
    (folder / "a.txt").write_text(to_yolo(labels, labels=(1, 2)))
    return folder / "a.txt"


def coco(*annotations, images=None, categories=None):
    """Return COCO's JSON of one picture, `a.png`."""
    return {
        "images": images or [{"id": 1, "file_name": "a.png", "width": 30, "height": 20}],
        "annotations": [
            {"id": number, "image_id": 1, "category_id": 1, **annotation}
            for number, annotation in enumerate(annotations, 17)
        ],
        "categories": categories or [{"id": 1, "name": "leaf"}, {"id": 2, "name": "stem"}],
    }


def labelme(*shapes, **more):
    return {"shapes": list(shapes), "imagePath": "a.png", "imageData": None, **more}


def shape(points: object, label: object = "leaf", **more: object) -> dict:
    return {"label": label, "points": points, **more}


def square(x0, y0, x1, y1):
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


def flat(x0, y0, x1, y1):
    return [x0, y0, x1, y0, x1, y1, x0, y1]


def png64(array) -> str:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def read(path, **options):
    """Return the label maps and the names that a path gives."""
    found = find_examples(path, **options)
    return [np.asarray(drawn) for _, drawn in found.pairs], found.names
