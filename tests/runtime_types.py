"""The checker that jaxtyping's import hook puts on every function of ours while tests run."""

from collections.abc import Callable
from typing import Self, TypeVar

from beartype import beartype

F = TypeVar("F", bound=Callable[..., object])


def check(function: F) -> F:
    """Check arguments and return values by their annotations.

    beartype refuses `Self` outside classes that it decorates as a whole, and the hook decorates
    function by function, so `Self` alone goes unchecked.
    """
    hints = getattr(function, "__annotations__", {})
    hints.update({name: object for name, hint in hints.items() if hint is Self})
    return beartype(function)
