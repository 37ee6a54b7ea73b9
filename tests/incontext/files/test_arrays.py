"""Masks that are no pictures: `.npy` files without pickles, and labels known for certain."""

import numpy as np
import pytest

from incontext.files.arrays import DrawnMask
from incontext.files.masks import load_mask, load_masks
from incontext.files.pairs import read_pairs
from seggpt.errors import InputError

from .scenes import LABELS, SIZE

PICTURE = np.full((SIZE[1], SIZE[0], 3), 90, np.uint8)


def drawn(labels, name="x.json: image 1"):
    return DrawnMask(name, lambda: labels.astype(np.int32))


def together(*masks, images=None, **options):
    images = images or [PICTURE + number for number in range(len(masks))]
    return read_pairs(images, masks, load=lambda index: images[index], **options)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64, np.float32])
def test_arrays_are_read_by_the_rules_of_masks(dtype, tmp_path):
    np.save(tmp_path / "a.NPY", LABELS.astype(dtype))
    (tmp_path / "a.NPY.npy").rename(tmp_path / "a.NPY")
    mask = load_mask(tmp_path / "a.NPY")
    np.testing.assert_array_equal(mask.labels, LABELS)
    assert mask.name.endswith("a.NPY")
    np.save(tmp_path / "b.npy", (LABELS > 0)[None])
    assert load_mask(tmp_path / "b.npy").classes == (1,)


def test_pickles_are_never_read(tmp_path):
    masks = np.array({"masks": LABELS}, dtype=object)
    np.save(tmp_path / "a_seg.npy", masks, allow_pickle=True)
    np.save(tmp_path / "b.npy", masks, allow_pickle=True)
    with pytest.raises(InputError, match=r"a_seg.npy: cellpose's _seg.npy holds pickled objects"):
        load_mask(tmp_path / "a_seg.npy")
    with pytest.raises(InputError, match=r"b.npy: the array holds pickled objects, .*PNG or TIFF"):
        load_mask(tmp_path / "b.npy")


def test_arrays_that_cannot_be_are_refused_before_memory_is_asked_for(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 4, 5), np.uint8))
    with pytest.raises(InputError, match=r"a.npy: an array of 3x4x5, not \(h, w\)"):
        load_mask(tmp_path / "a.npy")
    with (tmp_path / "b.npy").open("wb") as file:
        header = {"descr": "<i8", "fortran_order": False, "shape": (10**6, 10**6)}
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(InputError, match=r"b.npy: truncated array"):
        load_mask(tmp_path / "b.npy")
    (tmp_path / "c.npy").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(InputError, match=r"c.npy: not a .npy array"):
        load_mask(tmp_path / "c.npy")
    with pytest.raises(InputError, match="no such file"):
        load_mask(tmp_path / "gone.npy")


def test_drawn_labels_are_labels_whatever_they_look_like():
    for labels in (LABELS == 1, (LABELS == 1) * 255, (LABELS == 1) * 7):
        mask = load_mask(drawn(labels))
        assert mask.kind == "annotated"
        np.testing.assert_array_equal(mask.labels, labels)
    assert load_mask(drawn(LABELS), kind="binary").classes == (1,)


def test_minus_one_does_not_count():
    labels = np.where(LABELS == 3, -1, LABELS.astype(np.int32))
    mask = load_mask(drawn(labels))
    assert mask.classes == (1, 2)
    assert mask.ignored == -1


def test_masks_beside_drawn_ones_mean_their_values():
    grey = (LABELS == 2).astype(np.uint8) * 7
    assert [mask.classes for mask in load_masks([drawn(LABELS * 7), grey])] == [(7, 14, 21), (7,)]
    with pytest.raises(InputError, match="contradict each other"):
        load_masks([drawn(LABELS), (LABELS == 2).astype(np.uint8) * 255])


def test_drawn_masks_of_one_picture_add_to_each_other(caplog):
    one, other = drawn(LABELS == 1), drawn((LABELS == 2) * 1)
    [pair] = together(one, other, images=[PICTURE, PICTURE])
    np.testing.assert_array_equal(pair.mask.labels, (LABELS == 1) | (LABELS == 2))
    assert "2 masks of one picture are joined" in caplog.text
