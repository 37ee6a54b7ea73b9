"""What verbs over pictures ask of their inputs: how pictures and example masks are read."""

import argparse
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import incontext
from incontext.annotations.find import Examples, find_examples
from incontext.cli.outcome import UsageError
from incontext.files.decode import MAX_PIXELS
from incontext.files.images import PictureOptions, load_image
from incontext.files.pairs import check_writable_labels, read_pairs
from seggpt.errors import InputError


def picture_options(args: argparse.Namespace) -> PictureOptions:
    """Return how the command line wants pictures read."""
    return PictureOptions(max_pixels=args.max_pixels, alpha=args.alpha, bands=args.bands)


def example_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return how it wants examples read, as `incontext.Example` takes it.

    A limit below the default is for many pictures, and not for the few examples.
    """
    own = {"max_pixels": args.max_pixels and max(args.max_pixels, MAX_PIXELS)}
    reading = {"kind": args.mask_kind, "ignore": args.ignore}
    return reading | picture_options(args) | own


def read_annotations(
    args: argparse.Namespace, names: Mapping[int, str], *, most: int | None = None
) -> Examples:
    """Find the examples of --examples; where all classes become one, names mean nothing.

    Raises:
        UsageError: A file or a folder makes no sense, or there are more than `most`.
    """
    if not args.examples:
        return Examples()
    try:
        found = find_examples(
            args.examples,
            images=args.examples_images,
            limit=args.examples_limit,
            most=most,
            empty=args.examples_empty,
            names=names,
            max_pixels=example_options(args)["max_pixels"],
        )
    except InputError as error:
        raise UsageError(f"--examples: {error}") from error
    return replace(found, names={}) if args.mask_kind == "binary" else found


def make_examples(
    args: argparse.Namespace, pairs: Iterable[Sequence[Any]], found: Examples
) -> list[Any]:
    """Return the pairs of the command line and those of --examples; this imports jax."""
    options = example_options(args)
    return [
        *(incontext.Example(*pair, **options) for pair in pairs),
        *(incontext.Example(*pair, **options, names=found.names) for pair in found.pairs),
    ]


def check_examples(
    args: argparse.Namespace,
    pairs: Sequence[Sequence[Any]],
    *,
    formats: Sequence[str] = ("mask",),
    beside_prompt: bool = False,
) -> None:
    """Read the example pairs once before there is a model, as loading one takes seconds.

    Raises:
        UsageError: A pair does not make sense.
    """
    logging.disable(logging.CRITICAL)  # what is noted now is noted again with the model
    options = example_options(args)
    kind, ignore = options.pop("kind"), options.pop("ignore")
    try:
        read = read_pairs(
            [image for image, _ in pairs],
            [mask for _, mask in pairs],
            load=lambda index: load_image(pairs[index][0], **options),
            kind=kind,
            ignore=ignore,
            may_be_empty=beside_prompt,
            max_pixels=options["max_pixels"],
        )
        for pair in read if "mask" in formats else ():
            check_writable_labels(pair.mask.classes, name=pair.mask.name)
    except InputError as error:
        raise UsageError(f"example: {error}") from error
    finally:
        logging.disable(logging.NOTSET)
