"""Bad inputs 20 to 22 and 40: where results go, and how a run ends."""

import errno
import os
import signal
import time
from pathlib import Path

import pytest

from incontext.cli.running.lock import FolderLock
from incontext.result import Result
from seggpt.errors import InputError

pytestmark = pytest.mark.usefixtures("segmenter")


def test_20_two_pictures_of_one_name(seggpt):
    seggpt.picture(Path("one/a.jpg"))
    seggpt.picture(Path("two/a.png"))
    seggpt.fails(
        2, ("one/a.jpg", "two/a.png", "would both write"), "segment", "one", "two", *seggpt.out
    )


def test_21_a_result_that_is_there_or_is_an_input(seggpt):
    seggpt.picture(Path("in/a.png"))
    seggpt.works("segment", "in", *seggpt.out)
    seggpt.fails(2, "refusing to overwrite a.png", "segment", "in", *seggpt.out)
    own = ["segment", "in/a.png", *seggpt.pair, "-o", "in", "--overwrite"]
    seggpt.fails(2, "is an input of this run", *own)
    seggpt.fails(2, "is not a folder", "segment", "in", *seggpt.pair, "-o", "mask.png")


def test_22_a_folder_that_cannot_be_written(seggpt, monkeypatch):
    seggpt.picture(Path("a.png"))
    monkeypatch.setattr(os, "access", lambda *_: False)
    seggpt.fails(1, "cannot write out: Permission denied", "segment", "a.png", *seggpt.out)


@pytest.mark.parametrize(("full_from", "code"), [("a", 1), ("b", 3)])
def test_22_a_disk_that_fills(full_from, code, seggpt, monkeypatch):
    for name in "abc":
        seggpt.picture(Path(f"in/{name}.png"))
    save = Result.save

    def save_or_fail(result, *args, name, **options):
        if str(name) >= full_from:
            cause = OSError(errno.ENOSPC, "No space left on device")
            raise InputError(f"cannot write out/{name}.png: {cause.strerror}") from cause
        return save(result, *args, name=name, **options)

    monkeypatch.setattr(Result, "save", save_or_fail)
    gist = "No space left on device"
    seggpt.fails(code, gist, "segment", "in", *seggpt.out)


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_40_signals(number, code, word, seggpt, segmenter):
    seggpt.picture(Path("a.png"))
    segmenter.before_result = staticmethod(lambda count: os.kill(os.getpid(), number))
    gist = (word, "go on with --resume")
    seggpt.fails(code, gist, "segment", "a.png", *seggpt.out)
    assert seggpt.run()["state"] == "interrupted"


def test_40_a_picture_that_goes_while_the_run_is_on(seggpt, segmenter):
    for name in "abcdefgh":  # some are read before the first is done
        seggpt.picture(Path(f"in/{name}.png"))
    segmenter.before_result = staticmethod(lambda count: Path("in/h.png").unlink(missing_ok=True))
    seggpt.fails(3, "no such file: in/h.png", "segment", "in", *seggpt.out, "--batch", "1")


def test_40_a_clock_that_goes_back(seggpt, monkeypatch):
    seggpt.picture(Path("a.png"))
    ticks = iter(range(10**9, 0, -1000))
    monkeypatch.setattr(time, "time", lambda: next(ticks))
    seggpt.works("segment", "a.png", *seggpt.out)
    assert seggpt.run()["state"] == "done"


def test_40_two_runs_on_one_folder(seggpt):
    pytest.importorskip("fcntl")
    seggpt.picture(Path("a.png"))
    with FolderLock(Path("out"), None):
        seggpt.fails(
            2, f"another run (pid {os.getpid()}) writes to out", "segment", "a.png", *seggpt.out
        )
