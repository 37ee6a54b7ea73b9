"""Damaged logs of the run before: `--resume` goes on or says what is wrong, and keeps all files."""

import argparse
import json
import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings

from incontext.cli import runlog
from incontext.cli.outcome import UsageError
from incontext.cli.plan import Job
from incontext.cli.runlog import RunLog
from incontext.cli.running.state import Before, run_key, settings_of
from seggpt.errors import InputError
from tests.damage import SEEDS, change_json, change_text, refusal

ARGS = argparse.Namespace(run=runlog.read_results, threshold=0.4, format=["mask", "overlay"])
STAMP = (120, 1_700_000_000)


@pytest.fixture(scope="module", autouse=True)
def _no_waiting_for_the_disk():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An output folder with the files of three pictures."""
    out = tmp_path_factory.mktemp("state") / "out"
    out.mkdir()
    for name in "abc":
        (out / f"{name}.png").write_text(name)
    return out


@pytest.fixture(scope="module")
def logs(folder):
    """Its two logs."""
    told = settings_of(ARGS, [folder / "a.png"])
    about = {"state": "done", "key": run_key(told, "fake"), "model": "fake", "settings": told}
    records = [
        {"input": f"in/{name}.png", "status": "done", "run": about["key"], "file": list(STAMP)}
        for name in "abc"
    ]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    return told, json.dumps(about).encode(), lines.encode()


def changed_lines(data: bytes, rng: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    chosen = rng.randrange(len(lines))
    lines[chosen] = change_json(lines[chosen], rng) + rng.choice((b"\n", b"\n", b""))
    return b"".join(lines)


def assert_goes_on_or_is_refused(seed: int, folder: Path, logs: tuple) -> None:
    rng = random.Random(seed)
    told, about, lines = logs
    if rng.random() < 0.5:
        about = rng.choice((change_json, change_text))(about, rng)
    if rng.random() < 0.7:
        lines = rng.choice((changed_lines, change_text))(lines, rng)
    (folder / "run.json").write_bytes(about)
    (folder / "results.jsonl").write_bytes(lines)

    def resume() -> None:
        before = Before.load(folder, None)
        before.check_settings(told)
        before.check_model("fake")
        for name in "abc":
            job = Job(Path(f"in/{name}.png"), Path(name), (folder / f"{name}.png",), STAMP)
            assert not (before.is_done(job) and before.has_changed(job))
        with RunLog(folder, shard=None, about={}) as log:
            known = log.open(redo={"in/b.png"})
            assert "in/b.png" not in known
            log.add({"input": "in/b.png", "status": "done"})
            log.sort(["in/a.png", "in/b.png", "in/c.png"])

    refusal(resume, UsageError, InputError)
    names = sorted(path.name for path in folder.parent.rglob("*"))
    assert names == ["a.png", "b.png", "c.png", "out", "results.jsonl", "run.json"]
    assert all((folder / f"{name}.png").read_text() == name for name in "abc")


def test_whole_logs_say_what_is_done(folder, logs):
    told, about, lines = logs
    (folder / "run.json").write_bytes(about)
    (folder / "results.jsonl").write_bytes(lines)
    before = Before.load(folder, None)
    before.check_settings(told)
    before.check_model("fake")
    assert before.is_done(Job(Path("in/a.png"), Path("a"), (folder / "a.png",), STAMP))


@pytest.mark.parametrize("line", [b"[" * 100_000, b'{"input": ' + b"9" * 5_000 + b"}", b"\xff\n"])
def test_lines_that_no_run_wrote_are_left_out(line, tmp_path):
    (tmp_path / "results.jsonl").write_bytes(line + b'\n{"input": "a.png"}\n')
    assert list(runlog.read_results(tmp_path / "results.jsonl")) == [{"input": "a.png"}]


@pytest.mark.parametrize("text", ["[" * 100_000, "{}", '{"settings": {"arguments": [1]}}'])
def test_a_run_that_does_not_say_how_it_was_made_is_refused(text, tmp_path):
    (tmp_path / "run.json").write_text(text)
    (tmp_path / "results.jsonl").write_text('{"input": "a.png"}\n')
    with pytest.raises(UsageError, match=r"run.json does not say how .* was made; give --skip"):
        Before.load(tmp_path, None)


@settings(deadline=None, max_examples=60)
@given(SEEDS)
def test_damage_is_refused_or_gone_on_with(folder, logs, seed):
    assert_goes_on_or_is_refused(seed, folder, logs)


@pytest.mark.slow
def test_much_damage_is_refused_or_gone_on_with(folder, logs):
    for seed in range(10_000):
        assert_goes_on_or_is_refused(seed, folder, logs)
