from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from train.sharding import (
    MIN_SPLIT,
    make_mesh,
    own_rows,
    put_batch,
    replicate,
    shard_params,
)


@pytest.fixture(scope="module")
def mesh():
    assert jax.device_count() == 2, "tests/conftest.py makes two devices of the CPU"
    return make_mesh()


def test_batches_are_split_along_their_rows(mesh):
    batch = {"pictures": np.arange(12).reshape(6, 2), "kind": np.arange(6)}
    placed = put_batch(batch, mesh, rows=6)
    for name, array in placed.items():
        np.testing.assert_array_equal(array, batch[name])
        parts = sorted(array.addressable_shards, key=lambda shard: shard.index[0].start)
        assert len({part.device for part in parts}) == 2
        for part, rows in zip(parts, np.split(batch[name], 2), strict=True):
            np.testing.assert_array_equal(part.data, rows)


def test_a_batch_that_does_not_divide_is_whole_on_every_device(mesh):
    placed: Any = put_batch({"kind": np.arange(3)}, mesh, rows=3)["kind"]
    for part in placed.addressable_shards:
        np.testing.assert_array_equal(part.data, np.arange(3))


def test_processes_draw_disjoint_shares_unless_devices_cannot_share(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 4)
    monkeypatch.setattr(jax, "device_count", lambda: 8)
    shares = []
    for process in range(4):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        shares += own_rows(16)
        assert list(own_rows(12)) == list(range(12))
    assert shares == list(range(16))


def test_a_mesh_has_as_many_copies_of_the_weights_as_asked_for():
    assert make_mesh().shape == {"data": 1, "fsdp": 2}
    assert make_mesh(1).shape == {"data": 2, "fsdp": 1}
    with pytest.raises(ValueError, match="fsdp 3 does not divide the 2 devices"):
        make_mesh(3)


@pytest.mark.parametrize(
    ("shape", "spec"),
    [
        ((512, 512), ("fsdp", None)),
        ((16, MIN_SPLIT), (None, "fsdp")),
        ((3, 300, 401), (None, "fsdp", None)),
        ((MIN_SPLIT,), ("fsdp",)),
        ((512, 511), ()),  # too small
        ((701, 701), ()),  # no side is even
        ((), ()),
    ],
)
def test_large_parameters_are_split_along_their_longest_even_side(mesh, shape, spec):
    leaf = jax.ShapeDtypeStruct(shape, jnp.float32)
    sharding = shard_params({"leaf": leaf}, mesh)["leaf"]
    assert sharding.is_equivalent_to(
        jax.sharding.NamedSharding(mesh, PartitionSpec(*spec)), len(shape)
    )


def test_what_is_split_lies_half_on_each_device(mesh):
    tree = {"large": jnp.ones((1024, 256)), "small": jnp.ones(5)}
    placed = jax.device_put(tree, shard_params(tree, mesh))
    assert [s.data.shape for s in placed["large"].addressable_shards] == [(512, 256)] * 2
    assert [s.data.shape for s in placed["small"].addressable_shards] == [(5,)] * 2


def test_a_replicated_array_is_whole_on_every_device(mesh):
    array = np.arange(7)
    parts = replicate(array, mesh).addressable_shards
    assert len({part.device for part in parts}) == 2
    for part in parts:
        np.testing.assert_array_equal(part.data, array)
