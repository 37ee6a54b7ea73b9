from typing import Literal

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from incontext.files.mask_rules import RawMask, by_palette, interpret, listed
from seggpt.errors import InputError

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9))


def raw(values, form: Literal["grey", "indexed", "rgb", "alpha"] = "grey", *, lossy=False):
    return RawMask(np.asarray(values), form, "m.png", {}, lossy=lossy)


@given(hnp.arrays(bool, SHAPES), st.integers(1, 255))
def test_one_value_beside_zero_is_class_one_whatever_the_value(where, value):
    reading = interpret(raw((where * value).astype(np.uint8)), kind="auto")
    np.testing.assert_array_equal(reading.labels, where)
    assert reading.classes == ((1,) if where.any() else ())


@given(hnp.arrays(np.int64, SHAPES, elements=st.integers(0, 40)))
def test_labels_by_value_keep_every_value(values):
    reading = interpret(raw(values), kind="labels")
    np.testing.assert_array_equal(reading.labels, values)
    assert reading.classes == tuple(np.unique(values[values > 0]))


@given(
    hnp.arrays(np.uint8, SHAPES, elements=st.integers(0, 4)),
    hnp.arrays(bool, (9, 9)),
    st.sampled_from(["grey", "indexed"]),
)
def test_ignored_pixels_are_kept_but_are_no_class(values, void, form):
    values[void[: values.shape[0], : values.shape[1]]] = 255
    assume(set(np.unique(values)) - {0, 255} and 255 in values)
    reading = interpret(raw(values, form), kind="labels", ignore=255)
    np.testing.assert_array_equal(reading.labels, values)
    assert reading.ignored == 255
    assert reading.classes == tuple(int(v) for v in np.unique(values) if v not in (0, 255))
    every = interpret(raw(values, form), kind="labels", ignore="none")
    assert every.classes == tuple(int(v) for v in np.unique(values) if v)


def test_ignored_pixels_have_another_label_where_255_is_a_class():
    reading = interpret(raw([[0, 7, 255]]), kind="labels", ignore=7)
    np.testing.assert_array_equal(reading.labels, [[0, -1, 255]])
    assert (reading.classes, reading.ignored) == ((255,), -1)


def test_255_is_a_label_in_a_16_bit_mask():
    assert interpret(raw([[0, 255, 300]]), kind="auto").classes == (255, 300)


@given(hnp.arrays(np.int32, SHAPES, elements=st.sampled_from([0, 0x800000, 0x8000, 0x808000])))
def test_colours_are_numbered_in_rising_order(packed):
    reading = interpret(raw(packed, "rgb"), kind="rgb")
    present = [c for c in np.unique(packed) if c]
    expected = np.zeros(packed.shape)
    for label, color in enumerate(present, 1):
        expected[packed == color] = label
        assert reading.colors[label] == (color >> 16, color >> 8 & 255, color & 255)
    np.testing.assert_array_equal(reading.labels, expected)


def test_a_palette_fixes_the_label_of_a_colour_that_stands_alone():
    reading = by_palette(raw([[0, 0xFF], [0xFF, 0]], "rgb"), palette=(0xAA, 0xFF))
    np.testing.assert_array_equal(reading.labels, [[0, 2], [2, 0]])
    assert reading.classes == (2,)


@pytest.mark.parametrize("count", [64, 65])
def test_sixty_four_values_are_labels_and_one_more_is_a_photograph(count):
    values = np.arange(count).reshape(1, -1) * 3
    if count == 64:
        assert len(interpret(raw(values), kind="auto").classes) == 63
    else:
        with pytest.raises(InputError, match="65 grey values, like a photograph"):
            interpret(raw(values), kind="auto")
    assert len(interpret(raw(values), kind="labels").classes) == count - 1


@pytest.mark.parametrize(
    ("values", "is_soft"),
    [
        ([0, 3, 252, 255], True),  # dirt at both ends
        ([0] * 9 + [255] * 9 + [40, 100, 150, 200], True),  # antialiased
        ([0] * 9 + [1, 15, 20] * 9 + [255] * 5, False),  # VOC with its void
        ([0] * 9 + [10, 100, 200] * 9 + [255], False),  # labels that happen to be far apart
        ([0, 85, 170, 255], False),
        ([0, 300, 65535, 40000], False),
    ],
)
def test_soft_edges_are_told_from_labels(values, is_soft):
    mask = raw(np.array([values]))
    if is_soft:
        with pytest.raises(InputError, match="soft mask"):
            interpret(mask, kind="auto")
    else:
        assert interpret(mask, kind="auto", ignore="none").kind == "labels"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 3, 127, 128, 252], [0, 0, 0, 1, 1]),
        ([0, 1, 2, 3], [0, 1, 1, 1]),
        ([0, 7, 7, 0], [0, 1, 1, 0]),
        ([0, 30000, 40000], [0, 0, 1]),
    ],
)
def test_binary_cuts_in_the_middle_where_there_are_greys_in_between(values, expected):
    reading = interpret(raw([values]), kind="binary")
    np.testing.assert_array_equal(reading.labels, [expected])


def test_binary_keeps_ignored_pixels_of_an_indexed_mask():
    reading = interpret(raw([[0, 1, 7, 255]], "indexed"), kind="binary")
    np.testing.assert_array_equal(reading.labels, [[0, 1, 1, 255]])
    assert reading.classes == (1,)


def test_binary_takes_every_clean_colour_and_only_bright_parts_of_dirty_ones():
    clean = interpret(raw([[0, 0x000040, 0xFF0000]], "rgb"), kind="binary")
    np.testing.assert_array_equal(clean.labels, [[0, 1, 1]])
    dirty = interpret(raw([[0, 0x030201, 0xFC0301, 0xFF0000]], "rgb"), kind="binary")
    np.testing.assert_array_equal(dirty.labels, [[0, 0, 1, 1]])


@pytest.mark.parametrize(
    ("mask", "kind", "words"),
    [
        (raw([[0, -1]]), "auto", "not in 0"),
        (raw([[0, 2**31]]), "auto", "not in 0"),
        (raw([[0, 0xFF0000]], "rgb"), "labels", "kind='rgb'"),
        (raw([[0xFF, 0xFF00]], "rgb"), "auto", "no black background .*#0000ff, #00ff00"),
        (raw([[0, 0xFF0000, 0xFC0203]], "rgb"), "auto", "lossy mask: 3 colours"),
        (raw([[0, 0xFF0000, 0xFF]], "rgb", lossy=True), "auto", "lossy mask: 3 colours"),
        (raw([[0, 100, 200]], lossy=True), "auto", "lossy mask: 3 grey values"),
        (raw(np.arange(300)[None] << 12, "rgb"), "rgb", "299 colours"),
    ],
)
def test_what_has_no_single_reading_is_refused_with_its_mend(mask, kind, words):
    with pytest.raises(InputError, match=words) as error:
        interpret(mask, kind=kind)
    assert str(error.value).startswith("m.png: ")


def test_long_lists_are_cut_in_messages():
    assert listed((1, 2)) == "1, 2"
    assert listed(tuple(range(20)), limit=3) == "0, 1, 2, ... (20 in all)"
