"""The way of a picture through three threads: in order, bounded, and with failures by name."""

import threading
from pathlib import Path

import numpy as np
import pytest

from incontext.cli.plan import Job
from incontext.cli.running.pipeline import Failure, Model, carry_out, in_thread

JOBS = [Job(Path(f"{number}.png"), Path(str(number)), ()) for number in range(8)]


def load(job):
    return Failure(f"bad {job.source}") if job.name.name in "36" else np.zeros((1, 1), np.uint8)


def make(**changes):
    given = {"load": load, "compute": lambda pictures: pictures, "save": lambda job, _: {"to": 1}}
    return Model("fake", **(given | changes))


def run(model, *, stops=False, is_asked=lambda: False):
    return list(carry_out(JOBS, model, stops=stops, is_asked=is_asked))


def test_every_job_has_one_outcome_and_bad_ones_their_reason():
    outcomes = {job.name.name: outcome for job, outcome in run(make())}
    assert sorted(outcomes) == list("01234567")
    assert outcomes["3"] == Failure("bad 3.png")
    assert outcomes["4"] == {"to": 1}


def test_reading_and_writing_have_threads_of_their_own():
    names = {"load": set(), "save": set(), "compute": {threading.current_thread()}}
    model = make(
        load=lambda job: names["load"].add(threading.current_thread()),
        save=lambda job, _: names["save"].add(threading.current_thread()) or {},
    )
    run(model)
    assert len(set().union(*names.values())) == 3


def test_nothing_is_written_after_a_failure_that_stops():
    written = []
    model = make(save=lambda job, _: written.append(job.name.name) or {})
    outcomes = run(model, stops=True)
    assert written == ["0", "1", "2"]
    assert outcomes[-1] == (JOBS[3], Failure("bad 3.png"))


def test_what_is_computed_is_written_before_an_error_ends_the_run():
    def compute(pictures):
        for number, pair in enumerate(pictures):
            if number == 2:
                raise KeyboardInterrupt
            yield pair

    outcomes = carry_out(JOBS, make(compute=compute), stops=False, is_asked=lambda: False)
    assert [next(outcomes)[0], next(outcomes)[0]] == JOBS[:2]
    with pytest.raises(KeyboardInterrupt):
        next(outcomes)


def test_no_picture_is_begun_once_asked_to_stop():
    begun = []

    def compute(pictures):
        for pair in pictures:
            begun.append(pair[0])
            yield pair

    outcomes = run(make(compute=compute), is_asked=lambda: len(begun) == 2)
    assert [job for job, _ in outcomes] == begun == JOBS[:2]


@pytest.mark.parametrize("ahead", [0, 2])
def test_a_thread_is_only_so_far_ahead(ahead):
    begun = []

    def number(value):
        begun.append(value)
        return value

    for count, (item, made) in enumerate(in_thread(number, range(9), ahead=ahead), 1):
        assert item == made == count - 1
        assert len(begun) <= count + ahead


def test_an_error_in_the_thread_comes_out_in_its_place():
    outcomes = in_thread(lambda value: 1 // (value - 3), range(9))
    assert [next(outcomes)[0] for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ZeroDivisionError):
        next(outcomes)
