"""What the command-line tools beside training share."""

import logging

import pytest

from seggpt.errors import CheckpointError
from tests.data.drawn import write_drawn_dataset
from train.__main__ import main
from train.evals.tool import open_all, parse_sets, run_tool


@pytest.mark.parametrize("text", ["a,b", " a, b,", '["a", "b"]'])
def test_trained_sets_are_read_from_metadata(text):
    assert parse_sets(text) == {"a", "b"}


def test_no_trained_sets():
    assert parse_sets("") == set()


def test_data_sets_of_all_paths_are_opened_and_one_name_twice_is_refused(tmp_path):
    for place, name in (("one", "cells"), ("two", "roads"), ("three", "cells")):
        write_drawn_dataset(tmp_path / place, name=name, pictures=2, size=16)
    paths = [str(tmp_path / place) for place in ("one", "two", "three")]
    assert [folder.name for folder in open_all(paths[:2])] == ["cells", "roads"]
    with pytest.raises(ValueError, match="two data sets have one name"):
        open_all(paths)


@pytest.mark.parametrize("error", [ValueError, FileNotFoundError, CheckpointError])
def test_a_foreseen_failure_is_one_line(capsys, error):
    def work():
        raise error("no such thing")

    assert run_tool("clicks", work) == 2
    assert capsys.readouterr().err == "clicks: error: no such thing\n"
    assert run_tool("clicks", lambda: None) == 0
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    "start",
    [lambda: run_tool("clicks", lambda: None), lambda: main(["--config", "absent.py"])],
    ids=["tool", "train"],
)
def test_libraries_say_only_what_is_wrong(start):
    for name in ("absl", "jax"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    start()
    for name in ("absl", "jax._src.xla_bridge"):
        assert not logging.getLogger(name).isEnabledFor(logging.INFO)
        assert logging.getLogger(name).isEnabledFor(logging.WARNING)
