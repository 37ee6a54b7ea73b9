"""Adapters come back from a file as they were, but for what a few bits cannot hold."""

import jax
import numpy as np
import pytest

from incontext.packing import pack, packed_bytes, unpack
from seggpt.adapter import fresh_adapter


@pytest.fixture(scope="module")
def members():
    """Adapters that went a little apart."""
    rng = np.random.default_rng(0)

    def apart(leaf):
        leaf = np.asarray(leaf)
        return leaf + 0.02 * rng.standard_normal(leaf.shape).astype(np.float32)

    first = fresh_adapter(3, 2, seed=0)
    return tuple(jax.tree.map(apart, first) for _ in range(4))


def test_members_come_back_nearly_as_they_were(members):
    back = unpack(pack(members))
    assert jax.tree.structure(back) == jax.tree.structure(members)
    first = jax.tree.leaves(members[0])
    for number, (one, other) in enumerate(zip(members, back, strict=True)):
        for a, b, whole in zip(jax.tree.leaves(one), jax.tree.leaves(other), first, strict=True):
            assert a.shape == b.shape
            assert b.dtype == np.float32
            # 127 steps up to the largest number, or 7 up to the largest difference.
            step = np.abs(a).max() / 127 if number == 0 else np.abs(a - whole).max() / 7
            assert np.abs(a - b).max() <= (0.6 * step if a.ndim > 1 else 1e-3)


def test_what_came_back_stays_as_it_is(members):
    once = pack(unpack(pack(members)))
    for a, b in zip(jax.tree.leaves(once), jax.tree.leaves(pack(members)), strict=True):
        if a.dtype == np.float32:
            np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-6)
        else:
            assert (a != b).mean() < 0.02


def test_equal_adapters_do_not_differ(members):
    first, second = unpack(pack([members[0], unpack(pack(members[:1]))[0]]))
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)


def test_zeros_stay_zeros():
    [back] = unpack(pack([jax.tree.map(np.zeros_like, fresh_adapter(2, 2, seed=0))]))
    assert not any(leaf.any() for leaf in jax.tree.leaves(back))


@pytest.mark.parametrize("count", [1, 4])
def test_the_size_of_a_file_is_known_before(members, count):
    packed = pack(members[:count])
    halves = sum(leaf.size * min(leaf.dtype.itemsize, 2) for leaf in jax.tree.leaves(packed))
    assert packed_bytes(3, 2, count) == halves
    assert halves < 1.1 * (1 + (count - 1) / 2) * 1_600_000


def test_other_arrays_are_no_adapters(members):
    packed = pack(members[:2])
    del packed["head"]["kernel"]["scale"]
    with pytest.raises(KeyError):
        unpack(packed)
