"""Damaged files of every kind: nothing but our own errors, whatever was changed."""

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from incontext.annotations.find import find_examples
from incontext.files import rle
from seggpt.errors import InputError, PromptError
from tests.damage import SEEDS, change_json, change_text, refusal

from .scenes import LABELS, coco, exported, flat, labelme, picture, png64, shape, square, write_json


def whole_files(folder: Path) -> list[Path]:
    """Write valid files that use all that the readers know."""
    picture(folder / "a.png")
    runs = rle.encode(LABELS == 1)
    marks = [
        {"segmentation": [flat(2, 3, 14, 12)], "iscrowd": 0},
        {"segmentation": runs.to_dict(), "category_id": 2},
        {"segmentation": runs.to_coco(), "iscrowd": 1},
    ]
    shapes = [
        shape(square(2, 2, 9, 9), shape_type="polygon"),
        shape([[1, 1], [5, 5]], shape_type="rectangle"),
        shape([[5, 5], [5, 9]], "stem", shape_type="circle"),
        shape([[3, 3], [4, 4]], shape_type="mask", mask=png64(np.ones((2, 2), bool))),
    ]
    sizes = {"imageWidth": 30, "imageHeight": 20, "imageData": png64(np.zeros((20, 30), np.uint8))}
    files = [
        write_json(folder / "coco.json", coco(*marks)),
        write_json(folder / "a.json", labelme(*shapes, **sizes)),
    ]
    return [*files, exported(folder / "g", "geojson"), exported(folder / "y", "yolo")]


def damaged(file: Path, seed: int) -> bytes:
    """Return a file with values changed, or bytes."""
    rng = random.Random(seed)
    is_json = file.suffix != ".txt" and rng.random() < 0.8
    return (change_json if is_json else change_text)(file.read_bytes(), rng)


def assert_our_errors_alone(file: Path, seed: int, folder: Path) -> None:
    changed = folder / f"a{file.suffix}"
    changed.write_bytes(damaged(file, seed))
    picture(folder / "a.png")

    def read() -> None:
        for _, mask in find_examples(changed).pairs:
            np.asarray(mask)

    said = refusal(read, InputError, PromptError)
    assert not said or changed.name in said or "a.png" in said


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return whole_files(tmp_path_factory.mktemp("whole"))


def test_the_files_are_whole(files):
    assert [len(find_examples(file).pairs) for file in files] == [1, 1, 1, 1]


@settings(deadline=None, max_examples=40)
@given(SEEDS)
@pytest.mark.parametrize("kind", range(4))
def test_damage_is_refused_or_read(kind, files, tmp_path_factory, seed):
    assert_our_errors_alone(files[kind], seed, tmp_path_factory.mktemp("damaged"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", range(4))
def test_much_damage_is_refused_or_read(kind, files, tmp_path):
    for seed in range(2_500):  # 10,000 in all
        assert_our_errors_alone(files[kind], seed, tmp_path)
