"""`seggpt prompt`, on small random weights."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from incontext import Example, PerSAM, Predictor, Segmenter
from incontext.cli import main

pytestmark = pytest.mark.usefixtures("loaded_once")
SAM = str(Path(__file__).parents[3] / "seggpt" / "golden" / "sam")


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name, size in (("a.png", (20, 30)), ("b.png", (16, 16))):
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(name)
    return ["a.png", "b.png"]


def read(path):
    return np.asarray(Image.open(path))


def test_a_point_gives_the_best_of_three_masks(pictures, capsys):
    point = ["--point", "10,12", "-o", "out", "--model", SAM]
    assert main(["prompt", "a.png", *point, "--format", "mask,overlay", "--json"]) == 0
    predictor = Predictor.from_pretrained(SAM)
    predictor.set_image("a.png")
    masks, scores, _ = predictor.predict([[10, 12]], [1])
    np.testing.assert_array_equal(read("out/a.png") > 0, masks[scores.argmax()])
    assert Path("out/a.overlay.png").exists()
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (result,) = [event for event in events if event["event"] == "result"]
    assert result["scores"]["1"] == pytest.approx(float(scores.max()), abs=1e-3)
    assert result["outputs"] == ["out/a.png", "out/a.overlay.png"]


def test_a_clear_prompt_gives_its_own_mask(pictures):
    prompt = ["--point", "10,12,0", "--point", "3,4", "--box", "1,1,25,19"]
    assert main(["prompt", "a.png", *prompt, "-o", "out", "--model", SAM]) == 0
    predictor = Predictor.from_pretrained(SAM)
    predictor.set_image("a.png")
    masks, *_ = predictor.predict(
        [[10, 12], [3, 4]], [0, 1], box=[1, 1, 25, 19], multimask_output=False
    )
    np.testing.assert_array_equal(read("out/a.png") > 0, masks[0])


def test_each_box_has_its_label(pictures):
    boxes = ["--box", "1,1,25,19", "--box", "2,2,9,9"]
    assert main(["prompt", "a.png", *boxes, "-o", "out", "--model", SAM]) == 0
    assert set(np.unique(read("out/a.png"))) <= {0, 1, 2}
    record = json.loads(Path("out/results.jsonl").read_text())
    assert list(record["scores"]) == ["1", "2"]


def test_a_prompt_outside_one_picture_fails_that_picture(pictures, capsys):
    argv = ["prompt", *pictures, "--point", "25,5", "-o", "out", "--model", SAM]
    assert main(argv) == 3
    assert "b.png: point 25,5 is outside the picture of 16x16" in capsys.readouterr().err
    assert sorted(path.name for path in Path("out").glob("*.png")) == ["a.png"]
    assert main([*argv, "--skip-existing"]) == 3
    assert main(["prompt", "b.png", "--point", "25,5", "-o", "new", "--model", SAM]) == 2


def test_an_example_shows_what_to_find(pictures):
    mask = np.zeros((20, 30), np.uint8)
    mask[5:15, 5:20] = 255
    Image.fromarray(mask).save("mask.png")
    argv = ["prompt", "b.png", "-e", "a.png", "mask.png", "-o", "out", "--model", SAM]
    assert main(argv) == 0
    finder = PerSAM.from_pretrained(SAM)
    want = finder.segment("b.png", finder.learn(Example("a.png", "mask.png"))).label_map
    np.testing.assert_array_equal(read("out/b.png"), want)


USAGE = [
    ([], "give --point X,Y or --box"),
    (["-e", "a.png", "a.png", "--box", "0,0,5,5", "--box", "1,1,4,4"], "one box corrects"),
    (["-e", "a.png", "a.png", "--about", "1"], "--about is for an example with points"),
    (["-e", "a.png", "none.png"], "example: "),
    (["--point", "1"], "is not X,Y"),
    (["--point", "1,2,5"], "is not X,Y"),
    (["--point", "nan,2"], "is not X,Y"),
    (["--point", "10;20"], "is not X,Y"),
    (["--box", "9,9,5,20"], "X0 < X1"),
    (["--box", "1,2,3"], "is not X0,Y0,X1,Y1"),
    (["--point", "1,1", "--box", "0,0,5,5", "--box", "1,1,4,4"], "points go with one box"),
    (["--point", "1,1", "--format", "gif"], "unknown format 'gif'"),
]


@pytest.mark.parametrize(("arguments", "message"), USAGE)
def test_what_makes_no_sense_is_a_usage_error(pictures, capsys, arguments, message):
    assert main(["prompt", "a.png", *arguments, "-o", "out", "--model", SAM]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not Path("out").exists()


def test_shipped_weights_take_points_and_an_example_with_them(pictures):
    mask = np.zeros((20, 30), np.uint8)
    mask[5:15, 8:20] = 3
    Image.fromarray(mask).save("mask.png")
    assert main(["prompt", "b.png", "--point", "5,5", "-o", "points"]) == 0
    assert read("points/b.png").shape == (16, 16)
    both = ["prompt", "b.png", "-e", "a.png", "mask.png", "--mask-kind", "labels"]
    both += ["--point", "5,5", "--about", "3", "-o", "both"]
    assert main(both) == 0
    segmenter = Segmenter.from_pretrained()
    context = segmenter.context([Example("a.png", "mask.png", kind="labels")])
    want = segmenter.segment("b.png", context, points=[[5, 5]], labels=[1]).label_map
    np.testing.assert_array_equal(read("both/b.png"), want)


def test_nothing_is_overwritten_unasked_and_a_dry_run_writes_nothing(pictures, capsys):
    argv = ["prompt", "a.png", "--point", "1,1", "-o", "out", "--model", SAM]
    assert main([*argv, "--dry-run"]) == 0
    assert "a.png -> out/a.png" in capsys.readouterr().out
    assert not Path("out").exists()
    Path("out").mkdir()
    Path("out/a.png").write_bytes(b"precious")
    assert main(argv) == 2
    assert main([*argv, "--skip-existing"]) == 0
    assert Path("out/a.png").read_bytes() == b"precious"
    assert main([*argv, "--overwrite"]) == 0
    assert read("out/a.png").shape == (20, 30)
