"""`--resume`: what is done stays, and all else is as if the run had never stopped."""

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from incontext.cli import main


@pytest.fixture
def segment(place, segmenter, capsys):
    """Segment the folder `in` to `out`, and return the exit code and what was said."""

    def run(*argv, targets=("in",)):
        code = main(["segment", *targets, *place.pair, "-o", "out", "--batch", "1", *argv])
        return code, capsys.readouterr().err

    for name in "abcd":
        place.picture(Path(f"in/{name}.png"))
    return run


@pytest.fixture
def done(segmenter):
    """The number of pictures that the model has seen since it was asked last."""
    seen = []
    segmenter.before_result = staticmethod(lambda count: seen.append(count))

    def count():
        number = len(seen)
        seen.clear()
        return number

    return count


def test_the_first_run_may_say_it_and_a_second_does_nothing(segment, segmenter):
    assert segment("--resume")[0] == 0
    code, said = segment("--resume")
    assert code == 0
    assert "nothing to do: 4 done before" in said
    assert segmenter.loaded == 1


def test_what_failed_is_tried_again_and_records_are_in_order_and_single(segment, done, place):
    picture = Path("in/b.png").read_bytes()
    Path("in/b.png").write_bytes(b"")
    code, said = segment()
    assert code == 3
    assert "(see out/results.jsonl; --resume tries them again)" in said
    done()
    Path("in/b.png").write_bytes(picture)
    assert segment("--resume")[0] == 0
    assert done() == 1
    assert [record["input"] for record in place.records()] == [f"in/{name}.png" for name in "abcd"]
    assert {record["status"] for record in place.records()} == {"done"}


def test_a_killed_run_leaves_no_trace(segment, done, place):
    assert segment()[0] == 0
    before = {name: Path("out", name).read_bytes() for name in place.written()}
    lines = before["results.jsonl"].decode().splitlines(keepends=True)
    # Killed while c was written: b is written and its line is not whole.
    Path("out/results.jsonl").write_text(lines[0] + lines[1][:20])
    Path("out/c.png").unlink()
    Path("out/d.png").unlink()
    Path("out/c.png.tmp-123").write_bytes(b"half")
    Path("out/run.json.tmp-123").write_bytes(b"half")
    Path("out/other.tmp-123").write_bytes(b"not ours")
    done()
    assert segment("--resume")[0] == 0
    assert done() == 3
    assert place.written() == sorted([*before, "other.tmp-123"])
    masks = [name for name in before if name.endswith(".png")]
    assert all(Path("out", name).read_bytes() == before[name] for name in masks)
    keys = [{**json.loads(line), "seconds": 0} for line in lines]
    assert [{**record, "seconds": 0} for record in place.records()] == keys


def test_a_run_killed_when_only_its_logs_were_left_is_settled(segment, segmenter, place):
    segment()
    lines = Path("out/results.jsonl").read_text().splitlines(keepends=True)
    Path("out/results.jsonl").write_text("".join(reversed(lines)))
    Path("out/results.jsonl.tmp-123").write_text("half")
    about = place.run()
    Path("out/run.json").write_text(json.dumps({**about, "state": "running"}))
    assert segment("--resume")[0] == 0
    assert Path("out/results.jsonl").read_text() == "".join(lines)
    assert place.run()["state"] == "done"
    assert place.run()["settings"] == about["settings"]
    assert "results.jsonl.tmp-123" not in place.written()
    assert segmenter.loaded == 1


def test_a_picture_whose_files_are_missing_is_done_again(segment, done):
    segment()
    Path("out/c.png").unlink()
    done()
    assert segment("--resume")[0] == 0
    assert done() == 1
    assert Path("out/c.png").exists()


def test_a_picture_that_has_changed_is_done_again_and_told(segment, done, place):
    segment()
    place.picture(Path("in/a.png"), value=240)
    os.utime("in/b.png", ns=(1, 1))
    done()
    code, said = segment("--resume")
    assert code == 0
    assert "changed since they were done, done again: in/a.png, in/b.png" in said
    assert done() == 2


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--threshold", "0.4"], "--threshold not given before, 0.4 now"),
        (["--format", "mask,overlay"], "--format not given before, mask,overlay now"),
        (["--instances"], "--instances not given before, given now"),
    ],
)
def test_other_arguments_are_refused(argv, words, segment, segmenter):
    segment()
    code, said = segment("--resume", *argv)
    assert code == 2
    assert words in said
    assert "give the same arguments, another folder with -o, or --overwrite" in said
    assert len(said.splitlines()) == 1
    assert segmenter.loaded == 1


def test_arguments_that_change_no_file_may_change(segment):
    segment()
    assert (
        segment("--resume", "--batch", "2", "--device", "cpu", "-v", "--on-error", "stop")[0] == 0
    )


def test_another_example_under_the_same_name_is_refused(segment):
    segment()
    mask = Image.new("L", (12, 10))
    mask.paste(255, (0, 0, 6, 10))
    mask.save("mask.png")
    code, said = segment("--resume")
    assert code == 2
    assert "mask.png has changed" in said


def test_another_model_is_refused(segment, segmenter):
    segment()
    Path("out/a.png").unlink()
    segmenter.fingerprint = "other"
    code, said = segment("--resume")
    assert code == 2
    assert "model fake before, other now" in said
    assert not Path("out/a.png").exists()


def test_what_was_kept_of_other_arguments_is_done_again(segment, done):
    segment()
    Path("out/a.png").unlink()
    segment("--skip-existing", "--threshold", "0.3")
    done()
    assert segment("--resume", "--threshold", "0.3")[0] == 0
    assert done() == 3


def test_files_of_nobody_knows_what_are_not_overwritten(segment):
    Path("out").mkdir()
    Path("out/a.png").write_text("mine")
    code, said = segment("--resume")
    assert code == 2
    assert "refusing to overwrite a.png" in said
    Path("out/run.json").write_text("{")
    assert "does not say how out was made" in segment("--resume")[1]
    assert Path("out/a.png").read_text() == "mine"


def test_a_picture_that_would_become_the_run_s_own_file_is_refused(segment, place):
    place.picture(Path("run.png"))
    code, said = segment("--format", "labelme", targets=("run.png",))
    assert code == 2
    assert "run.png would become out/run.json" in said
    assert not Path("out").exists()
