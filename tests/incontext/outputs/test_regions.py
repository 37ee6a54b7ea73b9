import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from incontext.outputs.regions import find_regions, number_instances

MAPS = hnp.arrays(
    np.int32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 3)
)


def paint(regions, shape):
    painted = np.zeros(shape, np.int32)
    for region in regions:
        x, y, width, height = region.box
        box = painted[y : y + height, x : x + width]
        assert not box[region.mask].any()
        box[region.mask] = region.label
    return painted


@given(MAPS, st.booleans())
def test_regions_make_up_the_map(label_map, instances):
    regions = list(find_regions(label_map, instances=instances))
    np.testing.assert_array_equal(paint(regions, label_map.shape), label_map)
    assert sum(region.area for region in regions) == (label_map > 0).sum()
    for region in regions:  # boxes are tight
        for axis in (0, 1):
            assert np.any(region.mask, axis=axis).take([0, -1]).all()


@given(MAPS)
def test_without_instances_a_label_is_one_region(label_map):
    regions = list(find_regions(label_map, instances=False))
    assert [region.label for region in regions] == sorted(set(label_map[label_map > 0].tolist()))


def test_components_are_numbered_label_by_label():
    label_map = np.array([[2, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0], [1, 0, 2, 2]], np.int32)
    numbers = number_instances(label_map)
    want = [[3, 0, 1, 0], [0, 0, 0, 1], [2, 0, 0, 0], [2, 0, 4, 4]]
    np.testing.assert_array_equal(numbers, want)
