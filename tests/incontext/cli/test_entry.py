"""The program around the verbs: how fast it answers, what it imports, how it ends."""

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import seggpt
from incontext.cli import main
from seggpt.errors import one_line

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = "import sys; from incontext.cli import main; code = main(sys.argv[1:]); "
HEAVY = ("jax", "flax", "scipy", "numpy", "PIL", "rich")


def run(*argv: str, program: str = PROGRAM + "sys.exit(code)") -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", program, *argv], cwd=ROOT, capture_output=True, text=True
    )


QUICK = [
    (["--help"], 0),
    (["--version"], 0),
    (["segment", "--help"], 0),
    (["demo", "--help"], 0),
    (["tune", "--help"], 0),
    (["tune", "a", "b", "-o", "c"], 2),
    (["prompt", "--help"], 0),
    (["everything", "--help"], 0),
    ([], 2),
    (["segmnt"], 2),
    (["segment"], 2),
    (["prompt", "x.png", "-o", "out"], 2),
    (["prompt", "x.png", "--point", "1;2", "-o", "out"], 2),
    (["everything", "x.png"], 2),
    (["segment", "x.png", "-e", "nope.png", "nope.png", "-o", "out"], 2),
]


@pytest.mark.parametrize(("argv", "code"), QUICK)
def test_help_and_usage_errors_import_nothing_heavy(argv, code):
    tail = f"loaded = [m for m in {HEAVY} if m in sys.modules]; print(code, *loaded)"
    assert run(*argv, program=PROGRAM + tail).stdout.splitlines()[-1] == str(code)


@pytest.mark.parametrize("argv", [["--help"], ["segment", "x", "-e", "nope", "nope", "-o", "out"]])
def test_help_and_usage_errors_are_quick(argv):
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        run(*argv)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.3


def test_module_and_version():
    done = subprocess.run(
        [sys.executable, "-m", "incontext", "--version"], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, f"seggpt {seggpt.__version__}\n")


@pytest.mark.parametrize(
    "verb", ["segment", "prompt", "everything", "tune", "models", "doctor", "demo"]
)
def test_every_verb_is_listed_and_has_help(verb, capsys):
    assert main(["--help"]) == 0
    assert f"\n    {verb}" in capsys.readouterr().out  # a long one has a line of its own
    assert main([verb, "--help"]) == 0
    assert f"usage: seggpt {verb}" in capsys.readouterr().out


def test_an_unknown_verb_is_one_line(capsys):
    assert main(["nope\n"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("seggpt: error: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.EIO, "Input/output error", "a.png"), "a.png: Input/output error"),
        (OSError(errno.EIO, "Input/output error"), f"{os.getcwd()}: Input/output error"),
        (MemoryError(), "out of memory; try --batch 1, smaller pictures, or --device cpu"),
        (
            RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes."),
            "out of memory; try --batch 1, smaller pictures, or --device cpu",
        ),
    ],
)
def test_what_the_system_refuses_is_no_bug(error, line, monkeypatch, capsys):
    monkeypatch.setattr("incontext.cli.verbs.doctor.run", raising(error))
    assert main(["doctor"]) == 1
    assert capsys.readouterr().err == f"seggpt: error: {line}\n"


def test_a_bug_is_reported_where_no_file_can_be_written(monkeypatch, capsys):
    monkeypatch.setattr("incontext.cli.verbs.doctor.run", raising(KeyError("x")))
    monkeypatch.setattr("tempfile.NamedTemporaryFile", raising(FileNotFoundError(2, "no folder")))
    assert main(["doctor"]) == 70
    assert capsys.readouterr().err == (
        "seggpt: error: internal error: KeyError: 'x'; please report it with what -vv says\n"
    )


def test_a_working_directory_that_is_gone_is_named(tmp_path, monkeypatch, capsys):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setattr("incontext.cli.verbs.doctor.run", lambda *_: os.getcwd())
    assert main(["doctor"]) == 1
    assert "the working directory is gone" in capsys.readouterr().err


def raising(error):
    def fail(*_, **__):
        raise error

    return fail


def test_one_line_escapes_what_would_break_a_terminal():
    assert one_line("a\nb\x1b[0m\u2028é") == "a\\nb\\x1b[0m\\u2028é"
    assert one_line("\udcff") == "\\udcff"
    assert json.dumps(one_line("plain text.png")) == '"plain text.png"'
