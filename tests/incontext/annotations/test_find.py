"""Damaged files of every kind: nothing but our own errors, whatever was changed."""

import contextlib
import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from incontext.annotations.find import find_examples
from incontext.files import rle
from incontext.files.masks import load_mask
from seggpt.errors import InputError, PromptError

from .scenes import LABELS, coco, exported, flat, labelme, picture, png64, shape, square, write_json

STRANGE = (
    *(None, True, False, 0, -1, 3, 1.5, 10**9, 10**30, 10**400, float("nan"), float("inf"), -1e308),
    *("", "a", "../../x", "a.png\0", "o" * 50, [], {}, [[]], [[0, 0]] * 3, [None], {"id": 1}),
    *([1, 2, 3, 4, 5, 6], "Feature", "mask", "circle", "__ignore__", [10**9, 10**9], "\ud800"),
)
SEEDS = st.integers(0, 2**32 - 1)


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


def change(value: object, rng: random.Random) -> object:
    """Return a value with one thing changed, somewhere inside of it."""
    if isinstance(value, list | dict) and value and rng.random() < 0.9:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = rng.choice(keys)
        changed = dict(value) if isinstance(value, dict) else list(value)
        kind = rng.random()
        if kind < 0.1:
            del changed[key]
        elif kind < 0.15 and isinstance(changed, list):
            changed.insert(key, changed[key])
        else:
            changed[key] = change(value[key], rng)
        return changed
    return rng.choice(STRANGE)


def damaged(file: Path, seed: int) -> bytes:
    """Return a file with values changed, or bytes."""
    rng = random.Random(seed)
    data = file.read_bytes()
    if file.suffix != ".txt" and rng.random() < 0.8:
        value = json.loads(data)
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            value = change(value, rng)
        return json.dumps(value).encode()
    noise = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(noise) + 1)
        kind = rng.random()
        if kind < 0.4:
            noise[place : place + 1] = bytes([rng.randrange(256)])
        elif kind < 0.7:
            noise[place : place + rng.randint(1, 20)] = b""
        else:
            noise[place:place] = rng.choice((b" 1e999", b"nan ", b"-", b"[" * 50, b'"', b"9" * 40))
    return bytes(noise)


def assert_our_errors_alone(file: Path, seed: int, folder: Path) -> None:
    changed = folder / f"a{file.suffix}"
    changed.write_bytes(damaged(file, seed))
    picture(folder / "a.png")
    said = ""
    try:
        for _, mask in find_examples(changed).pairs:
            np.asarray(mask)
    except (InputError, PromptError) as error:
        said = str(error)
    assert len(said.splitlines()) <= 1
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


def test_arrays_of_damaged_headers_are_refused(tmp_path):
    np.save(tmp_path / "whole.npy", np.ones((20, 30), np.uint8))
    data = (tmp_path / "whole.npy").read_bytes()
    (tmp_path / "whole.npy").unlink()
    for seed in range(200):
        rng = random.Random(seed)
        noise = bytearray(data)
        noise[rng.randrange(128)] = rng.randrange(256)
        (tmp_path / "a.npy").write_bytes(noise[: rng.choice((len(noise), 128, 60))])
        with contextlib.suppress(InputError):
            load_mask(tmp_path / "a.npy", allow_empty=True)
