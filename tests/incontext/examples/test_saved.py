"""Damaged contexts: nothing but our own error, whether the checksum notices or not."""

import contextlib
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from incontext import Context
from incontext.examples.contents import Contents, Encoded, HeadContext, Pixels, contents_to_tree
from seggpt.errors import CheckpointError, InputError
from seggpt.in_context.model import CELL_FIELDS, Cache
from seggpt.weights import load_weights, save_weights
from seggpt.weights.tree import flatten, unflatten
from tests.damage import SEEDS, change_bytes, change_json, refusal


def zeros(*shape: int) -> Any:  # numpy's, as they come out of a file
    return np.zeros(shape, np.float32)


CACHE = Cache(
    layers=(zeros(1, 2, 5), zeros(1, 2, 5)),
    **{name: zeros(1, 8, 3) for name in CELL_FIELDS},
    **{name: zeros(1, 2, 3) for name in ("colours", "fractions")},
    blocks=((zeros(1, 2, 2, 4), zeros(1, 2, 2, 4)),),
)
KINDS: dict[str, Contents] = {
    "cache": CACHE,
    "pixels": Pixels(zeros(1, 1, 4, 4, 3), zeros(1, 1, 4, 4, 3)),
    "encoded": Encoded(((zeros(1, 4, 2, 3), zeros(1, 4, 2, 3)),)),
    "head": HeadContext(
        (np.zeros((4, 5, 3), np.uint8),), (np.ones((4, 5), np.int32),), CACHE, None
    ),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A saved context of each kind."""
    folder = tmp_path_factory.mktemp("whole")
    for kind, arrays in KINDS.items():
        Context(
            labels=(1, 7),
            passes=((1,), (7,)),
            arrays=arrays,
            model="fake",
            ensemble="feature",
            names={7: "leaf"},
            threshold=0.4,
            about={"scores": [0.5, 0.75]},
        ).save(folder / kind)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_is_loaded(kind, whole):
    loaded = Context.load(whole / kind)
    assert (loaded.labels, loaded.passes, loaded.names) == ((1, 7), ((1,), (7,)), {7: "leaf"})
    assert contents_to_tree(loaded.arrays).keys() == contents_to_tree(KINDS[kind]).keys()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("labels", [1, "7"]),
        ("labels", []),
        ("passes", [[1]]),
        ("model", None),
        ("ensemble", "both"),
        ("names", {"one": "leaf"}),
        ("threshold", "0.4"),
        ("about", []),
    ],
)
def test_a_wrong_field_is_named(field, value, whole, tmp_path):
    loaded = load_weights(whole / "pixels")
    save_weights(tmp_path / "c", loaded.params, config={**loaded.config, field: value})
    with pytest.raises(CheckpointError, match=f"c: a context of unknown {field} "):
        Context.load(tmp_path / "c")


def damage(file: Path, seed: int, changed: Path) -> None:
    """Write a context with bytes changed, or one that is wrong and has the right checksum."""
    rng = random.Random(seed)
    kind = rng.randrange(3)
    if kind == 0:
        changed.write_bytes(change_bytes(file.read_bytes(), rng))
        return
    loaded = load_weights(file)
    config, arrays = loaded.config, flatten(loaded.params)
    if kind == 1:
        changes = json.loads(change_json(json.dumps(config).encode(), rng))
        config = changes if isinstance(changes, dict) else {}
    else:
        name = rng.choice(list(arrays))
        array = arrays.pop(name)
        parts = name.split(".")
        parts[rng.randrange(len(parts))] = rng.choice(("0", "1", "keys", "images", "maps", "more"))
        if rng.random() < 0.8:
            name = ".".join(rng.choice((parts, parts[:1], [*parts, "0"])))
            shaped = rng.choice((array, array.reshape(-1), np.float32(0), array[:0], array != 0))
            arrays[name] = np.asarray(shaped)
    with contextlib.suppress(ValueError):  # a name is a tensor and a folder of tensors
        save_weights(changed, unflatten(arrays), config=config)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged")


def assert_refused_or_read(kind: str, seed: int, whole: Path, folder: Path) -> None:
    changed = folder / "c.safetensors"
    damage(whole / kind, seed, changed)
    said = refusal(lambda: Context.load(changed), CheckpointError, InputError)
    assert not said or changed.name in said


@settings(deadline=None, max_examples=40)
@given(SEEDS)
@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_refused_or_read(kind, whole, folder, seed):
    assert_refused_or_read(kind, seed, whole, folder)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_much_damage_is_refused_or_read(kind, whole, folder):
    for seed in range(2_500):  # 10,000 in all
        assert_refused_or_read(kind, seed, whole, folder)
