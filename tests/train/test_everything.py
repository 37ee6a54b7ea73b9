import json
from types import SimpleNamespace

import numpy as np
import pytest

from data.folder import open_folders
from tests.data.drawn import write_drawn_dataset
from train import everything
from train.everything import Sweeps, best_ious, evaluate, format_scores, main, objects_of


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("everything")
    write_drawn_dataset(root, name="seen", pictures=8, classes=2)
    write_drawn_dataset(root, name="unseen", pictures=5, classes=2, seed=1)
    write_drawn_dataset(root, name="plain", pictures=5, instances=False, seed=2)
    return root


def draw(y0, y1):
    mask = np.zeros((8, 8), bool)
    mask[y0:y1] = True
    return mask


def test_every_object_has_its_best_mask():
    ious = best_ious([draw(0, 4), draw(4, 5)], [draw(0, 4), draw(0, 3), draw(4, 6), draw(7, 8)])
    np.testing.assert_allclose(ious, [1, 3 / 4, 1 / 2, 0])
    np.testing.assert_array_equal(best_ious([], [draw(0, 1)]), [0])


def test_who_marks_every_object_finds_all_and_who_marks_nothing_none(root):
    folders = open_folders(root)
    by_image = {
        folder.image(name).tobytes(): objects_of(folder, name)
        for folder in folders
        if folder.has_instances
        for name in folder.pictures()
    }
    finders = {
        "all": lambda image: by_image[image.tobytes()],
        "twice": lambda image: 2 * by_image[image.tobytes()],
        "none": lambda image: [],
    }
    scores = evaluate(finders, folders, pictures=3, seed=0, unseen={"unseen"})
    assert scores.keys() == {"seen", "unseen"}
    for row in scores.values():
        assert row["all"].recall == row["twice"].recall == 100
        assert row["none"].recall == row["none"].masks == 0
        assert row["twice"].masks == 2 * row["all"].masks == 2 * row["all"].objects
    assert scores["unseen"]["all"].pictures == 3
    fewer = evaluate(finders, folders, pictures=1, seed=0, unseen={"unseen"})
    assert fewer["unseen"]["all"].objects <= scores["unseen"]["all"].objects


def test_sets_without_instances_are_no_score(root):
    plain = open_folders(root / "plain")
    with pytest.raises(ValueError, match="no instance masks with objects to find"):
        evaluate({}, plain, pictures=2, seed=0, unseen=set())


def test_the_table_has_a_mean_for_each_group():
    row = {"model": Sweeps(10, 5, 40, 2, 3.0), "other": Sweeps(10, 2, 20, 2, 1.0)}
    table = format_scores({"a": row, "b": row}, unseen={"b"}).splitlines()
    assert [line.split()[0] for line in table[2:]] == ["a", "=", "b", "="]
    assert table[2].split()[1:] == ["50.0", "20.0", "1.5", "20.0", "10.0", "0.5"]
    assert table[3].split()[2:] == table[2].split()[1:]


def test_the_command_prints_a_table_and_writes_numbers(root, tmp_path, monkeypatch, capsys):
    class Generator:
        model = SimpleNamespace(metadata={"train_sets": "seen"})

        @classmethod
        def from_pretrained(cls, weights, **options):
            assert options == {"points_per_side": 4, "prompts": "grid", "pred_iou_thresh": 0.5}
            return cls()

        def generate(self, image):
            return [{"segmentation": np.ones(image.shape[:2], bool)}]

    monkeypatch.setattr("incontext.everything.generator.AutomaticMaskGenerator", Generator)
    monkeypatch.setattr(everything, "find_spec", lambda _: None)
    out = tmp_path / "out.json"
    command = ["--weights", "mine", "--data", str(root), "--pictures", "2", "--json", str(out)]
    assert main([*command, "--points-per-side", "4", "--pred-iou-thresh", "0.5"]) == 0
    assert "= unseen" in capsys.readouterr().out
    report = json.loads(out.read_text())
    assert report["datasets"]["seen"]["model"]["masks"] == 2
