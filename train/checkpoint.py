"""Checkpoints that resume exactly: orbax for arrays, and checksums that orbax does not keep."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from seggpt.errors import CheckpointError
from train.state import TrainState

MANIFEST = "SHA256.json"
RUN = "run.json"


class Checkpoints:
    """The checkpoints of a run, one folder a step; the newest `keep` are kept."""

    def __init__(self, folder: Path, *, keep: int) -> None:
        self.folder = folder.absolute()
        self.keep = keep

    def steps(self) -> list[int]:
        """Return the steps of finished checkpoints, oldest first.

        A folder counts once its manifest is there, which is written last.
        """
        found = self.folder.glob(f"*/{MANIFEST}")
        return sorted(int(path.parent.name) for path in found if path.parent.name.isdigit())

    def save(self, state: TrainState, run: dict[str, Any]) -> Path:
        """Save a state and what else the run needs (JSON); then drop old ones."""
        step = int(state.step)
        target, partial = self.folder / str(step), self.folder / f"{step}.partial"
        for leftover in (target, partial):
            shutil.rmtree(leftover, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        partial.mkdir()
        ocp.save(str(partial / "state"), state)
        (partial / RUN).write_text(json.dumps(run, indent=1))
        (partial / MANIFEST).write_text(json.dumps(_checksums(partial), indent=1))
        partial.rename(target)
        for old in self.steps()[: -self.keep]:
            shutil.rmtree(self.folder / str(old))
        return target

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
                f"{folder}: {len(wrong)} files changed since they were saved, e.g. {wrong[0]}; "
                "resume from an older checkpoint by removing this one"
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
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(_files(folder))
    }
