"""What our own outputs write is read back as the same labels, to the pixel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from .scenes import KINDS, LABELS, NAMES, exported, read


@pytest.mark.parametrize("kind", KINDS)
def test_labels_and_names_come_back(kind, tmp_path):
    [labels], names = read(exported(tmp_path, kind))
    np.testing.assert_array_equal(labels, LABELS)
    assert names == NAMES


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_is_read_as_its_file(kind, tmp_path):
    exported(tmp_path, kind)
    [labels], names = read(tmp_path)
    np.testing.assert_array_equal(labels, LABELS)
    assert names == NAMES


@settings(deadline=None, max_examples=15)
@given(
    hnp.arrays(
        np.int32, st.tuples(st.integers(2, 9), st.integers(2, 9)), elements=st.integers(0, 2)
    )
)
@pytest.mark.parametrize("kind", KINDS)
def test_any_labels_come_back(kind, tmp_path_factory, labels):
    labels[0, 0] = 1
    [found], _ = read(exported(tmp_path_factory.mktemp("any"), kind, labels), names=NAMES)
    np.testing.assert_array_equal(found, labels)


@pytest.mark.parametrize("kind", ["labelme", "geojson"])
def test_labels_without_names_keep_their_numbers(kind, tmp_path):
    labels = np.where(LABELS == 2, 12, LABELS).astype(np.int32)
    [found], _ = read(exported(tmp_path, kind, labels, names={}))
    np.testing.assert_array_equal(found, labels)
