"""Lists of names, and names that are left out."""

import io
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from incontext.cli import main


@pytest.fixture
def say(monkeypatch):
    """Put bytes on stdin."""

    def put(data: bytes) -> None:
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(data)))

    return put


@pytest.fixture
def segment(place, segmenter, capsys):
    """Segment and return the exit code, what was written, and what was said."""

    def run(*argv):
        code = main(["segment", *argv, *place.pair, "-o", "out"])
        names = place.written() if Path("out").exists() else []
        return code, [name for name in names if name.endswith(".png")], capsys.readouterr().err

    for name in ("in/a.png", "in/sub/a.png", "in/sub/b_mask.png", "c [1].png"):
        place.picture(Path(name))
    return run


def test_names_come_from_stdin_a_line_each(segment, say):
    say(b"in/a.png\r\n\n./in/sub/a.png\n")
    code, written, _ = segment("c [1].png", "-")
    assert code == 0
    assert written == ["c [1].png", "in/a.png", "in/sub/a.png"]


def test_names_end_with_nul_if_asked(segment, say, place):
    if os.name == "posix":
        place.picture(Path("new\nline.png"))
    say(b"in/a.png\0" + (b"new\nline.png\0" if os.name == "posix" else b""))
    code, written, _ = segment("-", "-0")
    assert code == 0
    assert "in/a.png" in written
    assert ("new\nline.png" in written) == (os.name == "posix")


def test_names_come_from_a_file(segment):
    Path("list.txt").write_bytes(b"\xef\xbb\xbfin/a.png\nin/sub")
    code, written, _ = segment("--files-from", "list.txt")
    assert code == 0
    assert written == ["a.png", "b_mask.png", "in/a.png"]  # a folder's tree is as ever


def test_absolute_names_and_those_from_above_give_their_last_part(segment, monkeypatch):
    path = Path("in/a.png").absolute()
    Path("in/sub/list.txt").write_text(f"{path}\n../sub/b_mask.png\n")
    place = Path.cwd()
    monkeypatch.chdir("in/sub")
    pair = ["-e", str(place / "example.png"), str(place / "mask.png")]
    assert main(["segment", "--files-from", "list.txt", *pair, "-o", "out"]) == 0
    assert sorted(path.name for path in Path("out").glob("*.png")) == ["a.png", "b_mask.png"]


def test_a_missing_name_is_told_with_its_line_and_the_rest_is_done(segment):
    Path("list.txt").write_text("in/a.png\nc [2].png\nin/*.png\n")
    code, written, error = segment("--files-from", "list.txt")
    assert code == 3
    assert written == ["in/a.png"]
    assert "no such file: c [2].png (list.txt, line 2)" in error
    assert "no such file: in/*.png (list.txt, line 3)" in error


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nope.txt", "no such file"),
        ("in", "not a file"),
        ("empty.txt", "no names in it"),
        ("in/a.png", "not a list of names"),
        ("nul.txt", "add -0"),
    ],
)
def test_what_is_no_list_is_refused(name, words, segment):
    Path("empty.txt").write_text("\n\n")
    Path("nul.txt").write_bytes(b"in/a.png\0in/b.png\0")
    code, written, error = segment("--files-from", name)
    assert (code, written) == (2, [])
    assert words in error
    assert len(error.splitlines()) == 1


def test_a_picture_is_no_list_of_nul_separated_names_either(segment):
    Path("big.png").write_bytes(b"\x89PNG\r\n" + bytes(range(1, 256)) * 40)
    code, _, error = segment("--files-from", "big.png", "-0")
    assert code == 2
    assert "leave -0 out" in error


@pytest.mark.parametrize("argv", [[], ["in", "-0"], ["-", "-"], ["-", "--files-from", "-"]])
def test_what_makes_no_sense_is_refused(argv, segment):
    code, _, error = segment(*argv)
    assert code == 2
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("pattern", "written"),
    [
        ("*_mask.png", ["a.png", "sub/a.png"]),
        ("sub", ["a.png"]),
        ("sub/**", ["a.png"]),
        ("sub/a.*", ["a.png", "sub/b_mask.png"]),
        ("**/a.png", ["sub/b_mask.png"]),
        ("A.PNG", ["a.png", "sub/a.png", "sub/b_mask.png"]),
    ],
)
def test_patterns_leave_out_what_they_match_below_the_folder(pattern, written, segment):
    assert segment("in", "--exclude", pattern)[:2] == (0, written)


def test_patterns_may_be_repeated_and_leaving_out_all_is_told(segment):
    code, _, error = segment("in", "--exclude", "a.png", "--exclude", "b_*")
    assert code == 1
    assert "no images left: --exclude leaves out all" in error
