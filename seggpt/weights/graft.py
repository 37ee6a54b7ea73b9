"""Arrays that were read from a file, in the place of a model's own."""

from collections.abc import Mapping
from typing import Any

import jax


def graft(wanted: Any, given: Mapping[Any, Any]) -> Any:
    """Arrange given arrays as the tree of arrays that a model wants.

    Reading has compared names and shapes with the architecture's already, so a difference here is
    a mistake of the program.
    """
    flat = {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(given)}
    leaves, structure = jax.tree_util.tree_flatten_with_path(wanted)
    arrays = [flat.pop(_name(path)) for path, _ in leaves]
    assert not flat, f"arrays that the model has no place for: {sorted(flat)}"
    for (path, leaf), array in zip(leaves, arrays, strict=True):
        assert array.shape == leaf.shape, f"{_name(path)} is {array.shape}, not {leaf.shape}"
    return jax.tree_util.tree_unflatten(structure, arrays)


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")
