import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seggpt.weights.tree import flatten, unflatten

KEYS = st.integers(0, 10**9 - 1) | st.text(
    st.characters(exclude_characters="."), min_size=1
).filter(lambda text: not text.isdigit())
TREES = st.recursive(
    st.dictionaries(KEYS, st.floats(), min_size=1),
    lambda inner: st.dictionaries(KEYS, inner, min_size=1),
    max_leaves=10,
)


@given(TREES)
@settings(max_examples=50, deadline=None)
def test_every_tree_comes_back(tree):
    assert repr(sorted(flatten(unflatten(flatten(tree))))) == repr(sorted(flatten(tree)))
    assert unflatten(flatten(tree)).keys() == tree.keys()


def test_list_indices_are_ints_and_in_order():
    tree = {"blocks": {i: {"kernel": i} for i in range(12)}, "norm": {"scale": 0}}
    flat = flatten(tree)
    assert flat["blocks.10.kernel"] == 10
    assert list(unflatten(dict(reversed(flat.items())))["blocks"]) == list(range(12))


@pytest.mark.parametrize("key", ["a.b", "", "3", -1, True, 1.5, None])
def test_keys_that_would_not_come_back_are_refused(key):
    with pytest.raises(ValueError, match="parameter key"):
        flatten({key: 0})


def test_an_empty_level_is_refused():
    with pytest.raises(ValueError, match="holds no arrays"):
        flatten({"a": {}})


@pytest.mark.parametrize("names", [["a", "a.b"], ["a.b", "a.b.c"], ["a..b"], [""], ["a."]])
def test_contradicting_names_are_refused(names):
    with pytest.raises(ValueError, match="tensor"):
        unflatten(dict.fromkeys(names, 0))
