"""`--shard`: which part of the pictures this process does, and what its own files are called."""

import argparse
import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Shard:
    """One of several processes that share a run; counted from 1."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def has(self, name: Path) -> bool:
        """Say whether a picture is this shard's, by its place below the output folder alone.

        So a picture stays where it is when others come or go between the starts of two shards.
        """
        digest = hashlib.sha256(os.fsencode(name.as_posix())).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.index - 1


def log_name(stem: str, suffix: str, shard: Shard | None) -> str:
    """Return what a run's own file is called: `results.jsonl`, `results-1-of-2.jsonl`."""
    return f"{stem}-{shard.index}-of-{shard.count}{suffix}" if shard else f"{stem}{suffix}"


def parse_shard(text: str) -> Shard:
    """Parse I/N, or read a Slurm job's share from its environment."""
    if text in ("auto", "slurm"):
        return _slurm_shard(text, os.environ)
    match = re.fullmatch(r"([0-9]+)/([0-9]+)", text)
    shard = Shard(int(match[1]), int(match[2])) if match else Shard(0, 0)
    if not 1 <= shard.index <= shard.count:
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N such as 1/4 with 1 <= I <= N")
    return shard


def _slurm_shard(text: str, variables: Mapping[str, str]) -> Shard:
    """Return the place in an array of jobs, else among the tasks of a job."""
    try:
        if "SLURM_ARRAY_TASK_ID" in variables:
            index, first, last, count = (
                int(variables[f"SLURM_ARRAY_TASK_{name}"]) for name in ("ID", "MIN", "MAX", "COUNT")
            )
            step = (last - first) // max(1, count - 1) or 1
            if first + step * (count - 1) != last or (index - first) % step:
                raise argparse.ArgumentTypeError(
                    "this Slurm array has gaps; give --shard I/N, or an array such as 1-8"
                )
            return Shard((index - first) // step + 1, count)
        return Shard(int(variables["SLURM_PROCID"]) + 1, int(variables["SLURM_NTASKS"]))
    except (KeyError, ValueError):
        raise argparse.ArgumentTypeError(
            f"{text!r} needs SLURM_ARRAY_TASK_ID, _MIN, _MAX and _COUNT, or SLURM_PROCID and "
            "SLURM_NTASKS; give I/N such as 1/4"
        ) from None
