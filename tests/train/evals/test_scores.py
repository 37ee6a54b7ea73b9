import json

import numpy as np
import pytest

from data.benchmarks import Episode, Pair
from train.evals.scores import DatasetScores, Scores, count_pixels, format_scores, to_json
from train.evaluate import SWEEP


def dataset(name, *, unseen=False, **predictors):
    """Say for every predictor and class at each threshold how many of 100 pixels were right."""
    counts = {
        predictor: {c: np.array([[hit, 100] for hit in hits]) for c, hits in classes.items()}
        for predictor, classes in predictors.items()
    }
    episode = Episode(name, 1, "cat", "query", ("example",))
    return DatasetScores(name, unseen, (episode,), counts, dict.fromkeys(predictors, 0.5))


@pytest.fixture
def scores():
    pets = dataset(
        "pets", model={"cat": [80, 40], "dog": [60, 20]}, copy={"cat": [20, 20], "dog": [40, 40]}
    )
    cars = dataset("cars", unseen=True, model={"car": [10, 50]}, copy={"car": [20, 20]})
    return Scores((pets, cars), (0.3, 0.6), 0.3)


def test_thresholds_of_one_pass_equal_passes_of_their_own():
    rng = np.random.default_rng(0)
    mask, ignore = rng.random((2, 20, 30)) < 0.3
    query = Pair(np.zeros((20, 30, 3), np.uint8), mask, ignore)
    likely = rng.random((20, 30)).astype(np.float32)
    at_once = count_pixels(likely, query, thresholds=SWEEP)
    for threshold, (hit, union) in zip(SWEEP, at_once, strict=True):
        guess = likely >= threshold
        assert hit == (guess & mask & ~ignore).sum()
        assert union == ((guess | mask) & ~ignore).sum()


def test_a_yes_or_no_is_the_same_at_every_threshold():
    mask = np.eye(4, dtype=bool)
    query = Pair(np.zeros((4, 4, 3), np.uint8), mask, np.zeros_like(mask))
    np.testing.assert_array_equal(
        count_pixels(~mask, query, thresholds=SWEEP), [[0, 16]] * len(SWEEP)
    )


def test_means_are_over_classes_then_over_data_sets(scores):
    assert scores.table == {"pets": {"model": 70, "copy": 30}, "cars": {"model": 10, "copy": 20}}
    assert scores.val == {"model": 70, "copy": 30}
    assert scores.unseen == {"model": 10, "copy": 20}
    assert scores.at(0.6).unseen["model"] == 50


def test_margins_are_over_the_best_baseline(scores):
    assert scores.margins("model") == {"val": 40, "unseen": -10}
    assert scores.at(0.6).margins("model") == {"val": 0, "unseen": 30}
    assert scores.margins("copy") == {}


def test_the_best_threshold_does_not_look_at_unseen_sets(scores):
    assert scores.best_threshold("model") == 0.3
    only_unseen = Scores(scores.datasets[1:], scores.thresholds, 0.3)
    assert only_unseen.best_threshold("model") is None


def test_text_shows_groups_margins_and_the_sweep(scores):
    lines = format_scores(scores).splitlines()
    assert [line.split()[0] for line in lines[:5]] == ["mean", "pets", "=", "cars", "="]
    assert lines[1].split() == ["pets", "70.0", "30.0"]
    assert lines[5].endswith("val +40.0, unseen -10.0")
    assert [line.endswith("best on val") for line in lines[-2:]] == [True, False]


def test_json_holds_everything_and_can_be_read_back(scores):
    report = json.loads(json.dumps(to_json(scores)))
    assert report["means"] == {"val": scores.val, "unseen": scores.unseen}
    assert report["datasets"]["pets"]["counts"]["model"]["dog"] == [[60, 100], [20, 100]]
    assert report["margins"] == {"val": 40, "unseen": -10}
    assert report["sweep"]["0.6"] == {"val": scores.at(0.6).val, "unseen": scores.at(0.6).unseen}


def test_no_data_sets_give_empty_reports():
    empty = Scores((), (0.5,), 0.5)
    assert (empty.val, empty.unseen, empty.margins("model")) == ({}, {}, {})
    assert to_json(empty)["datasets"] == {}
    assert "mean IoU" in format_scores(empty)
