"""Vessels of the retina: CHASE_DB1, DRIVE, HRF and STARE, each with one class."""

from collections.abc import Sequence
from pathlib import Path

from data.builders.contents import Contents, Item, paired, read_marked

NAMES = {1: "vessel"}


def read_chase_db1(source: Path) -> Contents:
    """Read CHASE_DB1: the first observer; training on the first 20 pictures, as is usual."""
    items = paired(
        source,
        "Image_*.jpg",
        lambda picture: picture.with_name(f"{picture.stem}_1stHO.png"),
        read_marked,
    )
    return _contents({"train": items[:20], "val": items[20:]})


def read_drive(source: Path) -> Contents:
    """Read DRIVE; only some of its copies have masks of the test pictures."""

    def items(split: str) -> list[Item]:
        masks = source / split / "1st_manual"
        return paired(
            source / split / "images",
            f"*_{split}.tif",
            lambda picture: masks / f"{picture.stem.split('_')[0]}_manual1.gif",
            read_marked,
        )

    has_test = (source / "test" / "1st_manual").exists()
    return _contents({"train": items("training"), "val": items("test") if has_test else []})


def read_hrf(source: Path) -> Contents:
    """Read HRF: training on the first five pictures of each kind of eye, as is usual."""
    items = paired(
        source / "images",
        "*.[jJ][pP][gG]",
        lambda picture: source / "manual1" / f"{picture.stem}.tif",
        read_marked,
    )
    is_first = [int(item.name.split("_")[0]) <= 5 for item in items]
    return _contents(
        {
            "train": [item for item, first in zip(items, is_first, strict=True) if first],
            "val": [item for item, first in zip(items, is_first, strict=True) if not first],
        }
    )


def read_stare(source: Path) -> Contents:
    """Read STARE, gzipped or not: the masks of Adam Hoover; training on the first ten pictures."""
    masks = source / "labels-ah"
    items = paired(
        source / "stare-images",
        "im*.ppm*",
        lambda picture: masks / picture.name.replace(".ppm", ".ah.ppm"),
        read_marked,
    )
    return _contents({"train": items[:10], "val": items[10:]})


def _contents(splits: dict[str, Sequence[Item]]) -> Contents:
    return Contents("binary", NAMES, splits)
