"""`seggpt segment` when something is wrong: exit codes, one-line errors, nothing lost or spoilt."""

import errno
import os
import signal
import tempfile
from pathlib import Path

import pytest

from incontext.cli import main
from incontext.cli.runlog import RunLog
from incontext.result import Result
from seggpt.errors import CheckpointError, DeviceError, InputError

OUT = ["-o", "out"]


@pytest.fixture
def errors(capsys):
    """Return the error lines so far, after checking that nothing looks like a crash."""

    def read():
        text = capsys.readouterr().err
        assert "Traceback" not in text
        return [line for line in text.splitlines() if line.startswith("seggpt: error: ")]

    return read


def test_one_bad_file_does_not_stop_the_rest(place, segmenter, errors):
    for name in ("a.png", "c.png"):
        place.picture(Path("in") / name)
    Path("in/b.png").write_text("<!doctype html>")
    assert main(["segment", "in", *place.pair, *OUT]) == 3
    (line,) = errors()
    assert "in/b.png" in line
    assert line.endswith("; skipped")
    assert place.written() == ["a.png", "c.png", "results.jsonl", "run.json"]
    assert {r["input"]: r["status"] for r in place.records()} == {
        "in/a.png": "done",
        "in/b.png": "failed",
        "in/c.png": "done",
    }


def test_only_bad_files_are_nothing_usable(place, segmenter, errors):
    Path("b.png").write_bytes(b"")
    assert main(["segment", "b.png", *place.pair, *OUT]) == 1
    assert len(errors()) == 1
    assert not list(Path("out").glob("*.png"))


@pytest.mark.parametrize("batch", ["1", "2", "4"])
def test_a_picture_that_the_model_refuses_fails_alone(batch, place, segmenter, errors):
    for name in "abdefg":
        place.picture(Path(f"in/{name}.png"))
    place.picture(Path("in/c.png"), color=place.rejected)
    assert main(["segment", "in", *place.pair, *OUT, "--batch", batch]) == 3
    assert errors() == ["seggpt: error: in/c.png: the model refuses this picture; skipped"]
    assert [Path(name).stem for name in place.written() if name.endswith(".png")] == list("abdefg")
    assert len(place.records()) == 7


def test_a_missing_target_does_not_stop_the_others(place, segmenter, errors):
    place.picture(Path("a.png"))
    assert main(["segment", "nope.jpg", "a.png", *place.pair, *OUT]) == 3
    assert errors() == ["seggpt: error: no such file: nope.jpg"]
    assert Path("out/a.png").exists()


@pytest.mark.parametrize("target", ["nope.jpg", "*.nothing", "empty"])
def test_no_pictures_at_all_end_before_the_model_is_loaded(target, place, segmenter, errors):
    Path("empty").mkdir()
    assert main(["segment", target, *place.pair, *OUT]) == 1
    assert len(errors()) == 1
    assert segmenter.loaded == 0
    assert not Path("out").exists()


def test_on_error_stop_ends_at_the_first_failure(place, segmenter, errors):
    for name in ("a.png", "c.png"):
        place.picture(Path("in") / name)
    Path("in/b.png").write_bytes(b"")
    assert main(["segment", "in", *place.pair, *OUT, "--on-error", "stop"]) == 3
    assert errors()[0].endswith("; stopped")
    assert "c.png" not in place.written()
    assert main(["segment", "nope", "in", *place.pair, "-o", "two", "--on-error", "stop"]) == 1
    assert not Path("two").exists()


def test_refuses_to_overwrite_and_says_what(place, segmenter, errors):
    place.picture(Path("a.png"))
    place.picture(Path("b.png"))
    assert main(["segment", "a.png", *place.pair, *OUT]) == 0
    before = Path("out/a.png").stat().st_mtime_ns
    assert main(["segment", "a.png", "b.png", *place.pair, *OUT]) == 2
    (line,) = errors()
    assert "refusing to overwrite a.png in out" in line
    assert "--overwrite, --skip-existing or --resume" in line
    assert Path("out/a.png").stat().st_mtime_ns == before
    assert not Path("out/b.png").exists()


def test_overwrite_replaces(place, segmenter):
    place.picture(Path("a.png"))
    Path("out").mkdir()
    Path("out/a.png").write_text("old")
    assert main(["segment", "a.png", *place.pair, *OUT, "--overwrite"]) == 0
    assert Path("out/a.png").read_bytes().startswith(b"\x89PNG")


def test_skip_existing_does_only_the_rest_and_keeps_the_log(place, segmenter, capsys):
    place.picture(Path("a.png"))
    assert main(["segment", "a.png", *place.pair, *OUT]) == 0
    place.picture(Path("b.png"))
    argv = ["segment", "a.png", "b.png", *place.pair, *OUT, "--skip-existing"]
    assert main(argv) == 0
    assert "1 written, 0 failed, 1 done before" in capsys.readouterr().err
    assert [(r["input"], r["status"]) for r in place.records()] == [
        ("a.png", "done"),
        ("b.png", "done"),
    ]
    assert main(argv) == 0
    assert "nothing to do: 2 done before" in capsys.readouterr().err
    assert segmenter.loaded == 2


def test_a_result_lacking_one_format_is_done_again(place, segmenter):
    place.picture(Path("a.png"))
    assert main(["segment", "a.png", *place.pair, *OUT]) == 0
    both = ["--format", "mask,overlay", "--skip-existing"]
    assert main(["segment", "a.png", *place.pair, *OUT, *both]) == 0
    assert "a.overlay.png" in place.written()
    assert len(place.records()) == 1


def test_two_pictures_of_one_name_are_refused_before_anything_is_done(place, segmenter, errors):
    place.picture(Path("one/a.jpg"))
    place.picture(Path("two/a.png"))
    assert main(["segment", "one", "two", *place.pair, *OUT]) == 2
    (line,) = errors()
    assert "one/a.jpg" in line
    assert "two/a.png" in line
    assert segmenter.loaded == 0
    assert not Path("out").exists()


@pytest.mark.parametrize("out", ["in", "."])
def test_an_input_is_never_overwritten(out, place, segmenter, errors):
    name = place.picture(Path("in/a.png" if out == "in" else "example.png"))
    before = name.read_bytes()
    argv = ["segment", str(name), *place.pair, "-o", out, "--overwrite"]
    assert main(argv) == 2
    assert "is an input of this run" in errors()[0]
    assert name.read_bytes() == before


def test_interrupt_says_how_to_go_on_and_the_rest_can_be_done(place, segmenter, errors):
    for name in "abcd":
        place.picture(Path(f"in/{name}.png"))

    def stop(count):
        if count == 2:
            raise KeyboardInterrupt

    segmenter.before_result = staticmethod(stop)
    assert main(["segment", "in", *place.pair, *OUT, "--batch", "1"]) == 130
    assert errors() == [
        "seggpt: error: interrupted; 2 written, 0 failed, 2 left; go on with --resume"
    ]
    assert place.run()["state"] == "interrupted"
    segmenter.before_result = staticmethod(lambda count: None)
    assert main(["segment", "in", *place.pair, *OUT, "--skip-existing"]) == 0
    assert len(place.records()) == 4
    assert not [name for name in place.written() if "tmp" in name]


def test_sigterm_ends_as_cleanly(place, segmenter, errors):
    place.picture(Path("a.png"))
    segmenter.before_result = staticmethod(lambda count: os.kill(os.getpid(), signal.SIGTERM))
    assert main(["segment", "a.png", *place.pair, *OUT]) == 143
    assert "terminated; 0 written" in errors()[0]
    assert place.run()["state"] == "interrupted"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_bug_is_reported_without_a_traceback(place, segmenter, capsys, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(Path.cwd()))
    place.picture(Path("a.png"))
    segmenter.before_result = staticmethod(lambda count: {}["missing"])
    assert main(["segment", "a.png", *place.pair, *OUT]) == 70
    text = capsys.readouterr().err
    assert text.startswith("seggpt: error: internal error: KeyError: 'missing'; please report")
    assert len(text.splitlines()) == 1
    (report,) = Path().glob("seggpt-*.txt")
    assert "Traceback" in report.read_text()


def test_weights_that_cannot_be_loaded_leave_nothing_behind(place, segmenter, errors, monkeypatch):
    def fail(*_, **__):
        raise CheckpointError("no such weights: x")

    monkeypatch.setattr(segmenter, "from_pretrained", fail)
    place.picture(Path("a.png"))
    assert main(["segment", "a.png", *place.pair, *OUT, "--model", "x"]) == 1
    assert errors() == ["seggpt: error: no such weights: x"]
    assert not Path("out").exists()


@pytest.mark.parametrize(("after", "code"), [(0, 1), (1, 3)])
def test_a_failing_device_ends_the_run(after, code, place, segmenter, errors):
    for name in "abc":
        place.picture(Path(f"in/{name}.png"))

    def fail(count):
        if count == after:
            raise DeviceError("out of memory")

    segmenter.before_result = staticmethod(fail)
    assert main(["segment", "in", *place.pair, *OUT, "--batch", "1"]) == code
    assert "out of memory" in errors()[0]
    assert place.run()["state"] == "failed"


def full_disk(*_, **__):
    cause = OSError(errno.ENOSPC, "No space left on device")
    raise InputError("cannot write out/b.png: No space left on device") from cause


def test_a_full_disk_ends_the_run_and_keeps_what_is_done(place, segmenter, errors, monkeypatch):
    for name in "abc":
        place.picture(Path(f"in/{name}.png"))
    save = Result.save
    monkeypatch.setattr(
        Result, "save", lambda *a, **k: (save if str(k["name"]) == "a" else full_disk)(*a, **k)
    )
    assert main(["segment", "in", *place.pair, *OUT]) == 3
    (line,) = errors()
    assert line.endswith("No space left on device; go on with --resume")
    assert place.written() == ["a.png", "results.jsonl", "run.json"]
    assert (place.run()["written"], place.run()["failed"]) == (1, 2)


def test_a_disk_that_is_full_while_the_log_is_written_is_named(place, monkeypatch):
    def fail(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    Path("out").mkdir()
    with RunLog(Path("out"), shard=None, about={}) as log:
        log.open(redo=set())
        monkeypatch.setattr(log._lines, "write", fail, raising=False)
        with pytest.raises(InputError, match=r"results\.jsonl: No space left"):
            log.add({"input": "a.png", "status": "done"})


def test_a_log_that_is_no_text_is_begun_anew(place, segmenter):
    Path("out").mkdir()
    Path("out/results.jsonl").write_bytes(b"\xff\xfe")
    place.picture(Path("a.png"))
    assert main(["segment", "a.png", *place.pair, *OUT]) == 0
    assert [record["input"] for record in place.records()] == ["a.png"]


def test_a_log_cut_short_by_a_crash_is_mended(place, segmenter):
    Path("out").mkdir()
    whole = '{"input": "old.png", "status": "done", "outputs": []}'
    Path("out/results.jsonl").write_text(f'{whole}\n{{"input": "a.p')
    place.picture(Path("a.png"))
    assert main(["segment", "a.png", *place.pair, *OUT]) == 0
    assert [record["input"] for record in place.records()] == ["old.png", "a.png"]
