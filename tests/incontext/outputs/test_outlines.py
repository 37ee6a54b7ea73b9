import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from incontext.outputs.outlines import trace

MASKS = hnp.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def fill(rings, shape):
    """Fill rings by the even-odd rule at the middles of pixels, edge by edge."""
    inside = np.zeros(shape, bool)
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    for ring in rings:
        for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            if y0 != y1:
                crossing = x0 + (y - y0) / (y1 - y0) * (x1 - x0)
                inside ^= ((y0 > y) != (y1 > y)) & (crossing > x)
    return inside


@settings(deadline=None)
@given(MASKS)
def test_filled_outlines_are_the_mask(mask):
    outlines = trace(mask)
    rings = [ring for outline in outlines for ring in (outline.exterior, *outline.holes)]
    np.testing.assert_array_equal(fill(rings, mask.shape), mask)
    opened = [outline.cut_open() for outline in outlines]
    np.testing.assert_array_equal(fill(opened, mask.shape), mask)


@settings(deadline=None)
@given(MASKS)
def test_every_connected_part_has_one_outline_with_its_own_holes(mask):
    outlines = trace(mask)
    parts = np.zeros(mask.shape, np.int32)
    count = ndimage.label(mask, output=parts)
    assert len(outlines) == count
    for outline in outlines:
        own = fill([outline.exterior, *outline.holes], mask.shape)
        assert len(np.unique(parts[own])) == 1


def test_a_ring_has_a_point_only_where_it_turns():
    mask = np.zeros((9, 12), bool)
    mask[2:7, 3:10] = True
    [outline] = trace(mask)
    assert outline.exterior.tolist() == [[3, 2], [10, 2], [10, 7], [3, 7]]
    assert outline.holes == ()


def test_nothing_has_no_outline():
    assert trace(np.zeros((4, 5), bool)) == []
