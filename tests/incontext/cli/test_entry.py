"""The program around the verbs: how fast it answers, what it imports, how it ends."""

import json
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


def test_a_reader_that_goes_away_ends_the_program_quietly():
    endless = (
        "import incontext.cli.verbs.doctor as d; d.run = lambda *_: [print(i) for i in range(9**6)]"
    )
    program = f"{endless}\n{PROGRAM}sys.exit(code)"
    with subprocess.Popen(
        [sys.executable, "-c", program, "doctor"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(20) == 1


def test_one_line_escapes_what_would_break_a_terminal():
    assert one_line("a\nb\x1b[0m\u2028é") == "a\\nb\\x1b[0m\\u2028é"
    assert one_line("\udcff") == "\\udcff"
    assert json.dumps(one_line("plain text.png")) == '"plain text.png"'
