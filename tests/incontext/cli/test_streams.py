"""Streams that are closed, full, without a reader, or without the characters of a name."""

import io
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from incontext.cli import main

ROOT = Path(__file__).resolve().parents[3]
FULL = Path("/dev/full")


def shell(command: str) -> subprocess.CompletedProcess:
    """Run a line of bash in which "$@" is the program."""
    program = [sys.executable, "-m", "incontext"]
    argv = ["bash", "-o", "pipefail", "-c", command, "bash", *program]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60)


@contextmanager
def nobody_reads(monkeypatch):
    """Let stdout be a pipe whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stdout, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stdout)
        yield


@pytest.mark.parametrize(
    "asked", ["models >&-", "--help 2>&-", "--help <&- >&- 2>&-", "models | true", "--help | true"]
)
def test_closed_streams_and_a_reader_that_goes_are_no_failure(asked):
    done = shell(f'"$@" {asked}')
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not FULL.exists(), reason="there is no full device")
def test_a_full_stdout_is_one_line_and_a_full_stderr_is_silent():
    done = shell('"$@" models > /dev/full')
    assert done.returncode == 1
    assert done.stderr == "seggpt: error: cannot write to stdout: No space left on device\n"
    assert shell('"$@" nope 2> /dev/full').returncode == 2


def test_no_file_takes_the_place_of_a_closed_stream():
    opens = "from incontext.cli.console import open_streams; open_streams(); "
    done = shell(f'"$1" -c "{opens} open(\'README.md\').fileno() > 2 or exit(9)" <&- >&- 2>&-')
    assert done.returncode == 0


def test_characters_that_stdout_lacks_are_escaped(place, segmenter, monkeypatch):
    place.picture(Path("写真/café.png"))
    written = io.BytesIO()
    stdout = io.TextIOWrapper(written, encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", stdout)
    assert main(["segment", "写真", *place.pair, "-o", "out", "--dry-run"]) == 0
    assert written.getvalue().decode("cp1252") == (
        f"\\u5199\\u771f{os.sep}café.png -> out{os.sep}café.png\n"
    )


def test_without_a_reader_of_the_events_a_run_ends(place, segmenter, monkeypatch, capsys):
    place.picture(Path("a.png"))
    with nobody_reads(monkeypatch):
        assert main(["segment", "a.png", *place.pair, "-o", "out", "--json"]) == 1
    assert capsys.readouterr().err == (
        "seggpt: error: stdout: the program that read the events has gone\n"
    )
    assert place.run()["state"] == "failed"


def test_data_that_nobody_reads_is_no_failure(place, segmenter, monkeypatch, capsys):
    place.picture(Path("a.png"))
    with nobody_reads(monkeypatch):
        assert main(["segment", "a.png", *place.pair, "-o", "out", "--dry-run"]) == 0
    assert capsys.readouterr().err == "seggpt: dry run: 1 to do, 0 done before\n"
