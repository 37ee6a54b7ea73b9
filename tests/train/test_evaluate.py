import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from data.benchmarks import Pair
from data.folder import open_folders
from tests.data.drawn import write_drawn_dataset
from train import evaluate as module
from train.evals.baselines import BASELINES
from train.evals.scores import format_scores
from train.evaluate import SWEEP, Model, evaluate, main


@pytest.fixture
def root(tmp_path):
    write_drawn_dataset(tmp_path, name="trained", pictures=9)
    write_drawn_dataset(tmp_path, name="unseen", seed=1, instances=False, classes=3)
    write_drawn_dataset(tmp_path, name="views", size=96, instances=False, kind="regions")
    return tmp_path


def run(root, predictors, **changes):
    options = {"shots": 1, "episodes": 12, "seed": 0, "unseen": {"unseen", "views"}} | changes
    return evaluate(predictors, open_folders(root), **options)


def by_colour(examples, image):
    """Know the drawn shapes: the class's mean colour is all there is to them."""
    colour = np.mean([pair.image[pair.mask].mean(0) for pair in examples], axis=0)
    return np.abs(image - colour).max(-1) < 40


def nothing(examples, image):
    return np.zeros(image.shape[:2], bool)


def test_perfect_is_100_and_nothing_is_0(root, monkeypatch):
    truths = {}
    load = module.load_episode

    def remember(*args, **options):
        examples, query = load(*args, **options)
        truths[query.image.tobytes()] = query.mask
        return examples, query

    monkeypatch.setattr(module, "load_episode", remember)
    answers = {"perfect": lambda _, image: truths[image.tobytes()], "nothing": nothing}
    # A picture is asked for several classes, each right after it was loaded for it.
    scores = run(root, answers)
    assert scores.table == {
        name: {"perfect": 100.0, "nothing": 0.0} for name in ("trained", "unseen", "views")
    }
    assert scores.val == scores.unseen == {"perfect": 100.0, "nothing": 0.0}


def test_colours_win_where_colours_are_all(root):
    scores = run(root, {"model": by_colour} | BASELINES)
    assert scores.val["model"] > 85
    assert scores.val["histogram"] > 60 > scores.val["copy"]
    assert scores.val["everything"] < 30
    best = {name: max(row[b] for b in BASELINES) for name, row in scores.table.items()}
    gains = [scores.table[name]["model"] - best[name] for name in ("unseen", "views")]
    assert scores.margins("model")["unseen"] == pytest.approx(np.mean(gains))


def test_pixels_add_up_over_episodes_before_they_divide(root):
    [dataset] = run(root / "trained", {"everything": BASELINES["everything"]}).datasets
    assert len(dataset.episodes) == 12
    for counts in dataset.counts["everything"].values():
        [[hit, union]] = counts
        assert union % (46 * 48) == 0  # the two ignored rows never count
        assert 0 < hit < union
    assert sum(c[0, 1] for c in dataset.counts["everything"].values()) == 12 * 46 * 48


def test_repeated_episodes_are_predicted_once_and_counted_each_time(root):
    calls = []
    few = run(root / "trained", {"all": BASELINES["everything"]}, episodes=12, unseen=set())

    def counted(examples, image):
        calls.append(1)
        return nothing(examples, image)

    run(root / "trained", {"counted": counted}, episodes=200, unseen=set())
    assert len(calls) == 2 * 3 * 2  # two classes, three held-out pictures, either as the query
    assert len(few.datasets[0].episodes) == 12


def test_unseen_sets_give_all_pictures_and_others_their_val_split(root):
    seen = {}

    def watch(name):
        def predict(examples, image):
            seen.setdefault(name, set()).update(p.image.tobytes() for p in examples)
            return nothing(examples, image)

        return predict

    run(root / "trained", {"as val": watch("val")}, episodes=200, unseen=set())
    run(root / "trained", {"as unseen": watch("all")}, episodes=200, unseen={"trained"})
    assert (len(seen["val"]), len(seen["all"])) == (3, 9)
    scores = run(root, {"nothing": nothing}, unseen=set())
    assert scores.unseen == {}
    assert scores.best_threshold("nothing") == 0.5


def test_the_threshold_is_chosen_without_unseen_sets(root):
    def timid(examples, image):
        return np.where(by_colour(examples, image), 0.3, 0.0).astype(np.float32)

    scores = run(root, {"model": timid}, sweep=SWEEP)
    assert scores.val["model"] == 0
    assert scores.at(0.3).val == scores.at(0.05).val
    assert scores.best_threshold("model") == 0.3
    assert run(root / "unseen", {"model": timid}, sweep=SWEEP).best_threshold("model") is None
    assert "best on val" in format_scores(scores)
    with pytest.raises(ValueError, match="thresholds"):
        run(root, {"model": timid}, threshold=1.5)


def test_the_command_prints_a_table_and_writes_numbers_and_sheets(root, tmp_path, capsys):
    out, sheets = tmp_path / "scores.json", tmp_path / "sheets"
    options = ["--shots", "1", "2", "--episodes", "4", "--json", str(out), "--sheets", str(sheets)]
    data = [str(root / name) for name in ("trained", "unseen")]
    command = ["--weights", "none", "--data", *data, "--train-sets", "trained", *options]
    assert main(command) == 0
    table = capsys.readouterr().out
    assert "1-shot" in table
    assert "= unseen" in table
    report = json.loads(out.read_text())
    assert [result["shots"] for result in report["results"]] == [1, 2]
    trained = report["results"][0]["datasets"]["trained"]
    assert trained["iou"].keys() == BASELINES.keys()
    assert not trained["unseen"]
    assert report["config"]["seed"] == 0
    with Image.open(sheets / "2-shot" / "unseen.png") as sheet:
        assert sheet.width == 5 * 164


def test_a_model_comes_first_and_brings_its_trained_sets(root, capsys, monkeypatch):
    monkeypatch.setattr(
        module, "load_model", lambda weights, *, detail, size: Model(by_colour, {"trained"}, 0.4)
    )
    assert main(["--weights", "mine", "--data", str(root / "trained"), "--sweep"]) == 0
    table = capsys.readouterr().out
    assert table.index("model") < table.index("copy")
    assert "1-shot, threshold 0.4" in table
    assert "= val" in table
    assert "best baseline: val " in table
    assert "best on val" in table


def test_a_segmenter_predicts_the_probability_of_the_class(monkeypatch):
    class Segmenter:
        def __init__(self):
            self.metadata = {"train_sets": "a,b"}
            self.threshold = 0.4
            self.config = None

        @classmethod
        def from_pretrained(cls, name, *, size):
            assert name == "mine"
            return cls()

        def context(self, examples):
            return [mask for _, mask in examples]

        def segment(self, image, context, *, detail):
            assert detail == "tiles"
            likely = np.mean(context, axis=0)
            return SimpleNamespace(probabilities=lambda: np.stack([1 - likely, likely]))

    fake = SimpleNamespace(Segmenter=Segmenter, Example=lambda image, mask: (image, mask))
    monkeypatch.setitem(sys.modules, "incontext", fake)
    model = module.load_model("mine", detail="tiles")
    image, mask = np.zeros((4, 4, 3), np.uint8), np.eye(4, dtype=bool)
    np.testing.assert_array_equal(model.predict([Pair(image, mask, ~mask)], image), mask)
    assert (model.train_sets, model.threshold) == ({"a", "b"}, 0.4)


@pytest.mark.parametrize("data", [["absent"], ["trained", "trained"]])
def test_a_bad_data_path_is_one_line(root, capsys, data):
    assert main(["--weights", "none", "--data", *(str(root / name) for name in data)]) == 2
    assert capsys.readouterr().err.startswith("evaluate: error: ")
