"""Examples, and the context that a model makes of them: immutable, saved as one file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Any, get_args

import jax
import numpy as np
from jaxtyping import Int32, UInt8

from incontext.examples.contents import (
    Contents,
    contents_from_tree,
    contents_to_tree,
    join_contents,
)
from incontext.examples.encoded import EncodedPicture, Source, load_source
from incontext.files.masks import LoadedMask, MaskSource, check_same_size, load_masks
from incontext.options import AskedKind, Detail, Ensemble, SegType
from seggpt.errors import CheckpointError, PromptError
from seggpt.weights import load_weights, save_weights

FORMAT = "seggpt-context-1"


@dataclass(frozen=True, eq=False)
class Example:
    """A picture and its mask, each a file, bytes, a PIL image or an array."""

    image: Source
    mask: MaskSource
    kind: AskedKind = "auto"


@dataclass(frozen=True, eq=False)
class LoadedExample:
    """An example in memory; `encoded` is the picture, if it was encoded before."""

    image: UInt8[np.ndarray, "h w 3"]
    labels: Int32[np.ndarray, "h w"]
    encoded: EncodedPicture | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Context:
    """What to look for, as one model has encoded it.

    Attributes:
        labels: The labels that results will have, rising.
        names: What they are called, where known.
        passes: Which labels are painted together, in the order of the arrays' first axis.
        arrays: What the model made of the examples (`incontext.examples.contents`).
        model: The fingerprint of the weights that made it.
        ensemble: How several examples were brought together.
        seg_type: Whether masks mean every thing of a class, or one certain thing.
        threshold: The one to use with it; None leaves it to the model.
        detail: How closely pictures are looked at with it, unless asked otherwise.
        about: What a tuned prompt says of itself, as JSON can hold it: scores, colours, command.
    """

    labels: tuple[int, ...]
    passes: tuple[tuple[int, ...], ...]
    arrays: Contents
    model: str
    ensemble: Ensemble
    seg_type: SegType = "semantic"
    names: Mapping[int, str] = field(default_factory=dict)
    threshold: float | None = None
    detail: Detail = "plain"
    about: Mapping[str, Any] = field(default_factory=dict)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the context as one safetensors file; 16 bits where they lose nothing."""
        about = {
            "format": FORMAT,
            "model": self.model,
            "labels": list(self.labels),
            "passes": [list(labels) for labels in self.passes],
            "ensemble": self.ensemble,
            "seg_type": self.seg_type,
            "names": {str(label): name for label, name in self.names.items()},
            "threshold": self.threshold,
            "detail": self.detail,
            "about": dict(self.about),
        }
        arrays = contents_to_tree(self.arrays)
        save_weights(path, jax.tree.map(lambda a: _narrow(np.asarray(a)), arrays), config=about)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "Context":
        """Read a context; the segmenter that uses it checks that it is of its model.

        Raises:
            CheckpointError: if the file is damaged, or holds something else.
        """
        loaded = load_weights(path)
        about = loaded.config
        kind = about.get("format")
        if kind != FORMAT:
            if str(kind).startswith(FORMAT.rstrip("1")):
                raise CheckpointError(
                    f"{path}: a context of format {kind}, and this version reads {FORMAT}; "
                    "make or tune it again"
                )
            raise CheckpointError(
                f"{path}: not a saved context; make one with Context.save, or pass example pairs"
            )
        return cls(
            labels=tuple(about["labels"]),
            passes=tuple(tuple(labels) for labels in about["passes"]),
            arrays=_contents(path, loaded.params),
            model=about["model"],
            ensemble=about["ensemble"],
            seg_type=about["seg_type"],
            names={int(label): name for label, name in about["names"].items()},
            threshold=about.get("threshold"),
            detail=_detail(path, about.get("detail", "plain")),
            about=about.get("about", {}),
        )

    def joined(self, other: "Context") -> "Context":
        """Return what shows both contexts' examples; all else is this one's.

        Raises:
            PromptError: if they are of different models, or do not paint the same labels together.
        """
        if (self.model, self.passes) != (other.model, other.passes):
            raise PromptError(
                "contexts of different models, or with labels in other passes, cannot be joined; "
                "make the second with Segmenter.context(examples, like=the first)"
            )
        return replace(self, arrays=join_contents(self.arrays, other.arrays))


def _contents(path: str | PathLike[str], params: Mapping[str, Any]) -> Contents:
    """Return what a file's context holds.

    Raises:
        CheckpointError: if it is nothing that contexts hold.
    """
    try:
        return contents_from_tree(params)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: a damaged context; make it again") from error


def _detail(path: str | PathLike[str], value: object) -> Detail:
    for known in get_args(Detail):
        if value == known:
            return known
    raise CheckpointError(f"{path}: unknown detail {value!r}; a newer version wrote this file")


def _narrow(array: np.ndarray) -> np.ndarray:
    """Return an array at half its width where that keeps every number."""
    if array.dtype != np.float32:
        return array
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    return half if np.array_equal(half, array) else array


def load_examples(
    examples: Sequence[Example],
) -> tuple[list[LoadedExample], tuple[int, ...], list[LoadedMask]]:
    """Read examples; return them, all labels that occur, and what the masks were taken for.

    Raises:
        PromptError: if there is no example, or their kinds of mask differ.
        InputError: if a picture or a mask cannot be used.
    """
    if not examples:
        raise PromptError("no examples: give at least one image with its mask")
    kinds = {example.kind for example in examples}
    if len(kinds) > 1:
        raise PromptError(f"examples ask for different kinds of mask {sorted(kinds)}; use one")
    images = [load_source(example.image) for example in examples]
    masks = load_masks([example.mask for example in examples], kind=examples[0].kind)
    for example, image, mask in zip(examples, images, masks, strict=True):
        name = str(example.image) if isinstance(example.image, str | PathLike) else "image"
        check_same_size(image, mask.labels, image_name=name, mask_name=mask.name)
    encoded = [e.image if isinstance(e.image, EncodedPicture) else None for e in examples]
    loaded = [
        LoadedExample(image, mask.labels, known)
        for image, mask, known in zip(images, masks, encoded, strict=True)
    ]
    labels = tuple(sorted({label for mask in masks for label in mask.classes}))
    return loaded, labels, masks


def check_labels(labels: Sequence[int], like: Context) -> None:
    """Check that a prompt knows labels.

    Raises:
        PromptError: naming the first one that it does not know.
    """
    if unknown := sorted(set(labels) - set(like.labels)):
        raise PromptError(
            f"label {unknown[0]} is not one of the prompt's labels {list(like.labels[:20])}; "
            "give masks with those"
        )


def split_labels(labels: Sequence[int], per_pass: int) -> tuple[tuple[int, ...], ...]:
    """Divide labels into passes of at most `per_pass`, as even as possible.

    Every pass has the same number of places; the last ones repeat their final label's place with
    nothing, so that one compiled shape serves all: see `Segmenter.context`.
    """
    count = -(-len(labels) // per_pass)
    return tuple(tuple(part.tolist()) for part in np.array_split(np.asarray(labels), count))
