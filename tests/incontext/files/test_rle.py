"""Run lengths, against COCO's own tools where they are installed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from incontext.files.rle import RunLengths, bounding_box, decode, encode, from_coco
from seggpt.errors import InputError

# The library lags behind numpy 2.
COCO = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
MASKS = hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))


@settings(deadline=None, max_examples=60)
@given(MASKS)
def test_masks_come_back(mask):
    runs = encode(mask)
    np.testing.assert_array_equal(decode(runs), mask)
    assert runs.area == mask.sum()
    assert (runs.counts[1:] > 0).all()


@settings(deadline=None, max_examples=60)
@given(MASKS)
@COCO
def test_coco_reads_and_writes_the_same(mask):
    coco = pytest.importorskip("pycocotools.mask")
    ours = encode(mask).to_coco()
    theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert ours["counts"] == theirs["counts"].decode()
    np.testing.assert_array_equal(coco.decode(ours), mask)


@COCO
def test_long_runs_take_several_letters():
    coco = pytest.importorskip("pycocotools.mask")
    mask = np.zeros((700, 900), bool)
    mask[10:650, 100:500] = True
    mask[100:120, 600] = True
    np.testing.assert_array_equal(coco.decode(encode(mask).to_coco()), mask)


def test_columns_come_first_and_background_begins():
    mask = np.array([[0, 1], [0, 1], [1, 0]], bool)
    assert encode(mask).counts.tolist() == [2, 3, 1]
    assert encode(~mask).counts.tolist() == [0, 2, 3, 1]
    assert encode(mask).to_dict() == {"size": [3, 2], "counts": [2, 3, 1]}


@pytest.mark.parametrize("origin", [(0, 0), (3, 1), (4, 2)])
def test_a_crop_lies_where_it_was_cut(origin):
    crop = np.random.default_rng(0).random((4, 3)) > 0.5
    whole = np.zeros((6, 7), bool)
    whole[origin[1] : origin[1] + 4, origin[0] : origin[0] + 3] = crop
    runs = encode(crop, origin=origin, size=(6, 7))
    np.testing.assert_array_equal(decode(runs), whole)


def test_boxes_end_at_the_last_pixel():
    mask = np.zeros((5, 6), bool)
    assert bounding_box(mask) == (0, 0, 0, 0)
    mask[1:3, 2:5] = True
    assert bounding_box(mask) == (2, 1, 4, 2)


def test_runs_that_do_not_fill_the_mask_are_refused():
    with pytest.raises(InputError, match="run lengths of 5 pixels for a mask of 3x2"):
        decode(RunLengths((2, 3), np.array([2, 3])))


@settings(deadline=None, max_examples=60)
@given(MASKS)
def test_compressed_run_lengths_are_read(mask):
    told = encode(mask).to_coco()
    runs = from_coco((mask.shape[0], mask.shape[1]), str(told["counts"]))
    np.testing.assert_array_equal(decode(runs), mask)


@pytest.mark.parametrize("text", ["o", "o" * 20, " ", "é", "\u4e00", "1`", "9"])
def test_text_that_is_no_run_lengths_is_refused(text):
    with pytest.raises(InputError, match="run"):
        from_coco((2, 2), text)
