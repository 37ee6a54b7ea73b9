"""Checks of configs, whose fields may come from anyone's file."""

import dataclasses
from collections.abc import Mapping
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from seggpt.errors import CheckpointError

MOST_BLOCKS = 512
_MOST = 1 << 16  # of any number of a config


def checked_dict(fields: Any) -> dict[str, Any]:
    """Return the fields of a part of a model.

    Raises:
        ValueError: if they are none.
    """
    if not isinstance(fields, dict):
        raise ValueError(f"{str(fields)[:40]!r} are not the fields of a part of a model")
    return fields


def check_positive(config: object, *names: str) -> None:
    """Check that fields are above 0.

    Raises:
        ValueError: naming the first that is not.
    """
    for name in names:
        if getattr(config, name) < 1:
            raise ValueError(f"{name} {getattr(config, name)} is not above 0")


def check_vit(config: object) -> None:
    """Check the sizes of a ViT over square pictures.

    Raises:
        ValueError: naming the field and what it must be.
    """
    sizes = ("image_size", "patch_size", "width", "heads")
    check_positive(config, *sizes)
    image_size, patch_size, width, heads = (vars(config)[name] for name in sizes)
    depth = vars(config)["depth"]
    if not 1 <= depth <= MOST_BLOCKS:
        raise ValueError(f"depth {depth} is not in 1..{MOST_BLOCKS}")
    if width % heads:
        raise ValueError(f"width {width} is not a multiple of heads {heads}")
    if image_size % patch_size:
        raise ValueError(f"image_size {image_size} is not a multiple of patch_size {patch_size}")


def own_fields(cls: type, fields: Mapping[str, Any], model: str, what: str) -> dict[str, Any]:
    """Return the fields of a config without the word for its model, if they are its own."""
    unknown = set(fields) - {"model"} - {field.name for field in dataclasses.fields(cls)}
    if fields.get("model") != model or unknown:
        named = ", ".join(sorted(unknown)[:3]) or "no model"
        raise CheckpointError(f"not the fields of {what} that this seggpt knows ({named})")
    return {name: value for name, value in fields.items() if name != "model"}


def field_values(cls: type, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config's fields as Python has them; they may come from anyone's file."""
    types = get_type_hints(cls)
    values = {name: _tuples(value) for name, value in fields.items()}
    for name, value in values.items():
        if not _fits(value, types[name]):
            raise ValueError(f"{name} {str(value)[:40]!r} is not a model's")
    needed = {f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING}
    if missing := sorted(needed - set(values)):
        raise ValueError(f"no field {missing[0]}")
    return {name: float(v) if types[name] is float else v for name, v in values.items()}


def _tuples(value: Any) -> Any:
    """Turn lists into tuples, two deep: no field is deeper, and a file's may be without end."""
    if not isinstance(value, list):
        return value
    return tuple(tuple(v) if isinstance(v, list) else v for v in value)


def _fits(value: Any, wanted: Any) -> bool:
    """Tell whether a value is of a field's type, and no larger than any model's."""
    if get_origin(wanted) is Literal:
        return value in get_args(wanted)
    if get_origin(wanted) is tuple:
        args = get_args(wanted)
        if not isinstance(value, tuple) or (args[-1] is not Ellipsis and len(value) != len(args)):
            return False
        kinds = args[:1] * len(value) if args[-1] is Ellipsis else args
        return all(map(_fits, value, kinds))
    if isinstance(wanted, UnionType):
        return isinstance(value, wanted)
    if wanted in (int, float):
        return type(value) in (int, wanted) and 0 <= value <= _MOST
    return type(value) is wanted
