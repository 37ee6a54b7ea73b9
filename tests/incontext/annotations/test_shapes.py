"""Polygons as pixels: the middle of a pixel decides, however many pixels there are."""

import numpy as np

from incontext.annotations import shapes

from .scenes import LABELS, exported, read


def test_polygons_between_pixels_are_filled_by_their_middles(tmp_path):
    yolo = exported(tmp_path, "yolo")
    yolo.write_text("0 0.1 0.1 0.4733 0.1 0.4733 0.51 0.1 0.51\n")  # 3..14.2 by 2..10.2
    [found], _ = read(yolo)
    wanted = np.zeros((20, 30), np.int32)
    wanted[2:10, 3:14] = 1
    np.testing.assert_array_equal(found, wanted)


def test_large_polygons_are_filled_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(shapes, "_BAND_PIXELS", 1000)
    [found], _ = read(exported(tmp_path, "geojson"))
    np.testing.assert_array_equal(found, LABELS)


def test_parts_outside_of_the_picture_are_cut_off(tmp_path):
    geojson = exported(tmp_path, "geojson", np.ones((4, 4), np.int32))
    moved = geojson.read_text().replace("[0, 0]", "[-2, -2]").replace("[4, 4]", "[7, 7]")
    geojson.write_text(moved)
    [found], _ = read(geojson)
    assert found.all()
