"""Crops and grids, against numbers worked out by hand."""

import numpy as np

from incontext.everything.crops import Crop, make_crops, make_grid, make_grids, touches_crop


def test_grid_points_are_the_centres_of_squares_row_by_row():
    np.testing.assert_allclose(
        make_grid(2), [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
    )


def test_deeper_layers_have_fewer_points():
    assert [len(grid) for grid in make_grids(32, layers=2, factor=2)] == [1024, 256, 64]


def test_one_layer_is_the_picture_and_four_overlapping_quarters():
    crops = make_crops((1000, 1500), layers=1, overlap=512 / 1500)
    # shared: int(512 / 1500 * 1000 * 2 / 2) = 341
    assert [crop.box for crop in crops] == [
        (0, 0, 1500, 1000),
        (0, 0, 921, 671),
        (0, 330, 921, 1000),
        (580, 0, 1500, 671),
        (580, 330, 1500, 1000),
    ]
    assert [crop.layer for crop in crops] == [0, 1, 1, 1, 1]
    assert crops[2].size == (670, 921)


def test_layers_cover_the_picture():
    size = (50, 70)
    crops = make_crops(size, layers=2, overlap=0.3)
    assert len(crops) == 1 + 4 + 16
    for layer in range(3):
        seen = np.zeros(size, bool)
        for crop in crops:
            if crop.layer == layer:
                x0, y0, x1, y1 = crop.box
                seen[y0:y1, x0:x1] = True
        assert seen.all()


def test_only_edges_inside_the_picture_cut_things_off():
    size = (500, 500)
    left, right = Crop((0, 0, 250, 500), 1), Crop((200, 0, 500, 500), 1)
    assert not touches_crop((5, 5, 200, 495), left, size)  # the picture's own edges
    assert touches_crop((5, 5, 240, 300), left, size)
    assert touches_crop((205, 5, 300, 300), right, size)
    assert not touches_crop((230, 5, 300, 300), right, size)
    assert not touches_crop((0, 0, 499, 499), Crop((0, 0, 500, 500), 0), size)
