"""Checkpoints that resume exactly: orbax for arrays, and checksums that orbax does not keep."""

import hashlib
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from seggpt.errors import CheckpointError, one_line
from train.running.hosts import wait_for_all
from train.state import TrainState

logger = logging.getLogger(__name__)

MANIFEST = "SHA256.json"
RUN = "run.json"


class SaveError(OSError):
    """A checkpoint cannot be written; the message says which one there is."""


class Checkpoints:
    """The checkpoints of a run, one folder a step; the newest `keep` are kept.

    With several processes all of them save and restore, in one folder that all of them see.
    """

    def __init__(self, folder: Path, *, keep: int) -> None:
        self.folder = folder.absolute()
        self.keep = keep

    def steps(self) -> list[int]:
        """Return the steps of finished checkpoints, oldest first.

        A folder counts once its manifest is there, which is written last.
        """
        found = self.folder.glob(f"*/{MANIFEST}")
        return sorted(int(path.parent.name) for path in found if path.parent.name.isdigit())

    def newest(self) -> tuple[int, dict[str, Any]] | None:
        """Return the step of the newest whole checkpoint and what was saved beside its state.

        Those that are damaged are passed over with a line of warning; None if there is none at all.

        Raises:
            CheckpointError: if all are damaged.
        """
        error = None
        for step in reversed(self.steps()):
            try:
                return step, self.read_run(step)
            except CheckpointError as damage:
                logger.warning("%s; trying the one before", damage)
                error = damage
        if error:
            raise CheckpointError(
                f"{self.folder}: every checkpoint is damaged; use another --out to start again"
            ) from error
        return None

    def save(self, state: TrainState, run: dict[str, Any]) -> Path:
        """Save a state and what else the run needs (JSON); then drop old ones.

        Those of later steps go as well: they are damaged, or the run would not be below them.

        Raises:
            SaveError: if it cannot be written; the ones before are as they were.
        """
        step = int(state.step)
        target, partial = self.folder / str(step), self.folder / f"{step}.partial"
        is_first = jax.process_index() == 0
        try:
            if is_first:
                self._make_room(state, partial)
            wait_for_all(f"{step} begun")
            ocp.save(str(partial / "state"), state)
            wait_for_all(f"{step} written")
            if is_first:
                (partial / RUN).write_text(json.dumps(run, indent=1))
                (partial / MANIFEST).write_text(json.dumps(_checksums(partial), indent=1))
                shutil.rmtree(target, ignore_errors=True)
                partial.rename(target)
        except Exception as error:  # tensorstore tells a full disk as a ValueError
            shutil.rmtree(partial, ignore_errors=True)
            raise SaveError(
                f"{target}: not saved ({one_line(str(error))}); {self._rest()}"
            ) from error
        if is_first:
            until = [old for old in self.steps() if old <= step]
            for other in set(self.steps()) - set(until[-self.keep :]):
                shutil.rmtree(self.folder / str(other))
        wait_for_all(f"{step} saved")
        return target

    def _make_room(self, state: TrainState, partial: Path) -> None:
        """Remove what unfinished saves left, and look whether there is room for one.

        Raises:
            OSError: if there is none.
        """
        for leftover in self.folder.glob("*.partial"):
            shutil.rmtree(leftover)
        partial.mkdir(parents=True)
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise OSError(
                f"{needed / 1e6:.1f} MB are needed, the disk has {free / 1e6:.1f} MB free"
            )

    def _rest(self) -> str:
        """Say what an attempt to save has left."""
        steps = self.steps()
        if not steps:
            return "there is no checkpoint yet"
        return f"the checkpoint of step {steps[-1]} is whole: make room and start the command again"

    def read_run(self, step: int) -> dict[str, Any]:
        """Return what was saved beside a state.

        Raises:
            CheckpointError: if a file of the checkpoint is not what was written.
        """
        folder = self.folder / str(step)
        try:
            written = dict(json.loads((folder / MANIFEST).read_text()))
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{folder / MANIFEST}: damaged ({error})") from error
        wrong = sorted(k for k, v in _checksums(folder).items() if written.get(k) != v)
        wrong += sorted(set(written) - {str(p.relative_to(folder)) for p in _files(folder)})
        if wrong:
            raise CheckpointError(
                f"{folder}: damaged: {len(wrong)} files changed since they were saved, "
                f"e.g. {wrong[0]}"
            )
        return json.loads((folder / RUN).read_text())

    def restore(self, step: int, abstract: TrainState) -> TrainState:
        """Load a state onto the shapes, types and devices of `abstract`."""
        return ocp.load(str(self.folder / str(step) / "state"), abstract)


def abstract_state(state: TrainState) -> TrainState:
    """Describe a state's arrays, for `restore`."""
    return jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), state
    )


def _files(folder: Path) -> list[Path]:
    skip = {folder / MANIFEST}
    return [path for path in folder.rglob("*") if path.is_file() and path not in skip]


def _checksums(folder: Path) -> dict[str, str]:
    sums = {}
    for path in sorted(_files(folder)):
        with path.open("rb") as file:
            sums[str(path.relative_to(folder))] = hashlib.file_digest(file, "sha256").hexdigest()
    return sums
