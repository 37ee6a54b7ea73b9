"""Tiny imitations of the official downloads, and of people's own folders."""

import gzip
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

SIZE = 8


def grid(left: int, right: int, *, size: int = SIZE) -> np.ndarray:
    """Return a map of one number on the left half and another on the right."""
    values = np.full((size, size), left, np.int32)
    values[:, size // 2 :] = right
    return values


def save(path: Path, values: np.ndarray | None = None, *, dtype: type = np.uint8) -> None:
    """Save a map, or by default a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if values is None:
        values = np.random.default_rng(len(path.name)).integers(0, 255, (SIZE, SIZE, 3))
    image = Image.fromarray(values.astype(dtype))
    if path.suffix == ".gz":
        buffer = io.BytesIO()
        image.save(buffer, "PPM")
        path.write_bytes(gzip.compress(buffer.getvalue()))
    else:
        image.save(path)


def unpack(codes: np.ndarray, *, low_first: bool = False) -> np.ndarray:
    """Return packed colours as RGB: 0xRRGGBB, or red + 256 green + 65536 blue."""
    shifts = (0, 8, 16) if low_first else (16, 8, 0)
    return np.stack([codes >> shift & 255 for shift in shifts], axis=-1)


def write_json(path: Path, data: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))


def ade20k(root: Path) -> None:
    root = root / "ADEChallengeData2016"
    for split in ("training", "validation"):
        save(root / "images" / split / "ADE_1.jpg")
        save(root / "annotations" / split / "ADE_1.png", grid(0, 150))
    rows = ["Idx\tRatio\tTrain\tVal\tName"] + [f"{i}\t0\t0\t0\tn{i}, m{i}" for i in range(1, 151)]
    (root / "objectInfo150.txt").write_text("\n".join(rows))


def coco(categories: list[dict], annotations: list[dict], *, folder: str = "") -> dict:
    images = [{"id": 1, "file_name": f"{folder}1.jpg", "width": SIZE, "height": SIZE}]
    return {"images": images, "categories": categories, "annotations": annotations}


def box(number: int, category: int, left: int, top: int, right: int, bottom: int, **more) -> dict:
    ring = [left, top, right, top, right, bottom, left, bottom]
    return {"id": number, "image_id": 1, "category_id": category, "segmentation": [ring], **more}


def coco_instances(root: Path) -> None:
    for split in ("train2017", "val2017"):
        save(root / split / "1.jpg" if split[0] == "t" else root / split / "2.jpg")
        things = [{"id": 1, "name": "person"}, {"id": 90, "name": "toothbrush"}]
        # The small one is first in the file, and yet on top.
        marked = [box(7, 90, 0, 0, 4, 4), box(8, 1, 0, 0, 8, 8)]
        data = coco(things, marked)
        data["images"][0]["file_name"] = "1.jpg" if split[0] == "t" else "2.jpg"
        write_json(root / "annotations" / f"instances_{split}.json", data)


def coco_panoptic(root: Path) -> None:
    for split in ("train2017", "val2017"):
        stem = "1" if split[0] == "t" else "2"
        save(root / split / f"{stem}.jpg")
        codes = grid(70_000, 300)
        codes[0, 0] = 0
        folder = root / "annotations" / f"panoptic_{split}"
        save(folder / f"{stem}.png", unpack(codes, low_first=True))
        segments = [{"id": 70_000, "category_id": 1}, {"id": 300, "category_id": 200}]
        things = [{"id": 1, "name": "person", "isthing": 1}]
        things += [{"id": 200, "name": "sky", "isthing": 0}]
        annotation = {"file_name": f"{stem}.png", "image_id": 1, "segments_info": segments}
        write_json(folder.with_suffix(".json"), {"annotations": [annotation], "categories": things})


def coco_stuff(root: Path) -> None:
    for split, stem in (("train2017", "1"), ("val2017", "2")):
        save(root / split / f"{stem}.jpg")
        save(root / "stuffthingmaps" / split / f"{stem}.png", grid(0, 255))
    (root / "labels.txt").write_text("0: unlabeled\n1: person\n2: bicycle\n")


def paco(root: Path) -> None:
    things = [{"id": 1, "name": "mug"}, {"id": 2, "name": "mug:handle"}]
    for split, stem in (("train", "1"), ("val", "2")):
        save(root / "train2017" / f"{stem}.jpg")
        marked = [box(1, 1, 0, 0, 8, 8, obj_ann_id=1), box(2, 2, 0, 0, 4, 8, obj_ann_id=1)]
        data = coco(things, marked)
        data["images"][0]["file_name"] = f"train2017/{stem}.jpg"
        write_json(root / "annotations" / f"paco_lvis_v1_{split}.json", data)


def voc_aug(root: Path) -> None:
    voc, sbd = root / "VOCdevkit" / "VOC2012", root / "benchmark_RELEASE" / "dataset"
    for stem in ("a", "b"):
        save(voc / "JPEGImages" / f"{stem}.jpg")
        save(voc / "SegmentationClass" / f"{stem}.png", grid(255, 20))
        save(voc / "SegmentationObject" / f"{stem}.png", grid(255, 3))
    lists = voc / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\n")
    (lists / "val.txt").write_text("b\n")
    for stem in ("b", "c"):  # b is in VOC's val
        save(sbd / "img" / f"{stem}.jpg")
        for folder, key, value in (("cls", "GTcls", 20), ("inst", "GTinst", 1)):
            (sbd / folder).mkdir(exist_ok=True)
            mask = {"Segmentation": grid(0, value).astype(np.uint8)}
            savemat(sbd / folder / f"{stem}.mat", {key: mask})


def cityscapes(root: Path) -> None:
    for split, town in (("train", "ulm"), ("val", "bonn")):
        name = f"{town}_000000_000001"
        save(root / "leftImg8bit" / split / town / f"{name}_leftImg8bit.png")
        masks = root / "gtFine" / split / town
        save(masks / f"{name}_gtFine_labelIds.png", grid(7, 26))
        save(masks / f"{name}_gtFine_instanceIds.png", grid(7, 26_003), dtype=np.uint16)


def lip(root: Path) -> None:
    for split in ("train", "val"):
        save(root / "TrainVal_images" / f"{split}_images" / f"{split}1.jpg")
        masks = root / "TrainVal_parsing_annotations" / f"{split}_segmentations"
        save(masks / f"{split}1.png", grid(0, 19))


def loveda(root: Path) -> None:
    for split, stem in (("Train", "0"), ("Val", "1")):
        save(root / split / "Rural" / "images_png" / f"{stem}.png")
        save(root / split / "Rural" / "masks_png" / f"{stem}.png", grid(0, 7))


def fss1000(root: Path) -> None:
    for name in ("abacus", "zebra"):
        for number in range(1, 11):
            save(root / "fewshot_data" / name / f"{number}.jpg")
            save(root / "fewshot_data" / name / f"{number}.png", unpack(grid(0, 0xFFFFFF)))
    (root / "fss_test_set.txt").write_text("zebra\n")


def many_classes(keys: list[dict]) -> dict:
    """Return annotations of pictures of 10 x 10: a class is everywhere, 79 have a pixel each."""
    boxes = [(0, 0, 10, 10)] + [(c % 10, c // 10, c % 10 + 1, c // 10 + 1) for c in range(1, 80)]
    marked = [
        box(100 * picture + c, c + 1, *sides) | {"image_id": picture}
        for picture in range(len(keys))
        for c, sides in enumerate(boxes)
    ]
    data = coco([{"id": c + 1, "name": f"c{c}"} for c in range(80)], marked)
    size = {"width": 10, "height": 10}
    return data | {"images": [{"id": number, **size, **key} for number, key in enumerate(keys)]}


def coco20i(root: Path) -> None:
    names = [f"COCO_val2014_{number}.jpg" for number in (1, 22, 333)]
    for name in names:
        save(root / "val2014" / name, np.full((10, 10, 3), len(name)))
    data = many_classes([{"file_name": name} for name in names])
    write_json(root / "annotations" / "instances_val2014.json", data)


def lvis92i(root: Path) -> None:
    names = ["train2017/1.jpg", "val2017/22.jpg", "val2017/333.jpg"]
    for name in names:
        save(root / name, np.full((10, 10, 3), len(name)))
    data = many_classes([{"coco_url": f"http://images.cocodataset.org/{name}"} for name in names])
    write_json(root / "lvis_v1_val.json", data)


def pascal5i(root: Path) -> None:
    names = [f"2007_{number:06}" for number in range(20)]
    for number, name in enumerate(names):
        save(root / "JPEGImages" / f"{name}.jpg")
        mask = grid(1 + number, 1 + (number + 1) % 20)
        mask[0] = 255
        save(root / "SegmentationClassAug" / f"{name}.png", mask)
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("\n".join(names))


def perseg(root: Path) -> None:
    for name in ("cat", "dog"):
        for number in range(3):
            save(root / "Images" / name / f"{number:02}.jpg")
            save(root / "Annotations" / name / f"{number:02}.png", grid(0, 128))


def chase_db1(root: Path) -> None:
    for number in range(11):
        for side in "LR":
            save(root / f"Image_{number:02d}{side}.jpg")
            save(root / f"Image_{number:02d}{side}_1stHO.png", grid(0, 1), dtype=np.bool_)


def drive(root: Path) -> None:
    for split, number in (("training", 21), ("test", 1)):
        save(root / split / "images" / f"{number:02d}_{split}.tif")
        save(root / split / "1st_manual" / f"{number:02d}_manual1.gif", grid(0, 255))


def hrf(root: Path) -> None:
    for stem, suffix in (("01_dr", "JPG"), ("06_h", "jpg")):
        save(root / "images" / f"{stem}.{suffix}")
        save(root / "manual1" / f"{stem}.tif", grid(0, 255))


def stare(root: Path) -> None:
    for number in range(11):
        save(root / "stare-images" / f"im{number:04d}.ppm.gz")
        save(root / "labels-ah" / f"im{number:04d}.ah.ppm.gz", grid(0, 255))


def isaid(root: Path) -> None:
    for split, name in (("train", "P0000"), ("val", "P0001")):
        save(root / split / "images" / f"{name}.png", np.zeros((900, 40, 3)))
        for end, code in (("color", 0x00649B), ("id", 0x123456)):
            codes = np.zeros((900, 40), np.int32)
            codes[890:] = code
            masks = root / split / "masks"
            save(masks / f"{name}_instance_{end}_RGB.png", unpack(codes))
