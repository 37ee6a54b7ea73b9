"""Published checkpoints of SegGPT, Painter, SAM and its relatives, in any dialect, as ours."""

import logging
import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from seggpt.errors import CheckpointError
from seggpt.weights.checking import check_tensors
from seggpt.weights.containers import Tensors, open_tensors
from seggpt.weights.files import LoadedWeights, is_own_file, load_weights
from seggpt.weights.layouts import convert
from seggpt.weights.names import BLOCK_PREFIXES, Dialect, Family, Name, name_table
from seggpt.weights.sam.family import recognise_relative, refuse_unread
from seggpt.weights.sam.names import TWINS, sam_name_table
from seggpt.weights.shapes import ShapeError, infer_config
from seggpt.weights.sniff import sniff
from seggpt.weights.tree import unflatten

_TITLES: dict[str, str] = {"seggpt": "SegGPT", "painter": "Painter", "sam": "SAM"}
_SAM_PREFIXES = ("image_encoder.", "vision_encoder.", "prompt_encoder.", "mask_decoder.")
_PARALLEL_PREFIX = "module."  # torch's DistributedDataParallel puts it before every name
_FORGET_BYTES = 64 << 20

_logger = logging.getLogger(__name__)


def load_published(
    path: str | os.PathLike[str], *, family: Family | Literal["any"] | None = None
) -> LoadedWeights:
    """Read a published checkpoint and bring it into our names and layouts.

    Takes a `.safetensors` file, a Hugging Face folder (whole or in shards) or an authors' `.pth`,
    in the authors' or in Hugging Face's names, and files of our own. All arrays come back as
    float32. `family` refuses the other families' files; without it, SegGPT and Painter are taken,
    which learn from examples, and SAM is not.

    Raises:
        CheckpointError: if the file is missing, damaged, unsafe or of another model; one line
            that counts all missing, unexpected and mis-shaped tensors and names the first.
    """
    path = Path(path)
    if not path.is_dir() and sniff(path) == "safetensors" and is_own_file(path):
        weights = load_weights(path)
        _check_family(path, weights.metadata.get("family"), family)
        return weights
    with open_tensors(path) as tensors:
        return _load(path, tensors, family)


def detect_family(names: Collection[str]) -> Literal["seggpt", "painter", "sam", "unknown"]:
    """Tell the model that a checkpoint's tensor names belong to.

    A file with half of SegGPT's names outside the blocks counts as one, so that what it lacks can
    be listed.
    """
    if any(name.startswith(_SAM_PREFIXES) for name in names):
        return "sam"
    if (dialect := _detect_dialect(names)) is None:
        return "unknown"
    plain = {name.theirs for name in name_table(dialect=dialect, depth=0, type_tokens=False)}
    both = {name.theirs for name in name_table(dialect=dialect, depth=0)}
    return "painter" if (both - plain).isdisjoint(names) else "seggpt"


def _detect_dialect(names: Collection[str]) -> Dialect | None:
    for dialect in ("authors", "huggingface"):
        wanted = {name.theirs for name in name_table(dialect=dialect, depth=0, type_tokens=False)}
        if 2 * len(wanted.intersection(names)) >= len(wanted):
            return dialect
    return None


def _load(path: Path, tensors: Tensors, family: Family | Literal["any"] | None) -> LoadedWeights:
    prefix = _PARALLEL_PREFIX if all(n.startswith(_PARALLEL_PREFIX) for n in tensors.infos) else ""
    present = {name.removeprefix(prefix) for name in tensors.infos}
    found, dialect = _recognise(path, present)
    _check_family(path, found, family)
    relative = recognise_relative(present) if found == "sam" else None
    model_types = ("sam", "sam_hq") if relative else ("seggpt",)
    published = tensors.config if tensors.config.get("model_type") in model_types else {}
    depth = max(1, _count_blocks(present, BLOCK_PREFIXES[dialect]))
    twins = [name for name in TWINS if name in present and relative] or TWINS[:1]
    if relative:
        table = relative.name_table(present, dialect=dialect, twin=twins[0])
    else:
        table = name_table(
            dialect=dialect,
            depth=depth,
            type_tokens=found == "seggpt",
            rel_pos=published.get("use_relative_position_embeddings") is not False,
        )
    title = relative.title if relative else "SegGPT or Painter"
    unused = relative.unused(present) if relative else []
    spare = [prefix + name for name in (*twins[1:], *unused)]
    values = check_tensors(path, tensors, table, prefix, model=title, spare=spare)
    _check_twins(path, tensors, [prefix + name for name in twins])
    try:
        if relative:
            config = relative.infer_config(values, present, dialect=dialect, published=published)
        else:
            config = infer_config(
                values, depth=depth, type_tokens=found == "seggpt", published=published
            )
    except ShapeError as error:
        raise CheckpointError(f"{path}: {error}") from error
    title = relative.title if relative else _TITLES[found]
    _logger.info("%s: %s, depth %d, width %d", path, title, config["depth"], config["width"])
    arrays = _convert_all(tensors, table, prefix)
    return LoadedWeights(
        params=unflatten(relative.finish(arrays) if relative else arrays),
        config=config,
        metadata={"family": found, "dialect": dialect, "source": path.name},
    )


def _recognise(path: Path, present: Collection[str]) -> tuple[Family, Dialect]:
    """Return the model, and whose names its tensors have."""
    refuse_unread(path, present)
    found = detect_family(present)
    if found == "sam":
        return found, _detect_sam_dialect(present)
    dialect = _detect_dialect(present)
    if found == "unknown" or dialect is None:
        example = next(iter(present), "")[:80]
        raise CheckpointError(
            f"{path}: not a SegGPT, Painter or SAM checkpoint; it holds {len(present)} tensors "
            f"such as {example!r}"
        )
    return found, dialect


def _detect_sam_dialect(names: Collection[str]) -> Dialect:
    """Tell whose names most of a SAM's tensors have."""

    def known(dialect: Dialect) -> int:
        table = sam_name_table(dialect=dialect, depth=0)
        return len({name.theirs for name in table}.intersection(names))

    return "huggingface" if known("huggingface") > known("authors") else "authors"


def _check_family(path: Path, found: str | None, wanted: Family | Literal["any"] | None) -> None:
    if wanted == "any" or found not in _TITLES or found == wanted:
        return
    if found == "sam":
        raise CheckpointError(
            f"{path}: a SAM checkpoint, not SegGPT; load it with incontext.Predictor"
        )
    if wanted == "sam":
        raise CheckpointError(
            f"{path}: a {_TITLES[found]} checkpoint, not SAM: it has no heads for points and boxes"
        )
    if wanted is not None:
        tokens = "without" if found == "painter" else "with"
        raise CheckpointError(
            f"{path}: a {_TITLES[found]} checkpoint ({tokens} type tokens) given where "
            f"{_TITLES[wanted]} was asked for"
        )


def _count_blocks(names: Iterable[str], prefix: str) -> int:
    """Count the block numbers that occur; if some are skipped, the names show it later."""
    return len({n.removeprefix(prefix).split(".")[0] for n in names if n.startswith(prefix)})


def _check_twins(path: Path, tensors: Tensors, twins: list[str]) -> None:
    """Make sure that what is there twice is the same twice."""
    if len(twins) < 2:
        return
    one, other = (tensors.read(name) for name in twins)
    if not np.array_equal(one, other):
        raise CheckpointError(f"{path}: {twins[0]} and {twins[1]} differ, where one is needed")


def _convert_all(tensors: Tensors, table: list[Name], prefix: str) -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    unforgotten = 0
    for name in table:
        array = tensors.read(prefix + name.theirs)
        arrays[name.ours] = convert(array, name=name)
        unforgotten += array.nbytes
        if unforgotten > _FORGET_BYTES:
            tensors.forget()
            unforgotten = 0
    return arrays
