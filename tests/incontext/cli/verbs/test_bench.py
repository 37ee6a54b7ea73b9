import json

import pytest

import incontext.bench
from incontext.bench.report import Row
from incontext.cli import main


@pytest.fixture
def measured(monkeypatch):
    """What was asked for, with a measurement that takes no time."""
    asked = []

    def measure(jobs, *, runs, advance):
        asked.append((jobs, runs))
        facts = {"device": "cpu", "first_s": 2.0, "picture_s": 1.0, "peak_mib": 100.0}
        facts |= {"gflop": 10.0, "matmul_gflops": 100.0}
        return [
            Row(name=job.name, dtype=job.dtype or "float32", task=job.label, **facts)
            for job in jobs
        ]

    monkeypatch.setattr(incontext.bench, "measure", measure)
    return asked


def test_a_table_has_a_row_for_every_number_of_examples(measured, capsys) -> None:
    assert main(["bench", "--model", "large", "--examples", "1", "8", "--runs", "2"]) == 0
    assert [(jobs[0].examples, runs) for jobs, runs in measured] == [(1, 2), (8, 2)]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[2].startswith("| large")


def test_the_peer_is_measured_in_both_its_types_beside_ours(measured) -> None:
    assert main(["bench", "--against", "transformers"]) == 0
    [(jobs, _)] = measured
    assert [(job.peer, job.model, job.dtype) for job in jobs] == [
        (False, "large", None),
        (True, "large", "float32"),
        (True, "large", "bfloat16"),
    ]


def test_json_has_one_event_a_row(measured, capsys) -> None:
    assert main(["bench", "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == ["row"]
    assert events[0]["picture_s"] == 1.0


def test_a_peer_of_another_size_is_refused(measured, capsys) -> None:
    assert main(["bench", "--model", "tiny", "--against", "transformers"]) == 2
    assert "--model large" in capsys.readouterr().err
    assert not measured


def test_a_promptable_model_is_asked_for_its_task(measured) -> None:
    command = ["bench", "--model", "sam_base", "--task", "everything", "--points-per-side", "8"]
    assert main([*command, "--against", "transformers"]) == 0
    [(jobs, _)] = measured
    assert [(job.peer, job.label, job.dtype) for job in jobs] == [
        (False, "everything 8x8", None),
        (True, "everything 8x8", "float32"),
    ]


def test_an_encoder_alone_is_shown_a_picture_of_a_size(measured) -> None:
    assert main(["bench", "--model", "dinov3-base", "--task", "encode", "--size", "672"]) == 0
    [([job], _)] = measured
    assert (job.model, job.label, job.size) == ("dinov3-base", "encode 672 px", 672)


@pytest.mark.parametrize(
    ("arguments", "mend"),
    [
        (["--model", "sam_base"], "--task"),
        (["--task", "click"], "--model: sam_base"),
        (["--task", "click", "--model", "x.pth", "--against", "transformers"], "sam_base"),
        (["--model", "dinov3-base"], "--task encode"),
        (["--size", "448"], "--model dinov2-small"),
    ],
)
def test_a_task_that_the_model_cannot_do_is_refused(measured, capsys, arguments, mend) -> None:
    assert main(["bench", *arguments]) == 2
    assert mend in capsys.readouterr().err
    assert not measured
