"""Run several subjects in turns: picture by picture, so that all meet the same machine."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from statistics import median
from typing import IO, Any, Literal

from incontext.bench.report import Row
from seggpt.config import ENCODERS
from seggpt.errors import SegGPTError

Task = Literal["segment", "encode", "click", "everything"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """What one process measures."""

    model: str | None  # a preset, the name of shipped weights or a file; None: the default
    device: str | None
    dtype: str | None
    task: Task = "segment"
    examples: int = 1  # to segment with
    points_per_side: int = 32  # of everything mode
    size: int = 448  # pixels along a side, for an image encoder alone
    peer: bool = False  # transformers' SegGPT or SAM in place of `model`

    @property
    def label(self) -> str:
        """What the table calls the task."""
        if self.task == "segment":
            return f"{self.examples} example{'s' if self.examples > 1 else ''}"
        side = self.points_per_side
        if self.model in ENCODERS:
            return f"{self.task} {self.size} px"
        return f"everything {side}x{side}" if self.task == "everything" else self.task

    @property
    def name(self) -> str:
        """What the table calls it."""
        return "transformers" if self.peer else self.model or "default weights"


def measure(jobs: Sequence[Job], *, runs: int, advance: Callable[[], None]) -> list[Row]:
    """Measure jobs side by side; each run is one picture of each job, in order.

    Raises:
        SegGPTError: if a subject cannot be made, or its process dies.
    """
    with ExitStack() as stack:
        # One after another: two that compile at once would spoil each other's times.
        workers = [stack.enter_context(_working(job)) for job in jobs]
        first = [worker.ask() for worker in workers]
        answers: list[list[dict[str, Any]]] = [[] for _ in workers]
        for _ in range(runs):
            for worker, heard in zip(workers, answers, strict=True):
                heard.append(worker.ask())
                advance()
    rows = []
    for worker, start, heard in zip(workers, first, answers, strict=True):
        seconds, cpu_seconds = (
            median(answer[key] for answer in heard) for key in ("seconds", "cpu_seconds")
        )
        rows.append(
            Row(
                name=worker.job.name,
                task=worker.job.label,
                **worker.about,
                first_s=start["seconds"],
                picture_s=seconds,
                cpu_s=cpu_seconds,
                peak_mib=heard[-1]["peak_mib"],
            )
        )
    return rows


class _Worker:
    """A process that segments one picture when it is asked to."""

    def __init__(self, job: Job, process: "subprocess.Popen[str]", errors: IO[str]) -> None:
        self.job = job
        self._process = process
        self._errors = errors
        self.about = self._hear()

    def ask(self) -> dict[str, Any]:
        """Let it segment once and return what it measured."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._hear()

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self._errors.seek(0)
            words = (self._errors.read().strip().splitlines() or ["is there enough memory?"])[-1]
            raise SegGPTError(f"{self.job.name}: the process ended with {code}: {words}")
        answer = json.loads(line)
        if "error" in answer:
            raise SegGPTError(f"{self.job.name}: {answer['error']}")
        return answer


@contextmanager
def _working(job: Job) -> Iterator[_Worker]:
    environment = {
        **os.environ,
        # The first picture shows what compiling takes, and the last line of stderr is the error.
        "JAX_ENABLE_COMPILATION_CACHE": "false",
        "JAX_TRACEBACK_FILTERING": "off",
    }
    command = [sys.executable, "-m", "incontext.bench.worker", json.dumps(asdict(job))]
    with (
        tempfile.TemporaryFile("w+", errors="replace") as errors,
        subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            yield _Worker(job, process, errors)
        finally:
            process.kill()
