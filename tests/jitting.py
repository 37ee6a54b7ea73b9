"""Functions under test as one compiled program each, not one for each of their operations."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from flax import nnx


def is_array(leaf: object) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray)


def jitted(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function of trees of arrays; a module's method keeps its weights as arguments.

    Whatever is no array is static. What a module holds is read now, not at each call.
    """
    owner = getattr(function, "__self__", function)
    if not isinstance(owner, nnx.Module):
        return _compile(lambda _, *args, **kwargs: function(*args, **kwargs), None)
    graphdef, state = nnx.split(owner)
    name = "__call__" if owner is function else function.__name__

    def run(params: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(nnx.merge(graphdef, params), name)(*args, **kwargs)

    return _compile(run, nnx.as_pure(state))


def _compile(run: Callable[..., Any], params: Any) -> Callable[..., Any]:
    @partial(jax.jit, static_argnums=0)
    def compiled(static: tuple[Any, tuple[Any, ...]], params: Any, arrays: list[Any]) -> Any:
        tree, leaves = static
        rest = iter(arrays)
        args, kwargs = jax.tree.unflatten(tree, [next(rest) if s is _A else s for s in leaves])
        return run(params, *args, **kwargs)

    def call(*args: Any, **kwargs: Any) -> Any:
        leaves, tree = jax.tree.flatten((args, kwargs))
        static = tuple(_A if is_array(leaf) else leaf for leaf in leaves)
        return compiled((tree, static), params, [leaf for leaf in leaves if is_array(leaf)])

    return call


_A = "<array>"
