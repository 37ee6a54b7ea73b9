import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from train.report.curves import (
    HEIGHT,
    LEFT,
    MOST_POINTS,
    RIGHT,
    TOP,
    WIDTH,
    draw_curve,
    thin,
    ticks,
)


def curve(*points):
    return draw_curve([(float(x), float(y)) for x, y in points])


def places(svg):
    """Return the points of a curve, in pixels."""
    (line,) = ElementTree.fromstring(svg).findall("polyline")
    return [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]


def test_a_curve_spans_its_frame():
    drawn = places(curve((0, 1), (50, 3), (100, 2)))
    assert [x for x, _ in drawn] == [LEFT, (LEFT + WIDTH - RIGHT) / 2, WIDTH - RIGHT]
    # Up is less on a screen.
    assert drawn[1][1] == TOP
    assert TOP < drawn[2][1] < drawn[0][1] < HEIGHT


@pytest.mark.parametrize("values", [[0.5], [0.5, 0.5], [1e-7, 2e-7], [1e4, 1e-3, 1e-3], [-1, 1]])
def test_any_values_are_drawn_inside(values):
    for x, y in places(curve(*enumerate(values))):
        assert LEFT <= x <= WIDTH - RIGHT
        assert TOP <= y <= HEIGHT


def test_what_is_not_finite_is_left_out():
    assert len(places(curve((0, 1), (1, np.nan), (2, 2)))) == 2
    assert curve((0, np.inf)) == "<p>no finite value</p>"


def test_many_points_become_means():
    points = [(float(x), 2.0 * x) for x in range(10 * MOST_POINTS)]
    few = thin(points)
    assert len(few) == MOST_POINTS
    assert few[0] == (4.5, 9.0)
    assert thin(points[:5]) == points[:5]


def test_ticks_are_round():
    assert ticks(0.0, 1000.0) == [0, 500, 1000]
    assert ticks(0.13, 0.92) == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert ticks(3.0, 3.0) == [3]
    assert ">100000<" in curve((0, 1), (200000, 2))
