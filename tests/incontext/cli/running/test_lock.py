"""Two runs in one folder: one is refused, and a killed one is in nobody's way."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from incontext.cli import main
from incontext.cli.outcome import UsageError
from incontext.cli.running.lock import FolderLock
from incontext.cli.running.shard import Shard

HOLD = """
import sys, time
from pathlib import Path
from incontext.cli.running.lock import FolderLock
with FolderLock(Path("out"), None):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_run_on_the_same_folder_is_refused(place, segmenter, capsys):
    place.picture(Path("a.png"))
    argv = ["segment", "a.png", *place.pair, "-o", "out"]
    with FolderLock(Path("out"), None):
        assert main(argv) == 2
        assert segmenter.loaded == 0
    assert f"another run (pid {os.getpid()}) writes to out; wait" in capsys.readouterr().err
    assert main(argv) == 0


def test_shards_of_one_run_share_a_folder_and_others_do_not():
    out = Path("out")
    with FolderLock(out, Shard(1, 2)):
        with FolderLock(out, Shard(2, 2)):
            pass
        for other in (Shard(1, 2), Shard(1, 3), None):
            with pytest.raises(UsageError, match="another run"), FolderLock(out, other):
                pass


@pytest.mark.skipif(os.name != "posix", reason="kills by signal")
def test_a_killed_run_holds_nothing(tmp_path):
    root = Path(__file__).parents[4]
    with subprocess.Popen(
        [sys.executable, "-c", HOLD],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(root)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(UsageError, match=f"pid {process.pid}"), FolderLock(Path("out"), None):
            pass
        process.send_signal(signal.SIGKILL)
    assert Path("out/results.jsonl.lock").exists()
    with FolderLock(Path("out"), Shard(1, 2)):
        assert [path.name for path in Path("out").iterdir()] == ["results-1-of-2.jsonl.lock"]


def test_a_folder_that_stays_empty_is_removed_again():
    with FolderLock(Path("deep/er/out"), None):
        assert Path("deep/er/out").is_dir()
    assert not Path("deep").exists()


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
