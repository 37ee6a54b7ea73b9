"""Every command and program in the README runs, in order, in one empty folder.

A block is left out only if a comment before it says why: `<!-- not run: reason -->`.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(
    r"(?:<!-- not run: (?P<reason>[^>]+) -->\n)?^```(?P<language>bash|python)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


def blocks(text: str) -> list[tuple[str, str, str | None]]:
    """Return the language, the code and the reason not to run it, of every block."""
    return [(m["language"], m["code"], m["reason"]) for m in BLOCK.finditer(text)]


README = blocks((ROOT / "README.md").read_text(encoding="utf-8"))
TO_RUN = [(language, code) for language, code, reason in README if reason is None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An empty folder, and a `seggpt` on the PATH that is this checkout's."""
    pytest.importorskip("skimage")
    place = tmp_path_factory.mktemp("readme")
    programs = tmp_path_factory.mktemp("bin")
    for name, command in {"seggpt": "-m incontext", "python": ""}.items():
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {command} "$@"\n')
        (programs / name).chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax-tests"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",  # blocks share their programs
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # quick to compile
    }
    return place, environment


@pytest.mark.parametrize("number", range(len(TO_RUN)))
def test_block_runs(number, folder):
    place, environment = folder
    language, code = TO_RUN[number]
    program = ["bash", "-euo", "pipefail", "-c"] if language == "bash" else [sys.executable, "-c"]
    done = subprocess.run(
        [*program, code], cwd=place, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_nearly_every_block_is_run():
    assert len(TO_RUN) >= 5
    assert {language for language, _ in TO_RUN} == {"bash", "python"}


def test_only_a_comment_with_a_reason_leaves_a_block_out():
    fence = "```"
    text = (
        f"<!-- not run: slow -->\n{fence}bash\nmake\n{fence}\n\n{fence}python\nprint(1)\n{fence}\n"
    )
    assert blocks(text) == [("bash", "make\n", "slow"), ("python", "print(1)\n", None)]
    text = f"<!-- not run: -->\n{fence}bash\nmake\n{fence}\n"
    assert blocks(text) == [("bash", "make\n", None)]
