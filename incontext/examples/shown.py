"""Examples that a saved prompt shows: kept as pictures, encoded by the model that first uses them.

What sixteen examples are encoded to takes hundreds of megabytes, the pictures a few.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Int32, UInt8

from seggpt.in_context.model import Cache, cache_from_tree, cache_to_tree, join_caches


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class HeadContext:
    """The arrays of a tuned `Context` of an in-context model.

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
    def from_tree(cls, tree: Mapping[str, Any]) -> "HeadContext":
        """Undo `to_tree`.

        Raises:
            KeyError, TypeError, ValueError: if the tree is not one.
        """
        images, maps = tree.get("images", {}), tree.get("maps", {})
        if len(images) != len(maps):
            raise ValueError("pictures and labels do not match")
        return cls(
            images=tuple(images[i] for i in range(len(images))),
            maps=tuple(np.asarray(maps[i], np.int32) for i in range(len(maps))),
            more=cache_from_tree(tree["more"]) if "more" in tree else None,
            heads=tree.get("heads"),
        )


def narrow_labels(labels: Int32[np.ndarray, "h w"]) -> np.ndarray:
    """Return labels in 8 bits where they fit."""
    return labels.astype(np.uint8) if labels.min() >= 0 and labels.max() < 256 else labels
