"""Nested parameters to flat dotted names and back: `{"blocks": {0: {...}}}` is `blocks.0...`."""

from collections.abc import Mapping
from typing import Any, TypeAlias

Params: TypeAlias = dict[Any, Any]  # str or int keys; leaves are arrays


def flatten(params: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the leaves by dotted name, in the order of the tree.

    Raises:
        ValueError: for a key that would not come back as it was: other types than str and int,
            a str that is empty, holds a dot or looks like an int, a negative int, or no leaf.
    """
    flat: dict[str, Any] = {}
    for key, value in params.items():
        segment = _segment(key)
        if isinstance(value, Mapping):
            if not value:
                raise ValueError(f"{segment!r} holds no arrays; leave it out")
            flat |= {f"{segment}.{name}": leaf for name, leaf in flatten(value).items()}
        else:
            flat[segment] = value
    return flat


def unflatten(flat: Mapping[str, Any]) -> Params:
    """Return the nested tree, with int keys where a segment is a plain number.

    Levels are sorted, numbers as numbers, so that the tree does not depend on the file's order.

    Raises:
        ValueError: if a name has an empty segment, or names both an array and a folder of arrays.
    """
    tree: Params = {}
    for name in sorted(flat, key=_natural):
        *folders, last = [_key(segment, name) for segment in name.split(".")]
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
            if not isinstance(node, dict):
                raise ValueError(f"tensor {name!r} lies below another tensor")
        if last in node:
            raise ValueError(f"tensor {name!r} is also a folder of tensors")
        node[last] = flat[name]
    return tree


def _segment(key: object) -> str:
    if isinstance(key, int) and not isinstance(key, bool) and key >= 0:
        return str(key)
    if isinstance(key, str) and key and "." not in key and not _is_number(key):
        return key
    raise ValueError(f"parameter key {key!r} must be a name without dots or an int >= 0")


def _key(segment: str, name: str) -> str | int:
    if not segment:
        raise ValueError(f"tensor name {name!r} has an empty part")
    return int(segment) if _is_number(segment) else segment


def _is_number(segment: str) -> bool:
    """Tell whether `str(int(segment))` gives the segment back; nine digits are plenty."""
    plain = segment.isascii() and segment.isdigit() and len(segment) < 10
    return plain and (segment == "0" or segment[0] != "0")


def _natural(name: str) -> list[tuple[int, int, str]]:
    parts = name.split(".")
    return [(0, int(part), "") if _is_number(part) else (1, 0, part) for part in parts]
