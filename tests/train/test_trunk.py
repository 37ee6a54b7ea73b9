"""A trunk learns classes among those of a picture's own data set."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from data.classes import ClassSampler
from data.config import PairsConfig
from seggpt.coloring import IGNORE
from tests.train.tiny import tiny_config, tiny_pack
from train.config import TrunkConfig
from train.trunk import allowed_classes, entropy, make_trunk_probe


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    return tiny_pack(tmp_path_factory.mktemp("trunk"), split="val")


def test_classes_of_other_sets_and_ignored_cells_do_not_matter():
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(2, 4, 4, 6)), jnp.float32)
    labels = rng.integers(0, 3, (2, 4, 4))
    labels[:, :2] = IGNORE
    allowed = (jnp.arange(6) < 3)[None, None, None]

    def loss(logits):
        return float(entropy(logits, jnp.asarray(labels), allowed, jnp.ones(6)))

    before = loss(logits)
    assert loss(logits.at[..., 3:].add(5.0)) == pytest.approx(before)
    assert loss(logits.at[:, :2].multiply(-3.0)) == pytest.approx(before)
    assert loss(logits.at[:, 2:, :, 0].add(5.0)) != pytest.approx(before)


def test_every_set_may_have_its_own_classes(pack):
    sampler = ClassSampler(pack, PairsConfig())
    assert allowed_classes(sampler).tolist() == [[True] * len(sampler.shares)]


def test_the_truth_scores_one_and_background_nothing(pack):
    sampler = ClassSampler(pack, PairsConfig())
    config = trunk_config()
    probe = make_trunk_probe(pack, sampler, config)
    assert probe.images.shape[1] == 2 * config.model.image_size
    truth = np.where(probe.labels == IGNORE, 0, probe.labels)[:, ::2, ::2]
    assert probe.score(truth) == {"iou": pytest.approx(1)}
    assert probe.score(np.zeros_like(truth)) == {"iou": 0}
    assert probe.sheet(truth, rows=2).size == (3 * probe.images.shape[1], 2 * probe.images.shape[1])


@pytest.mark.parametrize("size", [0, 48])
def test_views_that_do_not_fit_are_refused(size):
    with pytest.raises(ValueError, match=f"view_size {size} of a trunk"):
        dataclasses.replace(trunk_config(), view_size=size)


def trunk_config():
    return tiny_config(trunk=TrunkConfig(), view_size=32, shots=((1, 1.0),))
