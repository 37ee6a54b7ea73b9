import json

from data.prepare import main as prepare
from tests.data.benchmarks.test_layouts import SIZE, save, square
from train.evals.__main__ import main


def test_baselines_are_scored_on_perseg(tmp_path, capsys):
    for number in range(3):
        save(tmp_path / f"data/Images/cat/{number:02}.jpg", 40 * square(1)[..., None].repeat(3, -1))
        save(tmp_path / f"data/Annotations/cat/{number:02}.png", square(128))
    out = tmp_path / "scores.json"
    options = ["--benchmark", "perseg", "--data", str(tmp_path / "data"), "--weights", "none"]
    assert main([*options, "--json", str(out)]) == 0
    rows = {row["predictor"]: row for row in json.loads(out.read_text())}
    # All masks are alike, and nine of the pixels are marked.
    assert rows["copy"]["miou"] == rows["copy"]["fb_iou"] == 100
    assert rows["everything"]["miou"] == 100 * 9 / (SIZE[0] * SIZE[1])
    assert rows["everything"]["classes"] == {"cat": rows["everything"]["miou"]}
    assert "perseg fold 0 1-shot  copy" in capsys.readouterr().out
    sets, again = tmp_path / "sets", tmp_path / "again.json"
    assert prepare(["perseg", "--source", str(tmp_path / "data"), "--out", str(sets)]) == 0
    assert main([*options, "--data", str(sets), "--json", str(again)]) == 0
    assert again.read_text() == out.read_text()


def test_bad_options_are_one_line(tmp_path, capsys):
    options = ["--benchmark", "perseg", "--data", str(tmp_path), "--weights", "none"]
    assert main(options) == 2
    said = capsys.readouterr().err
    assert said.startswith("evals: error: perseg: ")
    assert said.count("\n") == 1
