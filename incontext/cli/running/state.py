"""`--resume`: how the run before was made, and what it did."""

import argparse
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from incontext.cli.outcome import UsageError
from incontext.cli.plan import Job
from incontext.cli.runlog import read_results, results_path, run_path
from incontext.cli.running.shard import Shard
from seggpt.errors import InputError, one_line

# Which pictures, where, how fast, and what is said: a picture's files are the same.
_NEUTRAL = frozenset(
    {"run", "targets", "files_from", "null", "exclude", "no_recursive", "shard"}
    | {"output", "overwrite", "skip_existing", "resume", "dry_run", "on_error"}
    | {"device", "batch", "json", "quiet", "verbose"}
)


def settings_of(args: argparse.Namespace, files: Iterable[Path]) -> dict[str, Any]:
    """Return what shapes the files of a picture, but the model: arguments and files that are read.

    Raises:
        InputError: One of the files cannot be read.
    """
    arguments = {name: value for name, value in vars(args).items() if name not in _NEUTRAL}
    settings = {
        "verb": args.run.__module__.rpartition(".")[2],
        "arguments": arguments,
        "files": {str(path): _digest(path) for path in files},
    }
    return json.loads(json.dumps(settings))  # as it will be read again


def run_key(settings: Mapping[str, Any], model: str) -> str:
    """Return what tells runs from others whose files would differ."""
    text = json.dumps([settings, model], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Before:
    """What the runs before left in an output folder.

    Attributes:
        out: The folder.
        about: `run.json` of the last run; empty if there was none.
        records: `results.jsonl`, by input.
    """

    out: Path
    about: Mapping[str, Any]
    records: Mapping[str, Mapping[str, Any]]

    @classmethod
    def load(cls, out: Path, shard: Shard | None) -> "Before":
        """Read it; nothing is there before the first run."""
        records = {record["input"]: record for record in read_results(results_path(out, shard))}
        about: Any = None
        try:
            about = json.loads(run_path(out, shard).read_text(encoding="utf-8"))
        except FileNotFoundError:
            about = {}
        except (OSError, ValueError, RecursionError):
            pass
        is_first = about == {} and not records
        if not is_first and not _tells_settings(about):
            raise UsageError(
                f"--resume: {one_line(run_path(out, shard))} does not say how {one_line(out)} was "
                "made; give --skip-existing to keep its files, or --overwrite to do all again"
            )
        return cls(out, about, records)

    def check_settings(self, settings: Mapping[str, Any]) -> None:
        """Make sure that this run goes on with what the last one began.

        Raises:
            UsageError: It would make other files; says why.
        """
        if self.about and (changes := _compare(self.about["settings"], settings)):
            raise UsageError(self._refusal("; ".join(changes)))

    def check_model(self, fingerprint: str) -> None:
        """Make sure that the weights are those of the last run.

        Raises:
            UsageError: They are not.
        """
        if self.about and self.about.get("model") != fingerprint:
            model = self.about.get("model")
            raise UsageError(self._refusal(f"model {_words(model)} before, {fingerprint} now"))

    def is_done(self, job: Job) -> bool:
        """Say whether a picture has all its files, made by such a run from the file as it is."""
        record = self._done(job)
        return bool(
            record
            and record.get("run") == self.about.get("key")
            and record.get("file") == list(job.stamp)
            and all(map(os.path.lexists, job.outputs))
        )

    def has_changed(self, job: Job) -> bool:
        """Say whether a picture is another one than when it was done."""
        record = self._done(job)
        return bool(record and record.get("file") != list(job.stamp))

    def _done(self, job: Job) -> Mapping[str, Any] | None:
        record = self.records.get(str(job.source), {})
        return record if record.get("status") == "done" else None

    def _refusal(self, why: str) -> str:
        return (
            f"--resume: {one_line(self.out)} was made otherwise: {why}; give the same arguments, "
            "another folder with -o, or --overwrite to do all again"
        )


def _tells_settings(about: Any) -> bool:
    """Say whether a `run.json` has what `settings_of` returned."""
    settings = about.get("settings") if isinstance(about, dict) else None
    return isinstance(settings, dict) and all(
        isinstance(settings.get(part), dict) for part in ("arguments", "files")
    )


def _compare(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say in what two runs differ, as the command line has it."""
    if before.get("verb") != now["verb"]:
        return [f"by seggpt {_words(before.get('verb'))}"]
    old, new = before["arguments"], now["arguments"]
    changes = [
        f"--{name.replace('_', '-')} {_words(old.get(name))} before, {_words(new.get(name))} now"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]
    if changes:
        return changes
    old, new = before["files"], now["files"]
    return [f"{one_line(name)} has changed" for name in new if old.get(name) != new[name]]


def _words(value: object) -> str:
    if value in (None, False, []):
        return "not given"
    return "given" if value is True else one_line(" ".join(_flatten(value)))


def _flatten(value: object) -> Iterator[str]:
    for part in value if isinstance(value, list) else ():
        yield from _flatten(part)
    if not isinstance(value, list):
        yield str(value)


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot read {one_line(path)}: {error.strerror}") from error
