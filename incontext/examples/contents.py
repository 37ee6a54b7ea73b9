"""The arrays of a context, one type for each kind of model, and their layout in a file."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, TypeVar

import jax
import numpy as np
from jaxtyping import Array, Int32, UInt8

from seggpt.errors import PromptError
from seggpt.in_context.model import Cache, cache_from_tree, cache_to_tree, join_caches

T = TypeVar("T")


class Encoded(NamedTuple):
    """Keys and values of each block of a SegGPT with prefix attention, (p, e n, heads, hd)."""

    blocks: tuple[tuple[Array, Array], ...]


class Pixels(NamedTuple):
    """Example images and their painted targets, in the model's units, both (p, e, h, w, 3)."""

    images: Array
    targets: Array


class Tokens(NamedTuple):
    """Embedded examples of a SegGPT with mutual attention, (p, e n, d) for each stream."""

    images: Array
    targets: Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class HeadContext:
    """Examples of a tuned in-context model: kept as images, encoded by the model at first use.

    What sixteen examples are encoded to takes hundreds of megabytes, the images a few.

    Attributes:
        images: The examples at the size at which the model sees them.
        maps: Their labels.
        more: Encoded examples that joined them.
        heads: The weights of several `seggpt.in_context.head.Head`, stacked along the first axis,
            or None.
    """

    images: tuple[UInt8[np.ndarray, "h w 3"], ...]
    maps: tuple[Int32[np.ndarray, "h w"], ...]
    more: Cache | None
    heads: Any

    def joined(self, other: "Cache | HeadContext") -> "HeadContext":
        """Return what shows the examples of both, with this one's heads."""
        if isinstance(other, Cache):
            other = HeadContext((), (), other, None)
        caches = [cache for cache in (self.more, other.more) if cache is not None]
        return HeadContext(
            images=self.images + other.images,
            maps=self.maps + other.maps,
            more=join_caches(caches) if caches else None,
            heads=self.heads,
        )

    def to_tree(self) -> dict[str, Any]:
        """Return nested dicts, as files hold them."""
        tree: dict[str, Any] = {
            "images": dict(enumerate(self.images)),
            "maps": {i: narrow_labels(labels) for i, labels in enumerate(self.maps)},
        }
        if self.more is not None:
            tree["more"] = cache_to_tree(self.more)
        if self.heads is not None:
            tree["heads"] = self.heads
        return {name: part for name, part in tree.items() if part}

    @classmethod
    def from_tree(cls, tree: Mapping[Any, Any]) -> "HeadContext":
        """Undo `to_tree`.

        Raises:
            KeyError, TypeError, ValueError: if the tree is not one.
        """
        images, maps = tree.get("images", {}), tree.get("maps", {})
        if len(images) != len(maps):
            raise ValueError("pictures and labels do not match")
        pictures = tuple(_array(images[i], dims=3) for i in range(len(images)))
        labels = tuple(np.asarray(_array(maps[i], dims=2), np.int32) for i in range(len(maps)))
        for image, drawn in zip(pictures, labels, strict=True):
            if image.dtype != np.uint8 or image.shape != (*drawn.shape, 3):
                raise ValueError("a picture is no RGB of the size of its labels")
        heads = tree.get("heads")
        if not isinstance(heads, Mapping | None):
            raise TypeError("heads are no parameters")
        more = _cache(tree["more"]) if "more" in tree else None
        return cls(images=pictures, maps=labels, more=more, heads=heads)


def narrow_labels(labels: Int32[np.ndarray, "h w"]) -> np.ndarray:
    """Return labels in 8 bits where they fit."""
    return labels.astype(np.uint8) if labels.min() >= 0 and labels.max() < 256 else labels


Contents: TypeAlias = Cache | HeadContext | Encoded | Pixels | Tokens
"""Of an in-context model as it is and tuned, and of a SegGPT."""


def join_contents(own: Contents, other: Contents) -> Contents:
    """Return what shows the examples of both; all else is `own`'s.

    Raises:
        PromptError: if one is a prompt of tokens, and the other examples.
    """
    if isinstance(own, Cache) and isinstance(other, HeadContext):
        own = HeadContext((), (), own, None)
    if isinstance(own, HeadContext) and isinstance(other, Cache | HeadContext):
        return own.joined(other)
    if type(own) is not type(other):
        raise PromptError("a prompt of tokens cannot be joined with examples; tune pixels")
    return jax.tree.map(lambda *pair: np.concatenate(pair, axis=1), own, other)


def contents_to_tree(contents: Contents) -> dict[str, Any]:
    """Return nested dicts, as files hold them, under the name of their kind."""
    match contents:
        case Cache():
            return {"in_context": cache_to_tree(contents)}
        case HeadContext():
            return {"head_context": contents.to_tree()}
        case Encoded():
            blocks = ({"keys": k, "values": v} for k, v in contents.blocks)
            return {"encoded": dict(enumerate(blocks))}
        case Pixels() | Tokens():
            name = "pixels" if isinstance(contents, Pixels) else "tokens"
            return {name: contents._asdict()}


def contents_from_tree(tree: Mapping[Any, Any]) -> Contents:
    """Undo `contents_to_tree`.

    Raises:
        LookupError, TypeError, ValueError, AttributeError: if the tree is not one.
    """
    [(name, part)] = tree.items()
    match name:
        case "in_context":
            return _cache(part)
        case "head_context":
            return HeadContext.from_tree(part)
        case "encoded":
            blocks = (part[i] for i in range(len(part)))
            return _checked(Encoded(tuple((b["keys"], b["values"]) for b in blocks)), dims=4)
        case "pixels":
            return _checked(Pixels(**part), dims=5)
        case "tokens":
            return _checked(Tokens(**part), dims=3)
    raise ValueError(f"unknown contents {name}")


def _cache(tree: Mapping[Any, Any]) -> Cache:
    cache = cache_from_tree(tree)
    _checked(cache.blocks, dims=4)
    _checked(cache._replace(blocks=()), dims=3)
    return cache


def _checked(contents: T, *, dims: int) -> T:
    """Make sure that tuples hold arrays of so many dimensions, at any depth."""
    for leaf in jax.tree.leaves(contents, is_leaf=lambda part: not isinstance(part, tuple)):
        _array(leaf, dims=dims)
    return contents


def _array(value: object, *, dims: int) -> np.ndarray:
    if not isinstance(value, np.ndarray) or value.ndim != dims:
        raise TypeError(f"no array of {dims} dimensions")
    return value
