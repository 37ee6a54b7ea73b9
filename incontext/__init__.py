"""Segment pictures from examples. Names load on first use, so importing this is cheap."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from incontext.everything.generator import AutomaticMaskGenerator as AutomaticMaskGenerator
    from incontext.everything.selection import Selection as Selection
    from incontext.examples.context import Context as Context
    from incontext.examples.context import Example as Example
    from incontext.examples.load import load_examples as load_examples
    from incontext.prompts.persam import PerSAM as PerSAM
    from incontext.prompts.predictor import Predictor as Predictor
    from incontext.prompts.promptable import Promptable as Promptable
    from incontext.result import Result as Result
    from incontext.segmenter import Segmenter as Segmenter

_HOMES = {
    "AutomaticMaskGenerator": "incontext.everything.generator",
    "Context": "incontext.examples.context",
    "Example": "incontext.examples.context",
    "PerSAM": "incontext.prompts.persam",
    "Predictor": "incontext.prompts.predictor",
    "Promptable": "incontext.prompts.promptable",
    "Result": "incontext.result",
    "Segmenter": "incontext.segmenter",
    "Selection": "incontext.everything.selection",
    "load_examples": "incontext.examples.load",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Import a public name's home when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib  # only here: most commands never ask for a name

    return getattr(importlib.import_module(_HOMES[name]), name)
