"""Examples from annotation files, and from folders of pictures with masks."""

from collections.abc import Mapping
from os import PathLike
from typing import Unpack

from incontext.annotations.find import Paths, find_examples
from incontext.examples.context import Example
from incontext.files.images import PictureOptions
from incontext.options import AskedIgnore, AskedKind


def load_examples(
    paths: Paths,
    *,
    images: str | PathLike[str] | None = None,
    limit: int | None = None,
    empty: bool = False,
    names: Mapping[int, str] | None = None,
    kind: AskedKind = "auto",
    ignore: AskedIgnore = "auto",
    **options: Unpack[PictureOptions],
) -> list[Example]:
    """Read examples from the files of annotation tools and data sets, or from folders.

    COCO, labelme, GeoJSON of QuPath, YOLO's polygons, PASCAL VOC, `.npy` arrays and folders of
    pictures with masks are told by what is in them. Labels are the same for all `paths`: a class
    that has a name has one number. Masks are drawn when they are read.

    Args:
        paths: A file, a folder, or several.
        images: Where the pictures are, if not beside the files or in the usual neighbours.
        limit: Take so many pictures, the first ones.
        empty: Whether pictures without annotations are examples too, of what is not wanted.
        names: The labels that classes shall have, where these are known by name.
        kind: How to read files of masks, as for `Example`.
        ignore: What to leave out of those.
        options: How pictures are read, as for `Example`: max_pixels, alpha, bands.

    Raises:
        InputError: A file makes no sense, or a folder can be read in two ways; one line says what,
            and where.
    """
    found = find_examples(
        paths,
        images=images,
        limit=limit,
        empty=empty,
        names=names,
        max_pixels=options.get("max_pixels"),
    )
    called = found.names if kind != "binary" else {}
    return [
        Example(image, mask, kind=kind, ignore=ignore, names=called, **options)
        for image, mask in found.pairs
    ]
