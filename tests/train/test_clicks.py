import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from data.benchmarks import Pair
from data.clicks import Box, Click, Prompt, Reply, Target, draw_targets
from data.folder import open_folders
from incontext import Promptable
from tests.data.drawn import write_drawn_dataset
from train import clicks as module
from train.clicks import (
    Model,
    evaluate,
    evaluate_pairs,
    load_model,
    main,
    make_progress,
)
from train.evals import click_baselines
from train.evals.click_baselines import load_baselines
from train.evals.click_scores import format_scores, group_means

SAM = Path(__file__).parents[1] / "seggpt" / "golden" / "sam"  # tiny and random
COLUMNS = ["1", "3", "5", "box"]
BASELINES = ["grabcut", "walker", "disk"]


@pytest.fixture
def root(tmp_path):
    write_drawn_dataset(tmp_path, name="trained", pictures=9)
    write_drawn_dataset(tmp_path, name="unseen", pictures=4, seed=1, classes=3)
    write_drawn_dataset(tmp_path, name="plain", seed=2, instances=False)
    write_drawn_dataset(tmp_path, name="views", size=96, instances=False, kind="regions")
    return tmp_path


def by_colour(image):
    """Know the drawn shapes: one colour each."""

    def ask(prompt, memory):
        if prompt.box is None:
            x, y, _ = prompt.clicks[0]
        else:
            x, y = (prompt.box.x0 + prompt.box.x1) // 2, (prompt.box.y0 + prompt.box.y1) // 2
        return Reply(np.abs(image.astype(int) - image[y, x]).max(-1) < 40)

    return ask


def nothing(image):
    return lambda prompt, memory: Reply(np.zeros(image.shape[:2], bool))


def run(root, predictors, **changes):
    options = {"objects": 6, "seed": 0, "unseen": {"unseen", "views", "plain"}} | changes
    return evaluate(predictors, open_folders(root), **options)


def pictures(of_set):
    return {target.picture for target in of_set.asked if isinstance(target, Target)}


def scene():
    """Return a noisy picture of one bright thing, and where it is."""
    size, box = (48, 64), Box(20, 12, 44, 36)
    truth = np.zeros(size, bool)
    truth[box.y0 : box.y1, box.x0 : box.x1] = True
    noise = np.random.default_rng(0).integers(0, 25, (*size, 3))
    return np.where(truth[..., None], (190, 160, 60), (40, 60, 110)).astype(int) + noise, truth


@pytest.fixture(params=BASELINES)
def baseline(request):
    for name, package in (("grabcut", "cv2"), ("walker", "skimage")):
        if request.param == name:
            pytest.importorskip(package)
    return load_baselines()[request.param]


def answer(baseline, image, prompt):
    return baseline(image.astype(np.uint8))(prompt, None).mask


def test_a_baseline_does_what_it_is_told(baseline):
    image, truth = scene()
    middle, beside = Click(32, 24, 1), Click(4, 4, 0)
    mask = answer(baseline, image, Prompt(clicks=(middle, beside)))
    assert mask.shape == truth.shape
    assert mask[24, 32]
    assert not mask[4, 4]


def test_a_baseline_stays_in_its_box(baseline):
    image, _ = scene()
    mask = answer(baseline, image, Prompt(box=Box(16, 10, 50, 40)))
    assert mask.any()
    assert not mask[:, 50:].any()
    assert not mask[40:].any()
    assert not mask[:10].any()
    assert not mask[:, :16].any()


@pytest.mark.parametrize("name", ["grabcut", "walker"])
def test_a_plain_object_is_found(name):
    pytest.importorskip({"grabcut": "cv2", "walker": "skimage"}[name])
    image, truth = scene()
    find = load_baselines()[name]
    for prompt in (Prompt(clicks=(Click(32, 24, 1),)), Prompt(box=Box(16, 8, 48, 40))):
        mask = answer(find, image, prompt)
        assert (mask & truth).sum() / (mask | truth).sum() > 0.85
        np.testing.assert_array_equal(answer(find, image, prompt), mask)  # no chance in it


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 2), (300, 30)])
def test_a_baseline_bears_the_smallest_prompts(baseline, size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3))
    height, width = size
    prompts = [
        Prompt(clicks=(Click(width - 1, height - 1, 1),)),
        Prompt(clicks=(Click(0, 0, 1), Click(width - 1, height - 1, 0))),
        Prompt(box=Box(0, 0, 1, 1)),
        Prompt(box=Box(0, 0, width, height)),
    ]
    for prompt in prompts:
        for pixels in (image, np.full_like(image, 7)):
            assert answer(baseline, pixels, prompt).shape == size


def test_a_missing_package_leaves_its_column_out(monkeypatch, caplog):
    monkeypatch.setattr(
        click_baselines, "find_spec", lambda name: None if name == "cv2" else object()
    )
    assert list(load_baselines()) == ["walker", "disk"]
    [record] = caplog.records
    assert "[eval]" in record.message
    assert "grabcut" in record.message


def test_scores_are_means_over_objects_and_then_over_sets(root):
    scores = run(root, {"model": by_colour, "nothing": nothing})
    assert [(s.name, s.unseen, len(s.asked)) for s in scores] == [
        ("trained", False, 6),
        ("unseen", True, 6),
    ]
    for of_set in scores:
        assert list(of_set.means["model"]) == COLUMNS
        assert of_set.means["nothing"] == dict.fromkeys(COLUMNS, 0.0)
        assert min(of_set.means["model"].values()) > 80
        column = of_set.ious["model"]["3"]
        assert of_set.means["model"]["3"] == pytest.approx(100 * np.mean(column))
    assert group_means(scores)["unseen"] == scores[1].means
    assert group_means(run(root, {"model": by_colour}, unseen=set())).keys() == {"val"}


def test_both_groups_use_their_own_pictures(root):
    [trained, unseen] = run(root, {"nothing": nothing}, objects=100)
    folders = {folder.name: folder for folder in open_folders(root)}
    assert pictures(trained) == set(folders["trained"].pictures("val"))
    assert pictures(unseen) == set(folders["unseen"].pictures())
    drawn = draw_targets(folders["unseen"], count=100, seed=0, split=None)
    assert set(drawn) == set(unseen.asked)


def test_a_picture_is_studied_once(root):
    studied = []

    def watch(image):
        studied.append(image.tobytes())
        return nothing(image)

    [of_set] = run(root / "trained", {"watch": watch})
    assert len(studied) == len(set(studied)) == len(pictures(of_set))


def test_every_predictor_sees_its_own_errors(root):
    clicked = {"everywhere": [], "nowhere": []}

    def make(name, value):
        def predictor(image):
            def ask(prompt, memory):
                if len(prompt.clicks) == 2:
                    clicked[name].append(prompt.clicks[1].label)
                return Reply(np.full(image.shape[:2], value))

            return ask

        return predictor

    run(root, {"everywhere": make("everywhere", True), "nowhere": make("nowhere", False)})
    assert set(clicked["everywhere"]) == {0}
    assert set(clicked["nowhere"]) == {1}


def test_the_model_is_asked_as_sam_is(monkeypatch):
    """One click gives three masks to choose from; a later one corrects the chosen one's logits."""
    asked, answers = [], []
    predict = Promptable.predict

    def watch(self, state, **prompt):
        asked.append(prompt)
        answers.append(predict(self, state, **prompt))
        return answers[-1]

    monkeypatch.setattr(Promptable, "predict", watch)
    model = load_model(str(SAM), pairs=False)
    assert (model.show, model.train_sets) == (None, set())
    ask = model.predictor(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8))
    first = ask(Prompt(clicks=(Click(9, 5, 1),)), None)
    second = ask(Prompt(clicks=(Click(9, 5, 1), Click(2, 3, 0))), first.memory)
    boxed = ask(Prompt(box=Box(2, 3, 12, 14)), None)
    assert {reply.mask.shape for reply in (first, second, boxed)} == {(20, 30)}
    assert [prompt["multimask"] for prompt in asked] == [True, False, False]
    best = answers[0].masks()[0, answers[0].scores[0].argmax()]
    np.testing.assert_array_equal(first.mask, best)
    assert asked[0]["mask"] is None
    assert asked[1]["mask"] is first.memory
    assert asked[1]["points"] == [[9, 5], [2, 3]]
    assert asked[1]["labels"] == [1, 0]
    assert asked[2]["points"] is None
    assert asked[2]["boxes"] == [2, 3, 12, 14]


def colour_segmenter(threshold=40):
    """Stand in for a segmenter that takes clicks: what has the colour of the example's mask.

    A foreground click adds its row to that, a background click takes the row away.
    """

    def show(examples):
        colour = np.mean([pair.image[pair.mask].mean(0) for pair in examples], axis=0)

        def propose(image, click):
            mask = np.abs(image - colour).max(-1) < threshold
            mask[:4] = True  # a mistake to mend
            if click is not None:
                mask[click.y] = click.label
            return mask

        return propose

    return show


def test_a_click_mends_what_a_pair_proposes(root):
    model = Model(nothing, colour_segmenter(), {"trained"})
    scores = evaluate_pairs(
        model, open_folders(root), episodes=8, seed=0, unseen={"unseen", "plain", "views"}
    )
    assert [s.name for s in scores] == ["plain", "trained", "unseen"]  # no regions
    for of_set in scores:
        means = of_set.means["model"]
        assert list(means) == ["pair", "click", "pair + click"]
        assert means["pair + click"] > means["pair"] > means["click"] == 0
        assert len(of_set.asked) == len(of_set.ious["model"]["pair"]) == 8
    assert "pair + click" in format_scores(scores)


def test_a_segmenter_gets_the_click_with_the_context(monkeypatch):
    calls = []

    class Segmenter:
        promptable = SimpleNamespace(metadata={"train_sets": "a,b"})

        @classmethod
        def from_pretrained(cls, name):
            return cls()

        def context(self, examples):
            return [mask for _, mask in examples]

        def segment(self, image, context, **clicked):
            calls.append(clicked)
            return SimpleNamespace(label_map=np.where(context[0], 1, 0))

    fake = SimpleNamespace(
        Segmenter=Segmenter,
        Promptable=None,  # that of the segmenter is taken, so that pictures are encoded alike
        Example=lambda image, mask: (image, mask),
    )
    monkeypatch.setitem(sys.modules, "incontext", fake)
    model = load_model("mine", pairs=True)
    assert model.train_sets == {"a", "b"}
    image, mask = np.zeros((4, 4, 3), np.uint8), np.eye(4, dtype=bool)
    assert model.show is not None
    propose = model.show([Pair(image, mask, ~mask)])
    np.testing.assert_array_equal(propose(image, None), mask)
    propose(image, Click(3, 2, 0))
    assert calls == [{}, {"points": [[3, 2]], "labels": [0]}]


def test_the_command_prints_a_table_and_writes_numbers_and_sheets(root, tmp_path, capsys):
    pytest.importorskip("cv2")
    pytest.importorskip("skimage")
    out, sheets = tmp_path / "scores.json", tmp_path / "sheets"
    data = [str(root / name) for name in ("trained", "unseen", "plain")]
    command = ["--baselines-only", "--train-sets", "trained", "--data", *data, "--objects", "4"]
    assert main([*command, "--json", str(out), "--sheet", str(sheets)]) == 0
    table = capsys.readouterr().out
    assert all(word in table for word in ("grabcut", "box", "= val", "= unseen"))
    report = json.loads(out.read_text())
    of_set = report["clicks"]["datasets"]["unseen"]
    assert of_set["unseen"]
    assert list(of_set["iou"]) == BASELINES
    assert len(of_set["asked"]) == len(of_set["ious"]["disk"]["5"]) == 4
    assert report["clicks"]["means"]["val"]["grabcut"].keys() == set(COLUMNS)
    assert "pairs" not in report
    with Image.open(sheets / "trained.png") as sheet:
        assert sheet.size == (3 * 164, 4 * 180)  # no model


def test_a_model_comes_first_and_brings_its_trained_sets(root, tmp_path, capsys, monkeypatch):
    def load(weights, *, pairs):
        return Model(by_colour, colour_segmenter() if pairs else None, {"trained"})

    monkeypatch.setattr(module, "load_model", load)
    monkeypatch.setattr(module, "load_baselines", lambda: {"nothing": nothing})
    command = ["--weights", "mine", "--pairs", "--objects", "4", "--data", str(root)]
    assert main([*command, "--sheet", str(tmp_path / "sheets")]) == 0
    table = capsys.readouterr().out
    assert table.index("model") < table.index("nothing")
    assert table.index("= val") < table.index("= unseen") < table.index("pair + click")
    with Image.open(tmp_path / "sheets" / "unseen.png") as sheet:
        assert sheet.size == (4 * 164, 4 * 180)
        red, green, _ = np.moveaxis(np.asarray(sheet)[16:176, 328:488], -1, 0)  # the model's
    assert ((green > 200) & (red < 120)).any()  # the first click


def test_weights_say_what_is_unseen_without_being_run(root, capsys, monkeypatch):
    monkeypatch.setattr(module, "load_baselines", lambda: {"nothing": nothing})
    monkeypatch.setattr(module, "read_train_sets", lambda weights: {"unseen"})
    command = ["--weights", "mine", "--baselines-only", "--data", str(root), "--objects", "2"]
    assert main(command) == 0
    table = capsys.readouterr().out
    assert table.index("\nunseen ") < table.index("= val") < table.index("\ntrained ")


def test_shipped_weights_say_what_they_were_trained_on():
    assert "feral_cats" in module.read_train_sets("seggpt-small")
    assert module.read_train_sets(str(SAM)) == set()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "absent"], "absent"),
        (["--data", "trained", "trained"], "one name"),
        (["--data", "plain"], "no instance masks"),
        (["--data", "trained", "--objects", "0"], "count 0"),
        (["--data", "trained", "--pairs"], "needs a model"),
        (["--data", "trained", "--json", "absent/scores.json"], "no folder absent"),
    ],
)
def test_bad_input_is_one_line(root, capsys, monkeypatch, options, message):
    monkeypatch.chdir(root)
    assert main(["--baselines-only", *options]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("clicks: error: ")
    assert message in error


def test_no_weights_is_one_line(root, capsys):
    assert main(["--data", str(root)]) == 2
    assert "--weights" in capsys.readouterr().err
    assert main(["--data", str(root), "--weights", "no-such-weights"]) == 2
    assert "no-such-weights" in capsys.readouterr().err


def test_long_work_says_how_far_it_is(capsys, monkeypatch):
    now = iter(range(0, 1000, 30))
    monkeypatch.setattr(module.time, "monotonic", lambda: next(now))
    advance = make_progress(3, label="objects")
    for _ in range(3):
        advance()
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["objects 1/3, 1.0 minutes left", "objects 2/3, 0.5 minutes left"]
