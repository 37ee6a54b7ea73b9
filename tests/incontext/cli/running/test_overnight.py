"""A night's work in small: killed at any moment and resumed, in shards, and in bounded memory.

`SEGGPT_PICTURES=2000 pytest -m slow tests/incontext/cli/running/test_overnight.py -s` does more of
it and shows the numbers.
"""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.incontext.cli.running.mixed_pictures import write_mixed
from tests.tiny_models import save_in_context

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="kills by signal"),
]
ROOT = Path(__file__).parents[4]
COUNT = int(os.environ.get("SEGGPT_PICTURES", "150"))
BROKEN = max(10, COUNT // 50)
LOGS = ("results", "run")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures, an example, and weights that know nothing."""
    place = tmp_path_factory.mktemp("night")
    save_in_context(place)
    write_mixed(place / "in", COUNT - BROKEN, broken=BROKEN)
    write_mixed(place / "few", 20, broken=0)
    Image.radial_gradient("L").resize((64, 64)).convert("RGB").save(place / "example.png")
    mask = Image.new("L", (64, 64))
    mask.paste(255, (20, 20, 44, 44))
    mask.save(place / "mask.png")
    assert run(place, "in", "whole")[0] == 3
    return place


def start(place: Path, source: str, out: str, *options: str) -> "subprocess.Popen[bytes]":
    model = ("--model", "in_context.safetensors", "--size", "112", "-q")
    pair = ("-e", "example.png", "mask.png", "--format", "mask,overlay,probabilities,binary")
    command = [sys.executable, "-m", "incontext", "segment", source, "-o", out, *pair, *model]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [*command, *options], cwd=place, env=environment, stderr=subprocess.DEVNULL
    )


def run(place: Path, source: str, out: str, *options: str) -> tuple[int, int]:
    """Return the exit code and the most memory, in kilobytes."""
    with start(place, source, out, *options) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_maxrss


def files(folder: Path) -> dict[str, bytes]:
    """Return what a run wrote, but its logs."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in paths
        if not path.name.startswith(LOGS)
    }


def names(folder: Path) -> list[str]:
    """Return all that a run left, its logs and what may be half-written too."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def records(path: Path) -> list[dict[str, Any]]:
    """Return the records without what differs from run to run: seconds and the output folder."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{**row, "seconds": 0, "outputs": len(row["outputs"])} for row in rows]


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_any_moment_and_resumed_it_is_as_one_run(folder, seed):
    chance, out, kills = random.Random(seed), f"killed{seed}", 0
    log = folder / out / "results.jsonl"
    before = 0
    while True:
        enough = before + chance.randint(1, max(2, COUNT // 5))
        with start(folder, "in", out, "--resume") as process:
            while process.poll() is None:
                before = len(log.read_bytes().splitlines()) if log.exists() else 0
                if before >= enough:
                    time.sleep(chance.random() * 0.05)
                    process.kill()
                time.sleep(0.005)
        if process.returncode != -9:
            break
        kills += 1
    print(f"\n{COUNT} pictures, {BROKEN} broken: killed {kills} times")
    assert process.returncode == 3
    assert kills >= 2
    assert names(folder / out) == names(folder / "whole")
    assert files(folder / out) == files(folder / "whole")
    assert records(log) == records(folder / "whole" / "results.jsonl")


def test_two_shards_at_the_same_time_are_as_one_run(folder):
    parts = [start(folder, "in", "shards", "--shard", f"{number}/2") for number in (1, 2)]
    assert {part.wait() for part in parts} <= {0, 3}
    assert files(folder / "shards") == files(folder / "whole")
    logs = [records(folder / "shards" / f"results-{number}-of-2.jsonl") for number in (1, 2)]
    both = sorted([row for log in logs for row in log], key=lambda row: row["input"])
    one = records(folder / "whole" / "results.jsonl")
    keys = ("input", "status", "outputs")
    assert [[row[key] for key in keys] for row in both] == [
        [row[key] for key in keys] for row in sorted(one, key=lambda row: row["input"])
    ]


def test_memory_does_not_grow_with_the_number_of_pictures(folder):
    few, many = run(folder, "few", "few_out")[1], run(folder, "in", "many_out")[1]
    print(f"\npeak memory: {few >> 10} MB for 20 pictures, {many >> 10} MB for {COUNT}")
    assert many < 1.1 * few
