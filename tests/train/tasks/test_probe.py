import jax
import numpy as np
import pytest
from flax import nnx

from data.folder import open_folders
from data.pictures import open_sources
from seggpt.canvas import MEAN, STD
from seggpt.palette import IGNORE
from tests.data.drawn import write_drawn_dataset
from tests.train.tiny import SIZE, tiny_config, tiny_model
from train.state import init_params, split_model
from train.tasks.probe import make_painter, make_probe


@pytest.fixture(scope="module")
def held_out(tmp_path_factory):
    root = tmp_path_factory.mktemp("probe")
    write_drawn_dataset(root, name="a", pictures=9, size=SIZE)
    write_drawn_dataset(root, name="b", pictures=6, size=SIZE, classes=1, seed=3, instances=False)
    write_drawn_dataset(root, name="c", kind="regions", instances=False)
    return open_sources(open_folders(root), split="val")


@pytest.fixture(scope="module")
def probe(held_out):
    return make_probe(held_out, tiny_config(), per_source=5)


def test_pairs_are_whole_untouched_pictures_that_share_a_class(held_out, probe):
    assert probe.sources == ("a",) * 5 + ("b",) * 5  # regions have no pairs
    assert probe.views.images.shape == (10, 2, SIZE, SIZE, 3)
    rgb = np.asarray(probe.views.images) * STD + MEAN
    images = [own.read(n, SIZE).image for own in held_out for n in range(len(own))]
    nearest = np.abs(rgb[:, :, None] * 255 - np.stack(images)).max(axis=(3, 4, 5))
    assert (nearest.min(axis=-1) < 0.01).all()
    pairs = nearest.argmin(axis=-1)
    assert (pairs[:, 0] != pairs[:, 1]).all()
    assert (pairs[:5] < 3).all()
    labels = np.asarray(probe.views.labels)
    assert set(np.unique(labels)) == {0, 1, IGNORE}
    assert (labels == 1).any(axis=(2, 3)).all()


def test_every_look_is_at_the_same_pairs(held_out, probe):
    again = make_probe(held_out, tiny_config(), per_source=5)
    for ours, theirs in zip(
        jax.tree.leaves(probe.views), jax.tree.leaves(again.views), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_the_truth_scores_one_and_nothing_zero(probe):
    truth = np.asarray(probe.views.targets)[:, 1]
    assert probe.score(truth)["iou"] == 1
    black = np.broadcast_to(-MEAN / STD, truth.shape).astype(np.float32)
    assert probe.score(black)["iou"] == 0
    half = truth.copy()
    half[5:] = black[5:]  # the second data set
    assert probe.score(half)["iou"] == 0.5


def test_copying_the_mask_is_scored_beside(probe):
    labels = np.asarray(probe.views.labels)
    means = []
    for part in (labels[:5], labels[5:]):
        known = part[:, 1] != IGNORE
        guess, truth = (part[:, 0] == 1) & known, part[:, 1] == 1
        means.append((guess & truth).sum() / (guess | truth).sum())
    copied = probe.score(np.asarray(probe.views.targets)[:, 0])
    assert copied["copy_iou"] == pytest.approx(np.mean(means))
    # What is painted where the example is to be ignored differs from a copied mask by no more.
    assert copied["iou"] == pytest.approx(copied["copy_iou"], abs=1e-6)


def test_a_sheet_shows_samples_as_rows(probe):
    truth = np.asarray(probe.views.targets)[:, 1]
    sheet = probe.sheet(truth, rows=4)
    assert sheet.size == (5 * SIZE, 4 * SIZE)
    columns = np.split(np.asarray(sheet), 5, axis=1)
    np.testing.assert_array_equal(columns[3], columns[4])
    image = np.asarray(probe.views.images)[0, 0] * STD + MEAN
    np.testing.assert_allclose(columns[0][:SIZE] / 255, image, atol=1.01 / 255)
    assert probe.sheet(truth).height == 12 * SIZE


@pytest.mark.parametrize("attention", ["prefix", "mutual"])
def test_batches_are_painted_as_the_model_paints(probe, attention):
    config = tiny_config(tiny_model(attention))
    params = init_params(config.seggpt, jax.random.key(0))
    painted = make_painter(config, batch=4)(params, probe)
    views = probe.views
    model = nnx.merge(split_model(config.seggpt), params)
    expected = jax.jit(model)(
        views.images[:, :1], views.targets[:, :1], views.images[:, 1], kind=views.kind
    )
    np.testing.assert_allclose(painted, expected, rtol=1e-4, atol=1e-5)


def test_without_pairs_there_is_no_probe(tmp_path):
    write_drawn_dataset(tmp_path, name="only", kind="regions", instances=False)
    held_out = open_sources(open_folders(tmp_path), split="val")
    with pytest.raises(ValueError, match="no class is in two of the held-out pictures"):
        make_probe(held_out, tiny_config())
