"""Tables of what the records of a set show, for `data.records`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.records import TABLES, open_sources


def write_tables(root: Path, splits: Sequence[str]) -> dict[str, int]:
    """Write the tables of a set's records; return the number of pictures of each split."""
    sources = open_sources(root, list(splits))
    rows = sorted(
        (
            (record["name"], (split, place), record)
            for split, source in enumerate(sources)
            for place, record in enumerate(_parts(source))
        ),
        key=lambda row: row[0],
    )
    records = [record for *_, record in rows]
    classes = [record["classes"] for record in records]
    instances = [record["instance_classes"] for record in records]
    of_instances = np.concatenate(instances)
    tables = {
        "names": np.array([name for name, *_ in rows], np.bytes_),
        "places": np.array([place for _, place, _ in rows], np.int32),
        "class_starts": _starts(classes),
        "class_ids": np.concatenate(classes).astype(np.uint16),
        "class_areas": np.concatenate([record["areas"] for record in records]),
        "instance_starts": _starts(instances),
        "instance_ids": of_instances[:, 0].astype(np.uint16),
        "instance_classes": of_instances[:, 1].astype(np.uint16),
    }
    assert set(tables) == set(TABLES)
    (root / "index").mkdir()
    for name, table in tables.items():
        np.save(root / "index" / f"{name}.npy", table)
    return {split: len(source) for split, source in zip(splits, sources, strict=True)}


def _parts(source: Any) -> Iterator[dict[str, Any]]:
    """Yield what tables need of records, without the pictures."""
    for place in range(len(source)):
        record = source[place]
        yield {key: record[key] for key in ("name", "classes", "areas", "instance_classes")}


def _starts(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.cumsum([0, *map(len, parts)])
