"""What all readers of annotation files are told, and what they give."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from incontext.annotations.shapes import Annotated
from incontext.wording import option
from seggpt.errors import InputError

T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass
class Asked:
    """What is asked of the files of one call.

    Attributes:
        images: Where pictures are, if not beside the files.
        limit: Take so many pictures, the first ones.
        most: Refuse more pictures than this.
        empty: Whether pictures without annotations are examples too.
        taken: How many pictures there are so far.
    """

    images: Path | None = None
    limit: int | None = None
    most: int | None = None
    empty: bool = False
    taken: int = 0

    def take(self, pictures: Sequence[T], name: str) -> Sequence[T]:
        """Return the pictures that may be examples.

        Raises:
            InputError: There are too many, and the caller did not say how many to take.
        """
        if self.limit is not None:
            kept = pictures[: max(0, self.limit - self.taken)]
            if len(kept) < len(pictures):
                logger.warning("%s: the first %d of %d pictures", name, len(kept), len(pictures))
        else:
            kept = pictures
            if self.most is not None and self.taken + len(kept) > self.most:
                raise InputError(
                    f"{name}: {self.taken + len(kept)} pictures, and {self.most} examples are the "
                    f"most; choose some, or pass {option('limit', self.most)} for the first ones"
                )
        self.taken += len(kept)
        return kept

    def keep(self, pictures: Sequence[Annotated], name: str) -> tuple[Annotated, ...]:
        """Return pictures without those in which nothing is marked, unless they are wanted."""
        marked = [picture for picture in pictures if picture.regions or self.empty]
        if left := len(pictures) - len(marked):
            self.leave_out(left, name)
        return tuple(self.take(marked, name))

    def leave_out(self, count: int, name: str) -> None:
        """Note that pictures without annotations are left out."""
        logger.warning(
            "%s: %d pictures without annotations are left out; %s takes them as examples of what "
            "is not wanted",
            name,
            count,
            option("empty"),
        )


@dataclass(frozen=True, eq=False)
class Source:
    """What one file, or the files of one folder, give.

    Attributes:
        name: File or folder in words fit for a message.
        annotated: Pictures with regions.
        pairs: Pictures with files of masks.
        files: What was read besides those.
    """

    name: str
    annotated: tuple[Annotated, ...] = ()
    pairs: tuple[tuple[Path, Path], ...] = ()
    files: tuple[Path, ...] = ()
