"""Examples, and the context that a model makes of them: immutable, saved as one file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Any

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
from incontext.examples.saved import FORMAT, check_format, read_fields
from incontext.files.images import PictureOptions
from incontext.files.masks import LoadedMask, MaskSource
from incontext.files.pairs import read_pairs
from incontext.options import Alpha, AskedIgnore, AskedKind, Detail, Ensemble, SegType, check_choice
from seggpt.errors import CheckpointError, PromptError
from seggpt.weights import load_weights, save_weights


@dataclass(frozen=True, eq=False)
class Example:
    """A picture and its mask, each a file, bytes, a PIL image or an array.

    Attributes:
        image: The picture.
        mask: What is marked in it. The masks of one picture may be several examples, one a class.
        kind: How to read the mask, and `ignore` what to leave out of it (`load_mask`).
        max_pixels: Largest width x height of the files, as for `load_image`.
        alpha: What lies behind transparent pixels of the picture, as for `load_image`.
        bands: Which bands of the picture are red, green and blue, counted from 1.
        names: What labels are called, where that is known.
    """

    image: Source
    mask: MaskSource
    kind: AskedKind = "auto"
    ignore: AskedIgnore = "auto"
    max_pixels: int | None = None
    alpha: Alpha = "white"
    bands: tuple[int, int, int] | None = None
    names: Mapping[int, str] = field(default_factory=dict)

    @property
    def options(self) -> PictureOptions:
        """How the picture is read."""
        return PictureOptions(max_pixels=self.max_pixels, alpha=self.alpha, bands=self.bands)


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
        check_format(path, loaded.config)
        fields = read_fields(path, loaded.config)
        return cls(arrays=_contents(path, loaded.params), **fields)

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


def _contents(path: str | PathLike[str], params: Mapping[Any, Any]) -> Contents:
    """Return what a file's context holds.

    Raises:
        CheckpointError: if it is nothing that contexts hold.
    """
    try:
        return contents_from_tree(params)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: a damaged context; make it again") from error


def _narrow(array: np.ndarray) -> np.ndarray:
    """Return an array at half its width where that keeps every number."""
    if array.dtype != np.float32:
        return array
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    return half if np.array_equal(half, array) else array


def read_examples(
    examples: Sequence[Example], *, like: Context | None = None
) -> tuple[list[LoadedExample], tuple[int, ...], list[LoadedMask]]:
    """Read examples; return them, all labels that occur, and what the masks were taken for.

    Several masks of one picture become one example. Beside a marked example, or with a prompt that
    they are `like`, examples may show nothing.

    Raises:
        PromptError: if there is no example, their kinds of mask differ, or the prompt has other
            labels.
        InputError: if a picture or a mask cannot be used.
    """
    check_examples(examples)
    known = like.labels if like is not None else ()
    pairs = read_pairs(
        [example.image for example in examples],
        [example.mask for example in examples],
        load=lambda index: load_source(examples[index].image, **examples[index].options),
        kind=examples[0].kind,
        ignore=examples[0].ignore,
        known=known,
        may_be_empty=like is not None,
        max_pixels=examples[0].max_pixels,
    )
    masks = [pair.mask for pair in pairs]
    labels = tuple(sorted({label for mask in masks for label in mask.classes}))
    if like is not None:
        check_meaning(masks, like, kind=examples[0].kind)
        check_labels(labels, like)
    loaded = []
    for pair in pairs:
        source = examples[pair.index].image
        known_picture = source if isinstance(source, EncodedPicture) else None
        loaded.append(LoadedExample(pair.image, pair.mask.labels, known_picture))
    return loaded, labels, masks


def names_of(examples: Sequence[Example]) -> dict[int, str]:
    """Return what examples call their labels.

    Raises:
        PromptError: if two call one label by different names.
    """
    names: dict[int, str] = {}
    for example in examples:
        for label, name in example.names.items():
            if names.setdefault(label, name) != name:
                raise PromptError(
                    f"label {label} is '{names[label]}' in one example and '{name}' in another; "
                    "load the files of both in one call of load_examples"
                )
    return dict(sorted(names.items()))


def check_examples(examples: Sequence[Example]) -> None:
    """Check that there are examples, and that all ask for the same reading of masks.

    Raises:
        PromptError: if not.
    """
    if isinstance(examples, Example):
        raise PromptError("one Example where a list of them is wanted; write [Example(...)]")
    if isinstance(examples, str | bytes | PathLike):
        raise PromptError(
            f"{examples!r:.60} where examples are wanted; a saved prompt is read by Context.load"
        )
    if not examples:
        raise PromptError("no examples: give at least one image with its mask")
    for example in examples:
        if not isinstance(example, Example):
            raise PromptError(
                f"an example is a {type(example).__name__}; write Example(image, mask)"
            )
        check_choice("kind", example.kind, AskedKind)
        check_choice("alpha", example.alpha, Alpha)
    for what, asked in (
        ("kinds of mask", {example.kind for example in examples}),
        ("ignored values", {example.ignore for example in examples}),
    ):
        if len(asked) > 1:
            raise PromptError(
                f"examples ask for different {what} {sorted(map(str, asked))}; use one"
            )


def check_names(names: Any) -> dict[int, str]:
    """Return names of labels; JSON has its labels as text.

    Raises:
        PromptError: They are nothing of the kind.
    """
    try:
        return {int(label): str(name) for label, name in (names or {}).items()}
    except (AttributeError, ValueError, TypeError) as error:
        raise PromptError(f'names {names!r:.60} are not like {{1: "crop", 2: "weed"}}') from error


def check_meaning(masks: Sequence[LoadedMask], like: Context, *, kind: AskedKind) -> None:
    """Check that masks which say "the object", or have colours, can mean labels of a prompt.

    Raises:
        PromptError: naming the first that cannot.
    """
    if kind != "auto" or len(like.labels) < 2:
        return
    for mask in masks:
        says_object = mask.kind in ("binary255", "binary", "alpha") and mask.classes == (1,)
        other_colors = mask.kind == "rgb" and len(mask.classes) < len(like.labels)
        if says_object or (other_colors and mask.classes):
            raise PromptError(
                f"{mask.name}: {mask.note}, and the prompt's labels are {list(like.labels[:20])}: "
                "which one is it? give a mask with those values"
            )


def check_same_names(examples: Sequence[Example], like: Context) -> None:
    """Check that examples call labels as a prompt does, where both have names.

    Raises:
        PromptError: naming the first that differs.
    """
    for label, name in names_of(examples).items():
        if (own := like.names.get(label, name)) != name:
            raise PromptError(
                f"label {label} is '{name}' in the examples and '{own}' in the prompt; give the "
                "names of the prompt (names) when the examples are loaded"
            )


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
