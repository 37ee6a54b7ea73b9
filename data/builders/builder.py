"""Write a data set as records, whole or not at all: `prepare`."""

import io
import json
import logging
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from data.builders.contents import Contents, Item
from data.builders.encoding import encode
from data.builders.tables import write_tables
from data.prefetch import prefetch
from incontext.cli.console import Console
from seggpt.errors import InputError, one_line

VERSION = "1.0.0"
WORKERS = 4  # threads that read pictures and masks

logger = logging.getLogger(__name__)
tfds.disable_progress_bar()  # ours tells what is left of the whole


@dataclass
class Written:
    """What came of a set: where it lies, and what could not be read."""

    path: Path
    counts: Mapping[str, int]
    is_new: bool = True
    failed: list[str] = field(default_factory=list)


class RecordsBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Writes the pictures of any contents; tensorflow-datasets shuffles and shards them."""

    VERSION = tfds.core.Version(VERSION)
    url_infos = None  # nothing is downloaded

    def __init__(
        self, name: str, contents: Contents, *, data_dir: Path, advance: Callable[[], None]
    ) -> None:
        # One class serves all sets, and the name is read from the instance alone.
        self.name = name  # pyright: ignore[reportAttributeAccessIssue]
        self.contents, self.advance = contents, advance
        self.failed: list[str] = []
        super().__init__(data_dir=str(data_dir), file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features
        shape = (None, None, 1)
        wide = max(self.contents.classes, default=0) > 255
        classes = np.uint16 if wide else np.uint8
        return tfds.core.DatasetInfo(
            builder=self,
            features=features.FeaturesDict(
                {
                    "name": features.Text(),
                    "images": features.Image(shape=(None, None, 3)),
                    "masks": features.Image(shape=shape, dtype=classes, encoding_format="png"),
                    "instances": features.Image(
                        shape=shape, dtype=np.uint16, encoding_format="png"
                    ),
                    "classes": features.Tensor(shape=(None,), dtype=np.int32),
                    "areas": features.Tensor(shape=(None,), dtype=np.float32),
                    "instance_classes": features.Tensor(shape=(None, 2), dtype=np.int32),
                }
            ),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[str, Any]]]:
        del dl_manager  # what is downloaded is the reader's business
        return {name: self._generate_examples(own) for name, own in self.contents.splits.items()}

    def _generate_examples(self, items: Sequence[Item]) -> Iterator[tuple[str, Any]]:
        wide = max(self.contents.classes, default=0) > 255

        def make(place: int) -> dict[str, Any] | str:
            try:
                return encode(items[place], wide=wide)
            except InputError as error:
                return str(error)

        for made in prefetch(make, range(len(items)), depth=2 * WORKERS, workers=WORKERS):
            self.advance()
            if isinstance(made, str):
                logger.warning("%s; left out", made)
                self.failed.append(made)
            else:
                yield made["name"], made


def prepare(
    name: str,
    read: Callable[[Path], Contents],
    *,
    source: Path,
    out: Path,
    about: Mapping[str, str],
    overwrite: bool = False,
) -> Written:
    """Write a set into `out`, unless it is there.

    Raises:
        InputError: Something of the source is missing or makes no sense.
    """
    target = out / name / VERSION
    if (target / "info.json").exists() and not overwrite:
        info = json.loads((target / "info.json").read_text())
        return Written(target, info["splits"], is_new=False)
    contents = read(source)
    contents = replace(contents, splits={k: own for k, own in contents.splits.items() if own})
    _check(contents, source)
    work = out / f".{name}.part"
    shutil.rmtree(work, ignore_errors=True)
    try:
        work.mkdir(parents=True)
        total = sum(map(len, contents.splits.values()))
        with Console().progress(total, label=name) as advance:
            builder = RecordsBuilder(name, contents, data_dir=work, advance=advance)
            with redirect_stdout(io.StringIO()):  # it prints what a user need not know
                _build(builder, source)
        made = Path(str(builder.data_dir))
        counts = write_tables(made, list(contents.splits))
        info = {"name": name, "kind": contents.kind, "is_prepared": True, **about}
        info |= {"classes": dict(contents.classes), "splits": counts}
        info |= {"has_instances": bool(np.load(made / "index" / "instance_ids.npy").size)}
        (made / "info.json").write_text(json.dumps(info, indent=1))
        for file in contents.files:
            shutil.copyfile(file, made / file.name)
        target.parent.mkdir(exist_ok=True)
        if target.exists():
            os.replace(target, work / "old")
        os.replace(made, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return Written(target, counts, failed=builder.failed)


def _build(builder: RecordsBuilder, source: Path) -> None:
    try:
        builder.download_and_prepare()
    except AssertionError as error:  # a split without examples
        first = f": {builder.failed[0]}" if builder.failed else ""
        raise InputError(f"{one_line(source)}: no picture of a split can be read{first}") from error


def _check(contents: Contents, source: Path) -> None:
    if not contents.splits:
        raise InputError(f"{one_line(source)}: nothing is marked in any picture")
    names = Counter(item.name for items in contents.splits.values() for item in items)
    if twice := [name for name, count in names.items() if count > 1]:
        raise InputError(f"{one_line(source)}: two pictures are called {twice[0]!r}; rename one")
