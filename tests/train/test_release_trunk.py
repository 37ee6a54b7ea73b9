"""A trunk ships with its score and a card, and never for a lower score."""

import json

import jax
import numpy as np
import pytest
from flax import nnx

from seggpt.adapter import TRUNK_FORMAT, Trunk, load_trunk
from seggpt.pretrained import TRUNK
from seggpt.weights import load_weights, save_weights
from tests.data.drawn import write_drawn_dataset
from train.release_trunk import main


@pytest.fixture
def run(tmp_path):
    write_drawn_dataset(tmp_path / "data", name="drawn")
    params = nnx.as_pure(nnx.state(Trunk(rngs=nnx.Rngs(0)), nnx.Param))
    metadata = {"train_sets": "drawn", "step": "4"}
    file = tmp_path / "weights.safetensors"
    save_weights(file, params, config=TRUNK_FORMAT, metadata=metadata)
    score(tmp_path, 0.25)
    return tmp_path


def score(run, value):
    rows = [{"step": 2, "iou": 0.9}, {"step": 4, "loss": 1.0}, {"step": 4, "iou": value}]
    (run / "log.jsonl").write_text("\n".join(map(json.dumps, rows)))


def release(run, *more):
    given = ["--data", str(run / "data"), "--command", "python -m train --set a=1", "-o", str(run)]
    return main([str(run), *given, *more])


def test_a_trunk_carries_its_score_and_its_card_names_the_data(run):
    assert release(run) == 0
    target = run / TRUNK.name
    assert load_weights(target).metadata["score"] == "25.00"
    before = jax.tree.leaves(load_trunk(run / "weights.safetensors"))
    for old, new in zip(before, jax.tree.leaves(load_trunk(target)), strict=True):
        np.testing.assert_allclose(new, old, rtol=2**-8)
    card = target.with_suffix(".md").read_text()
    for part in ("python -m train --set a=1", "averaged over data sets: 25.0", "| drawn | CC0 1.0"):
        assert part in card


def test_a_lower_score_ships_only_by_force(run, capsys):
    assert release(run) == 0
    score(run, 0.2)
    assert release(run) == 2
    assert "scores 25.0, the new trunk 20.0" in capsys.readouterr().err
    assert release(run, "--force") == 0
    assert load_weights(run / TRUNK.name).metadata["score"] == "20.00"


def test_a_run_without_a_score_is_refused(run, capsys):
    (run / "log.jsonl").write_text('{"step": 4, "loss": 1.0}')
    assert release(run) == 2
    assert "has no score" in capsys.readouterr().err
