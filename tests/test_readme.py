"""Every command and program in the README runs, in order, in one empty folder.

A block is left out only if a comment before it says why: `<!-- not run: reason -->`.
"""

import re
import shlex
from pathlib import Path

import pytest

from incontext.cli import main

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
    """An empty folder."""
    pytest.importorskip("skimage")
    return tmp_path_factory.mktemp("readme")


def run(language: str, code: str) -> None:
    """Run a block in this process, whose blocks share one model and its compiled programs."""
    if language == "python":
        exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})
        return
    for line in code.replace("\\\n", " ").splitlines():
        program, *argv = shlex.split(line)
        assert program == "seggpt"
        assert main(argv) == 0, line


@pytest.mark.usefixtures("loaded_once")
@pytest.mark.parametrize("number", range(len(TO_RUN)))
def test_block_runs(number, folder, monkeypatch):
    monkeypatch.chdir(folder)
    run(*TO_RUN[number])


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
