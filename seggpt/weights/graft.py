"""Loaded arrays in the structure of a model's own, checked."""

from collections.abc import Mapping
from typing import Any

import jax

from seggpt.errors import CheckpointError


def graft(wanted: Any, given: Mapping[Any, Any]) -> Any:
    """Arrange given arrays as the tree of arrays that a model wants.

    Raises:
        CheckpointError: if they are not that model's.
    """
    flat = {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(given)}
    leaves, structure = jax.tree_util.tree_flatten_with_path(wanted)
    names = [_name(path) for path, _ in leaves]
    if wrong := sorted(flat.keys() ^ set(names)):
        raise CheckpointError(
            f"{len(wrong)} arrays are missing or too many for the architecture that the file "
            f"names, e.g. {wrong[0]}; get the file again"
        )
    arrays = [flat[name] for name in names]
    for name, (_, leaf), array in zip(names, leaves, arrays, strict=True):
        if array.shape != leaf.shape:
            raise CheckpointError(
                f"{name} is {array.shape}, not {leaf.shape} as the architecture that the file "
                "names has it; get the file again"
            )
    return jax.tree_util.tree_unflatten(structure, arrays)


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")
