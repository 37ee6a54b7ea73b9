"""`seggpt segment` on good inputs: what is written, where, and what is said."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from incontext.cli import main

OUT = ["-o", "out"]


def test_writes_an_indexed_mask_for_each_picture_of_a_tree(place, segmenter, capsys):
    place.picture(Path("in/a.jpg"), size=(40, 30))
    place.picture(Path("in/sub/b.png"))
    assert main(["segment", "in", *place.pair, *OUT]) == 0
    assert place.written() == ["a.png", "results.jsonl", "run.json", "sub/b.png"]
    mask = Image.open("out/sub/b.png")
    assert mask.mode == "P"
    np.testing.assert_array_equal(np.asarray(mask)[:, :5], 0)
    np.testing.assert_array_equal(np.asarray(mask)[:, 7:], 1)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("seggpt: 2 written, 0 failed in ")
    assert len(said.err.splitlines()) == 1


def test_formats_come_by_comma_or_by_repetition(place, segmenter):
    place.picture(Path("a.png"))
    formats = ["--format", "mask,overlay", "--format", "cutout,mask"]
    assert main(["segment", "a.png", *place.pair, *OUT, *formats]) == 0
    names = ["a.cutout.png", "a.overlay.png", "a.png", "results.jsonl", "run.json"]
    assert place.written() == names


def test_options_reach_the_segmenter(place, segmenter):
    place.picture(Path("a.png"))
    options = ["--model", "tiny", "--device", "cpu", "--ensemble", "spatial", "--batch", "3"]
    options += ["--seg-type", "instance", "--detail", "tiles"]
    argv = ["segment", "a.png", *place.pair, *place.pair, *OUT, *options, "--threshold", "0.25"]
    assert main(argv) == 0
    assert segmenter.asked == {
        "encoder": None,
        "model": "tiny",
        "device": "cpu",
        "examples": 2,
        "ensemble": "spatial",
        "seg_type": "instance",
        "batch_size": 3,
        "threshold": 0.25,
        "detail": "tiles",
    }


def test_logs_have_a_line_for_each_input_and_the_state_of_the_run(place, segmenter):
    place.picture(Path("a.png"))
    assert main(["segment", "a.png", *place.pair, *OUT]) == 0
    (record,) = place.records()
    assert record["input"] == "a.png"
    assert record["status"] == "done"
    assert record["outputs"] == ["out/a.png"]
    assert record["seconds"] >= 0
    assert 0 <= record["scores"]["1"] <= 1
    run = place.run()
    assert run["state"] == "done"
    assert (run["written"], run["failed"], run["skipped"]) == (1, 0, 0)
    assert run["model"] == "fake"
    assert run["arguments"]["output"] == "out"
    assert "jax" in run["versions"]


def test_events_are_the_only_thing_on_stdout(place, segmenter, capsys):
    place.picture(Path("a.png"))
    Path("b.png").write_bytes(b"")
    assert main(["segment", "a.png", "b.png", *place.pair, *OUT, "--json"]) == 3
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == ["start", "result", "result", "end"]
    assert {event["status"] for event in events[1:3]} == {"done", "failed"}
    assert events[3]["written"] == 1


def test_quiet_says_nothing_when_all_is_well(place, segmenter, capsys):
    place.picture(Path("a.png"))
    assert main(["segment", "a.png", *place.pair, *OUT, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_dry_run_loads_and_writes_nothing(place, segmenter, capsys):
    place.picture(Path("in/sub/a.jpg"))
    argv = ["segment", "in", *place.pair, *OUT, "--dry-run", "--format", "mask,overlay"]
    assert main(argv) == 0
    assert capsys.readouterr().out == "in/sub/a.jpg -> out/sub/a.png, out/sub/a.overlay.png\n"
    assert not Path("out").exists()
    assert segmenter.loaded == 0


def test_no_recursive_stays_in_the_folder(place, segmenter):
    place.picture(Path("in/a.png"))
    place.picture(Path("in/sub/b.png"))
    assert main(["segment", "in", *place.pair, *OUT, "--no-recursive"]) == 0
    assert place.written() == ["a.png", "results.jsonl", "run.json"]


def test_results_of_an_earlier_run_are_no_inputs(place, segmenter):
    place.picture(Path("in/a.png"))
    argv = ["segment", "in", *place.pair, "-o", "in/masks", "--overwrite"]
    assert main(argv) == 0
    assert main(argv) == 0
    assert place.written("in/masks") == ["a.png", "results.jsonl", "run.json"]


def test_memory_does_not_grow_with_the_number_of_pictures(place, segmenter):
    for number in range(60):
        place.picture(Path(f"in/{number}.png"))
    assert main(["segment", "in", *place.pair, *OUT, "--batch", "4"]) == 0
    assert len(place.records()) == 60
    assert segmenter.most_alive <= 5


@pytest.mark.skipif(os.name != "posix", reason="file names are free only there")
@pytest.mark.parametrize("name", [b"new\nline.png", b"-e.png", b"\xff\xfe.png", b"\x1b[31m.png"])
def test_any_file_name_is_handled_and_shown_on_one_line(name, place, segmenter, capsys):
    path = Path("in") / os.fsdecode(name)
    place.picture(path)
    assert main(["segment", "in", *place.pair, *OUT, "--dry-run"]) == 0
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    assert "\x1b" not in line
    assert main(["segment", "in", *place.pair, *OUT, "--json"]) == 0
    assert (Path("out") / path.name).exists()
    assert place.records()[0]["input"] == str(path)
