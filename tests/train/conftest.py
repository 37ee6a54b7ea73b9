"""Runs of one recipe in one process that share what is compiled for it."""

from collections.abc import Callable
from typing import Any

import pytest

from train import loop
from train.tasks import finetune, in_context, masked, pairs
from train.tasks.prompts import PromptsTask

MAKERS = (
    *((loop, "make_optimizer"), (pairs, "make_train_step"), (pairs, "make_painter")),
    *((in_context, "make_in_context_step"), (in_context, "cached_painter")),
    *((finetune, "encoding_painter"), (masked, "make_masked_step")),
    (masked, "make_masked_painter"),
)


@pytest.fixture(scope="session")
def compiled_once():
    """Make each recipe's optimizer and functions once, which JAX then compiles once.

    Each run still has a task of its own.
    """
    with pytest.MonkeyPatch.context() as patch:
        for module, name in MAKERS:
            patch.setattr(module, name, once(getattr(module, name), key=lambda *args: args))
        compiled = once(PromptsTask._compile, key=lambda task, *args: (task.config, *args))
        patch.setattr(PromptsTask, "_compile", compiled)
        yield


def once(make: Callable[..., Any], *, key: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that makes a thing once for all arguments that read the same."""
    made: dict[str, tuple[Any, Any]] = {}

    def remembered(*args: Any, **options: Any) -> Any:
        name = repr((key(*args), options))
        if name not in made:
            made[name] = make(*args, **options), args  # whose addresses are part of the name
        return made[name][0]

    return remembered
