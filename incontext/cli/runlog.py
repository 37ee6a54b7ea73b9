"""The two files that a run leaves beside its results: `results.jsonl` and `run.json`."""

import contextlib
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from incontext.cli.running.shard import Shard, log_name
from incontext.files.atomic import remove_parts, write_whole
from seggpt.errors import InputError


def results_path(out: Path, shard: Shard | None) -> Path:
    """Return the file with a line for each input."""
    return out / log_name("results", ".jsonl", shard)


def run_path(out: Path, shard: Shard | None) -> Path:
    """Return the file that says how a run was made."""
    return out / log_name("run", ".json", shard)


class RunLog:
    """What happened to each input, on disk as soon as it is known.

    `results.jsonl` has one line for each input ever given to this output folder, the newest one.
    Lines are appended and flushed one by one, so a killed run leaves all of them.

    Args:
        out: The output folder, which this run holds.
        shard: Which part of a run this is.
        about: What `run.json` says of the run besides its state and times.
    """

    def __init__(self, out: Path, *, shard: Shard | None, about: dict[str, object]) -> None:
        self._results, self._run = results_path(out, shard), run_path(out, shard)
        self._about = about
        self._started = time.time()
        self._lines: IO[str] | None = None

    def open(self, *, redo: set[str]) -> set[str]:
        """Start the run and return the inputs that the file still knows of.

        Args:
            redo: The inputs whose older lines are dropped, because new ones will come.

        Raises:
            InputError: The files cannot be written.
        """
        remove_parts([self._results, self._run])
        known = {}
        for record in read_results(self._results):
            if record["input"] not in redo:
                known[record["input"]] = record
        self._rewrite(known.values())
        self._lines = self._results.open("a", encoding="utf-8")
        self.describe("running")
        return set(known)

    def add(self, record: dict[str, object]) -> None:
        """Append the outcome of one input; `record` has at least "input" and "status".

        Raises:
            InputError: It cannot be written.
        """
        assert self._lines is not None, "open() comes first"
        try:
            self._lines.write(json.dumps(record) + "\n")
            self._lines.flush()
        except OSError as error:
            raise InputError(f"cannot write {self._results}: {error.strerror}") from error

    def sort(self, order: Sequence[str]) -> None:
        """Put the lines of these inputs in order, after those of earlier runs over others."""
        places = {name: place for place, name in enumerate(order)}
        records = {record["input"]: record for record in read_results(self._results)}
        self.close()
        self._rewrite(sorted(records.values(), key=lambda row: places.get(row["input"], -1)))

    def describe(self, state: str, **counts: int) -> None:
        """Rewrite `run.json`."""
        seconds = None if state == "running" else round(time.time() - self._started, 3)
        text = {
            "state": state,
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._started)),
            "seconds": seconds,
            **counts,
            **self._about,
        }
        _write(self._run, json.dumps(text, indent=2, default=str) + "\n")

    def close(self) -> None:
        """Close the file of results."""
        if self._lines is not None:
            self._lines.close()
            self._lines = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _rewrite(self, records: Iterable[dict[str, Any]]) -> None:
        _write(self._results, "".join(json.dumps(record) + "\n" for record in records))


def read_results(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a `results.jsonl`; lines that a crash cut short are left out."""
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            # Damage may also leave a number of thousands of digits, or nesting without end.
            with contextlib.suppress(ValueError, RecursionError):
                record = json.loads(line)
                if isinstance(record, dict) and isinstance(record.get("input"), str):
                    yield record


def _write(path: Path, text: str) -> None:
    write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))
