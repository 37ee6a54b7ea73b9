import json

import jax
import numpy as np
import pytest

from data.config import DataConfig, PairsConfig
from data.loader import make_loader
from data.pairs import Sampler
from data.pictures import Entry
from tests.data.drawn import Listed

BATCH, STEPS = 4, 6
DEFAULTS = {"size": 2, "batch_size": BATCH, "steps": STEPS, "seed": 0, "threads": 2}


@pytest.fixture
def sampler():
    entries = tuple(Entry({c: c}, {}, {c: 0.5}) for c in (1, 2, 3) for _ in range(6))
    return Sampler([Listed("s", "semantic", entries)], PairsConfig(two_views=(1.0, 0.0)))


def loader(sampler, **changes):
    return make_loader(sampler, **DEFAULTS | changes)


def assert_equal(batches, others):
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        assert batch.keys() == other.keys()
        for name in batch:
            np.testing.assert_array_equal(batch[name], other[name])


def test_a_loader_gives_so_many_batches_the_same_for_a_seed(sampler):
    batches = list(loader(sampler))
    assert len(batches) == STEPS
    assert batches[0]["pictures"].shape == (BATCH, 4)
    assert_equal(batches, list(loader(sampler)))
    other = list(loader(sampler, seed=1))
    assert any((a["pictures"] != b["pictures"]).any() for a, b in zip(batches, other, strict=True))


@pytest.mark.parametrize("taken", [0, 1, 4])
def test_a_saved_state_gives_the_identical_rest(sampler, taken):
    started = loader(sampler)
    for _ in range(taken):
        next(started)
    state = json.loads(json.dumps(started.get_state()))
    resumed = loader(sampler)
    resumed.set_state(state)
    rest = list(resumed)
    assert len(rest) == STEPS - taken
    assert_equal(rest, list(started))
    assert_equal(rest, list(loader(sampler))[taken:])


def test_hosts_share_out_every_batch(sampler, monkeypatch):
    whole = list(loader(sampler))
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    for host in range(2):
        monkeypatch.setattr(jax, "process_index", lambda host=host: host)
        share = [{name: np.split(rows, 2)[host] for name, rows in batch.items()} for batch in whole]
        assert_equal(list(loader(sampler)), share)


def test_a_batch_that_hosts_cannot_share_is_refused(sampler, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    with pytest.raises(ValueError, match="batch_size 4 is not a multiple of the 3 hosts"):
        loader(sampler)


def test_the_mixture_moves_from_the_first_batch_to_the_last(sampler):
    batches = list(loader(sampler, batch_size=50))
    alone = [np.mean([len(set(row)) == 1 for row in b["pictures"].tolist()]) for b in batches]
    assert alone[0] > 0.8
    assert alone[-1] < 0.3


def test_more_threads_give_the_same_batches(sampler):
    assert_equal(list(loader(sampler, threads=1)), list(loader(sampler, threads=5)))


def test_no_threads_are_refused():
    with pytest.raises(ValueError, match="threads 0 must be 1 or more"):
        DataConfig(threads=0)
