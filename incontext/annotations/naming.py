"""How people name masks after pictures, and folders after what is in them: the one place for it."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from incontext.files.images import IMAGE_SUFFIXES
from seggpt.errors import InputError, one_line

# What tools and data sets append to a picture's name for its mask; `_cp_masks` is cellpose's,
# `_gtFine_labelIds` Cityscapes', `_segmentation` ISIC's, `_manual1` DRIVE's.
MASK_ENDINGS = (
    *("", "_mask", "-mask", "_masks", "_label", "_labels", "_seg", "_segmentation", "_gt"),
    *("_gtFine_labelIds", "_cp_masks", "_manual1"),
)
# What data sets append to the names of pictures alone: Cityscapes, DRIVE, DeepGlobe, nnU-Net.
PICTURE_ENDINGS = ("_leftImg8bit", "_training", "_test", "_sat", "_image", "_img", "_0000")
# What may stand before a common rest: mask_1 of img_1.
MASK_BEGINNINGS = ("mask", "label", "seg", "gt")
PICTURE_BEGINNINGS = ("image", "img", "picture", "photo")
# Words in the names of folders of masks, and such names as a whole.
_MASK_FOLDERS = re.compile(
    "mask|(?<!un)label|annotation|ground_?truth|segmentation|manual|^(gt|gts|seg|segs|ann|anns|gtfine)$",
    re.IGNORECASE,
)
MASK_SUFFIXES = (*IMAGE_SUFFIXES, ".npy")
"""Suffixes, in lower case, of the files that may be masks."""

_LOSSY = (".jpg", ".jpeg")
_SHOWN = 3  # names in one message

Found = tuple[Path, Path]
"""A file, and its place below the folder without its suffix."""


@dataclass(frozen=True)
class Pairing:
    """Which masks are of which pictures, and what has no partner."""

    pairs: tuple[tuple[Path, Path], ...]
    lone_pictures: tuple[Path, ...]
    lone_masks: tuple[Path, ...]


def is_mask_folder(folder: Path) -> bool:
    """Whether a folder's name says that there are masks or annotations in it."""
    return _MASK_FOLDERS.search(folder.name) is not None


def pair_by_name(pictures: Sequence[Found], masks: Sequence[Found]) -> Pairing:
    """Pair pictures and masks by name, in one folder or in two.

    Raises:
        InputError: A mask would belong to two pictures, or two masks have one name.
    """
    by_stem: dict[str, list[Path]] = {}
    for file, stem in masks:
        by_stem.setdefault(stem.as_posix(), []).append(file)
    own = {file for file, _ in masks}
    pairs: dict[Path, Path] = {}
    owner: dict[Path, Path] = {}
    for file, stem in pictures:
        mask = _mask_of(file, stem, by_stem, beside=file in own)
        if mask is None:
            continue
        other = owner.setdefault(mask, file)
        if other != file:
            raise InputError(
                f"{one_line(other)} and {one_line(file)} both pair with {one_line(mask)}; "
                "rename one"
            )
        pairs[file] = mask
    paired = {file: mask for file, mask in pairs.items() if file not in owner}
    return Pairing(
        pairs=tuple(paired.items()),
        lone_pictures=tuple(file for file, _ in pictures if file not in pairs | owner),
        lone_masks=tuple(file for file, _ in masks if file not in owner | pairs),
    )


def _mask_of(
    file: Path, stem: Path, by_stem: dict[str, list[Path]], *, beside: bool
) -> Path | None:
    """Return the mask of a picture; `beside` says that both are in one folder.

    Raises:
        InputError: There are two.
    """
    for name in _mask_names(file, stem):
        found = [mask for mask in by_stem.get(name.as_posix(), ()) if mask != file]
        if beside and name == stem:  # a.jpg and a.png: the lossy one is the picture
            is_lossy = file.suffix.lower() in _LOSSY
            found = [mask for mask in found if is_lossy and mask.suffix.lower() not in _LOSSY]
        if len(found) > 1:
            both = " and ".join(map(one_line, found[:2]))
            raise InputError(f"{both} are masks of one name; remove one")
        if found:
            return found[0]
    return None


def _mask_names(file: Path, stem: Path) -> Iterator[Path]:
    """Yield what the mask of a picture may be called, without suffix, the likeliest first."""
    bare = stem.name
    bases = [bare, *(bare.removesuffix(end) for end in PICTURE_ENDINGS if bare.endswith(end))]
    names = [f"{base}{ending}" for base in bases if base for ending in MASK_ENDINGS]
    names.append(file.name)  # a.jpg.png
    names += [f"{begin}_{bare}" for begin in MASK_BEGINNINGS]
    for begin in PICTURE_BEGINNINGS:
        rest = bare[len(begin) :]
        if bare.lower().startswith(begin) and rest:
            names += [f"{own}{rest}" for own in MASK_BEGINNINGS]
            names += [rest.lstrip("_-")] if rest[0] in "_-" else []
    yield from (stem.with_name(name) for name in dict.fromkeys(names) if name)


def shown(paths: Iterable[Path]) -> str:
    """Return a few names for a message."""
    names = list(map(one_line, paths))
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
