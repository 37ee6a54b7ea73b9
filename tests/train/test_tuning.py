"""Tuned prompts are scored on pictures that they were not tuned on, beside all untuned contexts."""

import json

import numpy as np
import pytest

from data.folder import open_folders
from incontext import Context
from seggpt.weights import save_weights
from tests.data.drawn import write_drawn_dataset
from tests.tiny_models import fresh_weights, save_in_context, tiny_seggpt
from train.tuning import draw_pairs, main

NOTHING = {"label": None, "area": 0.0}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    write_drawn_dataset(root, name="shapes", pictures=9)
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    config = tiny_seggpt(rel_pos=False)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path, fresh_weights(config), config=config.to_dict())
    return path


def test_others_are_other_pictures_and_the_seed_decides(root):
    [folder] = open_folders(root)

    def draw(seed):
        pairs, others = draw_pairs(folder, **NOTHING, count=4, others=3, seed=seed)
        assert (len(pairs), len(others)) == (4, 3)
        return [pair.image.tobytes() for pair in [*pairs, *others]]

    assert len(set(draw(0))) == 7
    assert draw(0) == draw(0) != draw(1)


def test_one_label_alone_can_be_asked_for(root):
    [folder] = open_folders(root)
    pairs, others = draw_pairs(folder, label=2, area=0.0, count=4, others=99, seed=0)
    assert len(others) == 5
    for pair in [*pairs, *others]:
        assert np.unique(pair.mask).tolist() == [0, 2, 255]
    with pytest.raises(ValueError, match="shapes: 0 pictures can be drawn, and 4 to learn from"):
        draw_pairs(folder, label=2, area=0.9, count=4, others=9, seed=0)


def test_all_classes_can_be_one_label(root):
    [folder] = open_folders(root)
    apart, _ = draw_pairs(folder, **NOTHING, count=4, others=1, seed=0)
    merged, _ = draw_pairs(folder, **NOTHING, merge=True, count=4, others=1, seed=0)
    assert any(np.unique(pair.mask).tolist() != [0, 1, 255] for pair in apart)
    for one, other in zip(apart, merged, strict=True):
        assert np.unique(other.mask).tolist() == [0, 1, 255]
        np.testing.assert_array_equal(other.mask > 0, one.mask > 0)
        np.testing.assert_array_equal(other.mask == 255, one.mask == 255)


def test_the_prompt_alone_can_be_scored(root, weights, tmp_path, capsys):
    report = tmp_path / "report.json"
    arguments = ["--data", root, "--set", "shapes", "--weights", weights, "--json", report]
    arguments += ["--examples", "5", "--others", "2", "--steps", "1", "--skip-untuned"]
    assert main([str(argument) for argument in arguments]) == 0
    [drawn] = json.loads(report.read_text())
    assert [row["name"] for row in drawn["rows"]] == ["tuned"]
    assert "above the best untuned" not in capsys.readouterr().out


def test_every_context_has_its_row(root, weights, tmp_path, capsys):
    report = tmp_path / "report.json"
    arguments = ["--data", root, "--set", "shapes", "--weights", weights, "--json", report]
    arguments += ["--examples", "5", "--others", "3", "--steps", "2", "--draws", "3"]
    assert main([str(argument) for argument in [*arguments, "-o", tmp_path]]) == 0
    [drawn] = json.loads(report.read_text())
    names = [row["name"] for row in drawn["rows"]]
    assert len(names) == len(set(names)) == 6
    assert names[-1] == "tuned"
    assert all(0 <= row["score"] <= row["best"] + 1e-9 <= 100 for row in drawn["rows"])
    printed = capsys.readouterr().out
    assert "shapes, draw 3: 5 pictures, 3 others" in printed
    assert "above the best untuned" in printed
    prompt = Context.load(tmp_path / "shapes-3.safetensors")
    assert prompt.about["learn"] == "cache"


def test_heads_are_scored_beside_all_examples(root, tmp_path, monkeypatch):
    monkeypatch.setattr("incontext.examples.in_context_engine.SIZE", 112)
    report = tmp_path / "report.json"
    arguments = ["--data", root, "--set", "shapes", "--weights", save_in_context(tmp_path)]
    arguments += ["--json", report, "--examples", "3", "--others", "2", "--steps", "2"]
    assert main([str(argument) for argument in [*arguments, "-o", tmp_path]]) == 0
    [drawn] = json.loads(report.read_text())
    assert [row["name"] for row in drawn["rows"]] == ["all 3 examples", "tuned"]
    assert Context.load(tmp_path / "shapes-0.safetensors").about["learn"] == "head"


def test_an_unknown_set_is_one_line(root, capsys):
    assert main(["--data", str(root), "--set", "nothing"]) == 2
    assert "no data set named ['nothing']" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--json", "nowhere/report.json"], "--json: no folder nowhere"),
        (["-o", "nowhere"], "--output: no folder nowhere"),
        (["--others", "0"], "--others 0 must be at least 1"),
        (["--merge", "--label", "1"], "--merge takes all classes and --label one"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_tuned(root, capsys, arguments, said):
    assert main(["--data", str(root), "--set", "shapes", *arguments]) == 2
    assert said in capsys.readouterr().err
