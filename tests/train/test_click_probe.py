from dataclasses import replace

import jax
import numpy as np
import pytest

from data.folder import open_folders
from data.pack import pack_folders
from seggpt.canvas import MEAN, STD
from seggpt.coloring import IGNORE
from tests.data.drawn import write_drawn_dataset
from tests.train.tiny import HEADS, SIZE, tiny_config, tiny_model
from train.click_probe import CLICKS, Found, make_click_probe, make_clicker
from train.config import ClicksConfig
from train.state import init_params

MODEL = tiny_model(**HEADS)
CONFIG = tiny_config(MODEL, clicks=ClicksConfig(), shots=((0, 1.0),))
COUNT = 6  # of each data set; 18 targets are more than one batch


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    root = tmp_path_factory.mktemp("probe")
    write_drawn_dataset(root, name="a", pictures=9, size=SIZE)
    write_drawn_dataset(root, name="b", pictures=6, size=SIZE, classes=1, seed=3, instances=False)
    write_drawn_dataset(root, name="c", kind="regions", instances=False)
    return pack_folders(open_folders(root), size=SIZE, split="val")


@pytest.fixture(scope="module")
def probe(pack):
    return make_click_probe(pack, CONFIG, per_source=COUNT)


@pytest.fixture(scope="module")
def params():
    shapes = jax.eval_shape(lambda: init_params(MODEL, jax.random.key(0)))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda a: (0.3 * rng.normal(size=a.shape)).astype(a.dtype), shapes)


@pytest.fixture(scope="module")
def look():
    return make_clicker(CONFIG)


@pytest.fixture(scope="module")
def found(look, params, probe):
    return look(params, probe)


def truth_of(probe):
    return np.asarray(probe.views.labels[:, 0] == 1)


def test_targets_are_marked_in_whole_untouched_pictures_of_every_set(pack, probe):
    assert probe.sources == ("a",) * COUNT + ("b",) * COUNT + ("c",) * COUNT
    assert probe.views.images.shape == (3 * COUNT, 1, SIZE, SIZE, 3)
    rgb = np.asarray(probe.views.images[:, 0]) * STD + MEAN
    nearest = np.abs(rgb[:, None] * 255 - pack.images).max(axis=(2, 3, 4))
    assert (nearest.min(axis=1) < 0.01).all()
    for number, source in enumerate(pack.sources):
        own = nearest.argmin(axis=1)[number * COUNT : (number + 1) * COUNT]
        assert set(own.tolist()) <= set(range(source.start, source.start + len(source.entries)))
    labels = np.asarray(probe.views.labels)
    assert set(np.unique(labels).tolist()) <= {0, 1, IGNORE}
    assert truth_of(probe).any(axis=(1, 2)).all()


def test_every_look_is_at_the_same_targets(pack, probe):
    again = make_click_probe(pack, CONFIG, per_source=COUNT)
    other = make_click_probe(pack, replace(CONFIG, seed=1), per_source=COUNT)
    np.testing.assert_array_equal(again.views.labels, probe.views.labels)
    np.testing.assert_array_equal(again.views.images, probe.views.images)
    assert (np.asarray(other.views.labels) != np.asarray(probe.views.labels)).any()


def found_with(clicks, box):
    rows = np.broadcast_to(np.reshape(clicks, (CLICKS, -1)), (CLICKS, 3 * COUNT))
    return Found(rows, np.broadcast_to(box, 3 * COUNT), np.zeros((3 * COUNT, SIZE, SIZE), bool))


def test_scores_are_after_one_three_and_five_clicks_and_with_a_box(probe):
    scores = probe.score(found_with([0.1, 0.2, 0.3, 0.4, 0.5], 0.9))
    assert scores.keys() == {"clicks_1", "clicks_3", "clicks_5", "box"}
    assert scores == pytest.approx({"clicks_1": 0.1, "clicks_3": 0.3, "clicks_5": 0.5, "box": 0.9})


def test_data_sets_count_alike_and_small_targets_do_not(probe):
    area = truth_of(probe).mean(axis=(1, 2))
    names = np.asarray(probe.sources)
    least = float(np.median(area)) + 1e-6
    pairs = replace(CONFIG.pictures.pairs, min_area=least)
    config = replace(CONFIG, data=replace(CONFIG.data, pairs=pairs))
    asked = (area >= least) & (area < 0.9)
    assert 0 < asked.sum() < len(asked)
    box = np.random.default_rng(0).random(3 * COUNT)
    sets = [box[(names == name) & asked] for name in "abc"]
    want = np.mean([part.mean() for part in sets if len(part)])
    score = replace(probe, config=config).score(found_with([0.0] * CLICKS, box))
    assert score["box"] == pytest.approx(want)


def test_a_look_clicks_at_every_target(found, probe):
    count = len(probe.sources)
    assert found.clicks.shape == (CLICKS, count)
    assert found.box.shape == (count,)
    assert found.masks.shape == (count, SIZE, SIZE)
    assert found.masks.dtype == bool
    for iou in (found.clicks, found.box):
        assert np.isfinite(iou).all()
        assert iou.min() >= 0
        assert iou.max() <= 1


def test_masks_are_those_of_the_last_click(found, probe):
    truth, known = truth_of(probe), np.asarray(probe.views.labels[:, 0] != IGNORE)
    both = (found.masks & truth & known).sum(axis=(1, 2))
    either = ((found.masks | truth) & known).sum(axis=(1, 2))
    np.testing.assert_allclose(found.clicks[-1], both / np.maximum(either, 1), atol=1e-6)


def test_the_same_weights_are_seen_alike_again(found, look, params, probe):
    again = look(params, probe)
    for ours, theirs in zip(found, again, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_sheet_shows_targets_as_rows(probe):
    truth = truth_of(probe)
    perfect = found_with([1.0] * CLICKS, 1.0)._replace(masks=truth)
    sheet = probe.sheet(perfect, rows=4)
    assert sheet.size == (3 * SIZE, 4 * SIZE)
    picture, ours, theirs = np.split(np.asarray(sheet).astype(int), 3, axis=1)
    np.testing.assert_array_equal(ours, theirs)
    changed = (picture != ours).any(axis=-1)[:SIZE]
    np.testing.assert_array_equal(changed, truth[0])
    nothing = probe.sheet(perfect._replace(masks=np.zeros_like(truth)), rows=4)
    columns = np.split(np.asarray(nothing), 3, axis=1)
    np.testing.assert_array_equal(columns[0], columns[1])
    assert probe.sheet(perfect).height == 12 * SIZE
