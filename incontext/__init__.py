"""Segment pictures from examples. Names load on first use, so importing this is cheap."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from incontext.context import Context as Context
    from incontext.context import Example as Example
    from incontext.everything import AutomaticMaskGenerator as AutomaticMaskGenerator
    from incontext.interactive import Predictor as Predictor
    from incontext.persam import PerSAM as PerSAM
    from incontext.promptable import Promptable as Promptable
    from incontext.results import Result as Result
    from incontext.segmenter import Segmenter as Segmenter
    from incontext.selection import Selection as Selection

_HOMES = {
    "AutomaticMaskGenerator": "incontext.everything",
    "Context": "incontext.context",
    "Example": "incontext.context",
    "PerSAM": "incontext.persam",
    "Predictor": "incontext.interactive",
    "Promptable": "incontext.promptable",
    "Result": "incontext.results",
    "Segmenter": "incontext.segmenter",
    "Selection": "incontext.selection",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Import a public name's home when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib  # only here: most commands never ask for a name

    return getattr(importlib.import_module(_HOMES[name]), name)
