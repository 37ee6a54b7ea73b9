"""`--shard`: disjoint parts that are stable, and together all."""

import argparse
from itertools import chain
from pathlib import Path

import pytest

from incontext.cli import main
from incontext.cli.running.lock import FolderLock
from incontext.cli.running.shard import Shard, parse_shard

NAMES = [Path(f"folder/{number}") for number in range(200)]


def test_every_picture_is_in_one_shard_of_about_equal_size():
    parts = [[name for name in NAMES if Shard(number, 3).has(name)] for number in (1, 2, 3)]
    assert sorted(chain(*parts)) == sorted(NAMES)
    assert all(45 < len(part) < 90 for part in parts)


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/0", "a/b", "-1/2", "1/2/3", ""])
def test_what_is_no_part_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="1/4"):
        parse_shard(text)


@pytest.mark.parametrize(
    ("array", "index", "shard"),
    [((0, 7, 8), 0, "1/8"), ((1, 8, 8), 8, "8/8"), ((10, 40, 4), 20, "2/4"), ((5, 5, 1), 5, "1/1")],
)
def test_auto_counts_the_tasks_of_a_slurm_array(array, index, shard, monkeypatch):
    first, last, count = array
    values = {"ID": index, "MIN": first, "MAX": last, "COUNT": count}
    for name, value in values.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("SLURM_NTASKS", "1")
    assert str(parse_shard("auto")) == shard


def test_auto_counts_the_tasks_of_a_slurm_job(monkeypatch):
    monkeypatch.setenv("SLURM_PROCID", "2")
    monkeypatch.setenv("SLURM_NTASKS", "4")
    assert parse_shard("slurm") == Shard(3, 4)


def test_auto_is_refused_without_slurm_or_in_an_array_with_gaps(monkeypatch):
    with pytest.raises(argparse.ArgumentTypeError, match="SLURM_PROCID"):
        parse_shard("auto")
    for name, value in {"ID": 3, "MIN": 1, "MAX": 9, "COUNT": 3}.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))
    with pytest.raises(argparse.ArgumentTypeError, match="gaps"):
        parse_shard("auto")


def test_two_shards_make_what_one_run_makes(place, segmenter):
    for number in range(12):
        place.picture(Path(f"in/{number}.png"), value=100 + 10 * number)
    Path("in/bad.png").write_bytes(b"")
    assert main(["segment", "in", *place.pair, "-o", "one"]) == 3
    codes = set()
    for number in (1, 2):
        with FolderLock(Path("two"), Shard(3 - number, 2)):  # the other one is at work
            argv = ["segment", "in", *place.pair, "-o", "two", "--shard", f"{number}/2"]
            codes.add(main(argv))
    assert codes == {0, 3}
    masks = [name for name in place.written("one") if name.endswith(".png")]
    logs = [
        f"{stem}-{n}-of-2.{end}"
        for stem, end in (("results", "jsonl"), ("run", "json"))
        for n in (1, 2)
    ]
    assert place.written("two") == sorted([*masks, *logs])
    for name in masks:
        assert Path("one", name).read_bytes() == Path("two", name).read_bytes()


def test_a_shard_without_pictures_is_no_error(place, segmenter, capsys):
    place.picture(Path("a.png"))
    part = next(n for n in range(1, 6) if not Shard(n, 5).has(Path("a")))
    argv = ["segment", "a.png", *place.pair, "-o", "out", "--shard", f"{part}/5"]
    assert main(argv) == 0
    assert "0 of 1 pictures" in capsys.readouterr().err
    assert segmenter.loaded == 0
    assert not Path("out").exists()
