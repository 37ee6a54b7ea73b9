import pickle

import numpy as np
import pytest

from data.folder import IGNORE, open_folders
from data.prepare import main
from tests.data.drawn import write_drawn_dataset


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("records")
    source = write_drawn_dataset(root, name="drawn", pictures=9)
    assert main(["folder", "--source", str(source), "--out", str(root / "out")]) == 0
    return open_folders(root / "out")[0]


def test_nothing_of_a_set_is_in_memory_when_it_is_opened(folder):
    assert len(pickle.dumps(folder.index)) < 500
    assert all(isinstance(table, np.memmap) for table in folder.index._tables.values())


def test_records_are_read_in_another_process(folder):
    again = pickle.loads(pickle.dumps(folder.index))
    assert list(again) == list(folder.index) == folder.pictures()
    name = folder.pictures()[4]
    assert again[name] == folder.index[name]
    assert again.read(name, "images") == folder.read(name, "images")


def test_rows_are_pictures_in_the_order_of_their_names(folder):
    for row, name in enumerate(folder.pictures()):
        areas = dict(folder.index.areas(row))
        assert {c: areas[c] for c in areas if c != IGNORE} == folder.areas(name)
        assert dict(folder.index.instances(row)) == folder.instances(name)
    with pytest.raises(KeyError):
        folder.index["absent"]
