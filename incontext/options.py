"""What the command line and the library let one choose. This imports nothing heavy."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any, Literal, get_args

from seggpt.errors import PromptError

Alpha = Literal["white", "black", "ignore"]
"""What lies behind transparent pixels; "ignore" keeps the colours hidden there."""
Detail = Literal["plain", "large", "tiles"]
Dtype = Literal["float32", "bfloat16"]
Ensemble = Literal["feature", "spatial"]
AskedEnsemble = Literal["auto", Ensemble]
AskedKind = Literal["auto", "binary", "labels", "rgb"]
"""How to read a mask."""
AskedIgnore = int | str
"""Which pixels of a mask do not count: a value, a colour "#rrggbb", "none", or "auto"."""
PersamMethod = Literal["persam", "persam-f"]
PromptMode = Literal["grid", "boxes"]
"""Where everything mode asks."""
SegType = Literal["semantic", "instance"]
Learned = Literal["pixels", "tokens", "cache", "head"]
Learn = Literal["auto", Learned]
Start = Literal["auto", "spread", "best", "random"]


MOST_EXAMPLES = 32
"""The most pictures of annotation files that one context takes without being told a number."""


def check_choice(name: str, value: object, choices: Any) -> None:
    """Check that an argument is one of a `Literal`'s values.

    Raises:
        PromptError: naming the argument, the value and the choices.
    """
    known = get_args(choices)
    flat = [choice for one in known for choice in (get_args(one) or (one,))]
    if value not in flat:
        raise PromptError(f"{name} {value!r} is unknown; give one of {', '.join(map(str, flat))}")


def check_reading(max_pixels: object, alpha: object, bands: Any) -> None:
    """Check how a picture is to be read.

    Raises:
        PromptError: naming the option that makes no sense.
    """
    check_choice("alpha", alpha, Alpha)
    if max_pixels is not None and not _is_count(max_pixels):
        raise PromptError(f"max_pixels {max_pixels!r} is no whole number above 0")
    if bands is None:
        return
    if not isinstance(bands, Sequence) or len(bands) != 3 or not all(map(_is_count, bands)):
        raise PromptError(f"bands {bands!r} is not three numbers such as (4, 3, 2), from 1")


def _is_count(value: object) -> bool:
    return isinstance(value, Integral) and int(value) >= 1
