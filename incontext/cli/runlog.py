"""The two files that a run leaves beside its results: `results.jsonl` and `run.json`."""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from incontext.cli.outcome import UsageError
from seggpt.errors import InputError

try:
    import fcntl
except ImportError:  # Windows: two runs on one folder go unnoticed there
    fcntl = None

RESULTS = "results.jsonl"
RUN = "run.json"


class RunLog:
    """What happened to each input, on disk as soon as it is known.

    `results.jsonl` has one line for each input ever given to this output folder, the newest one.
    Lines are appended and flushed one by one, so a killed run leaves all of them.

    Args:
        out: The output folder; it is made if need be.
        about: What `run.json` says of the run besides its state and times.
    """

    def __init__(self, out: Path, *, about: dict[str, object]) -> None:
        self._out = out
        self._about = about
        self._started = time.time()
        self._lines: IO[str] | None = None
        self._lock = -1

    def open(self, *, redo: set[str]) -> set[str]:
        """Start the run and return the inputs that the file still knows of.

        Args:
            redo: The inputs whose older lines are dropped, because new ones will come.

        Raises:
            UsageError: Another run is writing to this folder.
            InputError: Nothing can be written there.
        """
        path = self._out / RESULTS
        known = set()
        with _writing(self._out):
            self._out.mkdir(parents=True, exist_ok=True)
            self._take_lock()
            with write_atomically(path) as file:
                for record in read_results(path):
                    if record["input"] not in redo:
                        known.add(record["input"])
                        file.write(json.dumps(record) + "\n")
            self._lines = path.open("a", encoding="utf-8")
        self.describe("running")
        return known

    def add(self, record: dict[str, object]) -> None:
        """Append the outcome of one input; `record` has at least "input" and "status".

        Raises:
            InputError: It cannot be written.
        """
        assert self._lines is not None, "open() comes first"
        with _writing(self._out / RESULTS):
            self._lines.write(json.dumps(record) + "\n")
            self._lines.flush()

    def describe(self, state: str, **counts: int) -> None:
        """Rewrite `run.json`.

        Raises:
            InputError: It cannot be written.
        """
        seconds = None if state == "running" else round(time.time() - self._started, 3)
        text = {
            "state": state,
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._started)),
            "seconds": seconds,
            **counts,
            **self._about,
        }
        with _writing(self._out / RUN), write_atomically(self._out / RUN) as file:
            file.write(json.dumps(text, indent=2) + "\n")

    def close(self) -> None:
        """Let go of the folder."""
        if self._lines is not None:
            with contextlib.suppress(OSError):  # of a full disk, which `add` has told
                self._lines.close()
            self._lines = None
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _take_lock(self) -> None:
        """Lock the folder itself: nothing is left behind, and a killed run holds nothing."""
        if fcntl is None:
            return
        self._lock = os.open(self._out, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(f"another run is writing to {self._out}; wait for it") from error
        except OSError:  # a file system without locks
            pass


def read_results(path: Path) -> Iterator[dict[str, str]]:
    """Yield the records of a `results.jsonl`; lines that a crash cut short are left out."""
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            with contextlib.suppress(json.JSONDecodeError):
                record = json.loads(line)
                if isinstance(record, dict) and isinstance(record.get("input"), str):
                    yield record


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; choose another folder") from error


@contextlib.contextmanager
def write_atomically(path: Path) -> Iterator[IO[str]]:
    """Open a text file that appears under its name only when it is complete."""
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            yield file
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
