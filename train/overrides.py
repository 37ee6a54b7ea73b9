"""`--set a.b=c`: change one field of a recipe, checked against its type."""

import ast
import dataclasses
import difflib
import types
import typing
from collections.abc import Sequence
from typing import Literal, TypeVar

Config = TypeVar("Config")
_SHORT = {"encoder": "data.encoder"}  # of recipes for in-context models


def apply_overrides(config: Config, settings: Sequence[str]) -> Config:
    """Return the recipe with `name.field=value` settings applied in order.

    Raises:
        ValueError: for an unknown field or a value of the wrong type, naming both.
    """
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals:
            raise ValueError(f"--set {setting}: write name=value, for example optim.lr=3e-4")
        name = _SHORT.get(path.strip(), path.strip())
        config = _replace(config, name.split("."), text.strip(), setting)
    return config


def _replace(config: Config, path: list[str], text: str, setting: str) -> Config:
    assert dataclasses.is_dataclass(config)
    assert not isinstance(config, type)
    name, rest = path[0], path[1:]
    hints = typing.get_type_hints(type(config))
    known = [field.name for field in dataclasses.fields(config)]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"fields are {', '.join(known)}"
        raise ValueError(f"--set {setting}: no field {name!r}; {hint}")
    old = getattr(config, name)
    if rest and not dataclasses.is_dataclass(old):
        raise ValueError(f"--set {setting}: {name!r} has no fields")
    if rest:
        value = _replace(old, rest, text, setting)
    elif dataclasses.is_dataclass(old):
        raise ValueError(f"--set {setting}: set a field of {name!r}, not all of it")
    else:
        value = _parse(text, hints[name], setting)
    return dataclasses.replace(config, **{name: value})


def _parse(text: str, hint: object, setting: str) -> object:
    try:
        raw = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        raw = text
    try:
        return _coerce(raw, hint)
    except TypeError:
        raise ValueError(f"--set {setting}: {text!r} is not {_describe(hint)}") from None


def _coerce(raw: object, hint: object) -> object:
    """Return a value as its type wants it: an int may become a float, a list a tuple."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if raw in args:
            return raw
    elif origin in (typing.Union, types.UnionType):
        for arg in args:
            try:
                return _coerce(raw, arg)
            except TypeError:
                continue
    elif origin is tuple and isinstance(raw, tuple | list):
        kinds = [args[0]] * len(raw) if len(args) == 2 and args[1] is Ellipsis else list(args)
        if len(kinds) == len(raw):
            return tuple(_coerce(value, kind) for value, kind in zip(raw, kinds, strict=True))
    elif origin is dict and isinstance(raw, dict):
        return {_coerce(k, args[0]): _coerce(v, args[1]) for k, v in raw.items()}
    elif hint is float and isinstance(raw, int | float) and not isinstance(raw, bool):
        return float(raw)
    elif hint is type(None) and raw is None:
        return None
    elif isinstance(hint, type) and type(raw) is hint:
        return raw
    raise TypeError


def _describe(hint: object) -> str:
    if typing.get_origin(hint) is Literal:
        return f"one of {', '.join(map(repr, typing.get_args(hint)))}"
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
