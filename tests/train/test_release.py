import json
from pathlib import Path

import numpy as np
import pytest

from seggpt.config import SegGPTConfig
from seggpt.weights import load_weights, save_weights
from tests.data.drawn import write_drawn_dataset
from train.release import main


def scores(val: float, unseen: float) -> dict:
    row = {"model": val, "copy": 1.0, "histogram": 2.0, "everything": 3.0}
    other = row | {"model": unseen}
    results = [
        {
            "shots": shots,
            "threshold": 0.35,
            "means": {"val": row, "unseen": other},
            "datasets": {
                "drawn": {"unseen": False, "iou": row},
                "other": {"unseen": True, "iou": other},
            },
        }
        for shots in (1, 4)
    ]
    return {"results": results}


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    write_drawn_dataset(tmp_path / "data" / "drawn", name="drawn")
    save_weights(
        tmp_path / "run.safetensors",
        {"a": np.full((2, 2), 1.5, np.float32)},
        config=SegGPTConfig.tiny().to_dict(),
        metadata={"train_sets": "drawn,pasted_sprites"},
    )
    for result in scores(40.0, 30.0)["results"]:  # one file a number of shots, or one for all
        path = tmp_path / f"scores_{result['shots']}.json"
        path.write_text(json.dumps({"results": [result]}))
    (tmp_path / "failures.md").write_text("- It fails.\n")
    return [
        *("--failures", str(tmp_path / "failures.md")),
        *("--weights", str(tmp_path / "run.safetensors")),
        *("--scores", str(tmp_path / "scores_1.json"), str(tmp_path / "scores_4.json")),
        *("--data", str(tmp_path / "data")),
        *("--command", "python -m train"),
        *("--evaluation", "python -m train.evaluate"),
        *("--name", "toy", "-o", str(tmp_path)),
    ]


def test_weights_carry_their_threshold_and_scores_and_the_card_its_table(
    arguments: list[str], tmp_path: Path
) -> None:
    assert main(arguments) == 0
    loaded = load_weights(tmp_path / "toy.safetensors")
    assert loaded.metadata["threshold"] == "0.35"
    assert json.loads(loaded.metadata["scores"])["unseen_4"] == 30.0
    assert SegGPTConfig.from_dict(loaded.config) == SegGPTConfig.tiny()
    card = (tmp_path / "toy.md").read_text()
    for part in (
        "| drawn | 40.0 | 1.0 |",
        "**unseen** | 30.0",
        "- It fails.",
        "python -m train.evaluate",
        "## Data",
    ):
        assert part in card


def test_worse_weights_do_not_replace_better_ones(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(arguments) == 0
    before = (tmp_path / "toy.safetensors").read_bytes()
    (tmp_path / "scores_1.json").write_text(json.dumps(scores(50.0, 29.0)))
    assert main(arguments) == 2
    assert "--force" in capsys.readouterr().err
    assert (tmp_path / "toy.safetensors").read_bytes() == before
    assert main([*arguments, "--force"]) == 0


def test_a_missing_file_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture) -> None:
    arguments[1] = "nowhere.safetensors"
    assert main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1


def click_report(unseen: float) -> dict:
    """Return what `train.clicks --pairs --json` writes, of two predictors and two columns."""

    def part(predictors: list[str], columns: list[str]) -> dict:
        row = {name: dict.fromkeys(columns, unseen - i) for i, name in enumerate(predictors)}
        sets = {"drawn": {"unseen": False, "iou": row}, "other": {"unseen": True, "iou": row}}
        return {"means": {"val": row, "unseen": row}, "datasets": sets}

    return {
        "config": {"objects": 7},
        "clicks": part(["model", "grabcut"], ["1", "box"]),
        "pairs": part(["model"], ["pair", "click", "pair + click"]),
    }


def test_clicks_get_their_tables_and_weights_that_click_worse_are_refused(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    clicks = tmp_path / "clicks.json"
    clicks.write_text(json.dumps(click_report(60.0)))
    assert main([*arguments, "--clicks", str(clicks)]) == 0
    card = (tmp_path / "toy.md").read_text()
    for line in (
        "    python -m train.clicks --weights toy --data train validation --objects 7 --pairs",
        "| clicks and box | model 1 | model box | grabcut 1 | grabcut box |",
        "| drawn | 60.0 | 60.0 | 59.0 | 59.0 |",
        "| pair and click | pair | click | pair + click |",
        "| *other* | 60.0 | 60.0 | 60.0 |",
    ):
        assert line in card
    assert main(arguments) == 2  # without clicks, as if they scored nothing
    clicks.write_text(json.dumps(click_report(59.0)))
    assert main([*arguments, "--clicks", str(clicks)]) == 2
    assert "60.0 with clicks and boxes, the new weights 59.0" in capsys.readouterr().err
