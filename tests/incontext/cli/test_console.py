"""How far a run is, on a terminal and in a file."""

import logging
import sys

import pytest

from incontext.cli import console
from incontext.cli.console import Console, describe_rate


@pytest.mark.parametrize(("rate", "words"), [(0.0, ""), (2.345, "2.3/s"), (0.25, "4.0 s each")])
def test_rates_are_per_second_or_per_picture(rate, words):
    assert describe_rate(rate) == words


def test_a_file_has_a_line_from_time_to_time_with_rate_and_time_left(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with Console().progress(1000, label="segmenting") as advance:
        for _ in range(400):
            now[0] += 2
            advance()
    assert capsys.readouterr().err.splitlines() == [
        "seggpt: segmenting: 150 of 1000, 2.0 s each, 0:28:20 left",
        "seggpt: segmenting: 300 of 1000, 2.0 s each, 0:23:20 left",
    ]


def test_a_terminal_has_a_bar_with_the_rate(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with Console().progress(3, label="segmenting") as advance:
        for _ in range(3):
            advance()
    said = capsys.readouterr().err
    assert "segmenting" in said
    assert "3/3" in said
    assert "/s" in said


@pytest.mark.parametrize("name", ["PIL.TiffImagePlugin", "tifffile", "py.warnings"])
def test_what_other_libraries_log_is_heard_with_verbose_alone(name, capsys, caplog):
    for verbose in (0, 1):
        with Console(verbose=verbose).logging():
            logging.getLogger(name).error("More samples per pixel than can be decoded: 202")
        assert ("202" in capsys.readouterr().err) is bool(verbose)
    assert not caplog.records
