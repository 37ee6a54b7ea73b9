"""labelme: every shape that has an area, and where its picture is."""

import base64

import numpy as np
import pytest

from seggpt.errors import InputError

from .scenes import labelme, picture, png64, read, shape, square, write_json


@pytest.fixture
def told(tmp_path):
    picture(tmp_path / "a.png")

    def run(*shapes, **more):
        return read(write_json(tmp_path / "a.json", labelme(*shapes, **more)))

    return run


def test_rectangles_are_squares_from_any_corner(told):
    [labels], _ = told(shape([[14, 12], [2, 3]], shape_type="rectangle"))
    assert labels.sum() == 12 * 9
    assert (labels[3:12, 2:14] == 1).all()


def test_circles_are_round(told):
    [labels], _ = told(shape([[15, 10], [15, 17]], shape_type="circle"))
    rows, cols = np.mgrid[:20, :30] + 0.5
    wanted = (cols - 15) ** 2 + (rows - 10) ** 2 <= 49
    assert (labels != wanted).sum() <= 4


def test_masks_lie_where_their_points_are(told):
    inner = np.zeros((4, 6), bool)
    inner[1:3] = True
    points = [[5, 7], [10, 10]]
    [labels], _ = told(shape(points, shape_type="mask", mask=png64(inner)))
    np.testing.assert_array_equal(labels[7:11, 5:11], inner)
    assert labels.sum() == inner.sum()


def test_names_are_numbered_in_their_order_and_a_line_says_so(told, caplog):
    _, names = told(shape(square(0, 0, 5, 5), "stem"), shape(square(5, 5, 9, 9), "leaf"))
    assert names == {1: "leaf", 2: "stem"}
    assert "numbered by name: 1=leaf, 2=stem" in caplog.text


def test_background_and_ignored_parts(told):
    [labels], names = told(
        shape(square(0, 0, 5, 5)),
        shape(square(0, 0, 9, 5), "__ignore__"),
        shape(square(0, 0, 30, 20), "_background_"),
    )
    assert np.unique(labels).tolist() == [-1, 0, 1]
    assert names == {1: "leaf"}


@pytest.mark.parametrize("name", ["../photos/b.png", "..\\photos\\b.png", "C:\\x\\b.png", "", None])
def test_the_picture_is_the_one_named_or_the_one_of_its_name(name, tmp_path):
    picture(tmp_path / "photos/b.png")
    file = write_json(tmp_path / "json/b.json", labelme(shape(square(0, 0, 9, 9)), imagePath=name))
    assert len(read(file)[0]) == 1


def test_the_picture_may_be_inside(tmp_path):
    data = base64.b64encode(picture(tmp_path / "x.png").read_bytes()).decode()
    page = labelme(shape(square(0, 0, 9, 9)), imagePath="gone.png", imageData=data)
    [labels], _ = read(write_json(tmp_path / "b.json", page))
    assert labels.shape == (20, 30)
    with pytest.raises(InputError, match=r"b.json: imageData is no base64"):
        read(write_json(tmp_path / "b.json", page | {"imageData": "%%"}))
    with pytest.raises(InputError, match=r"b.json: <bytes>: "):
        read(write_json(tmp_path / "b.json", page | {"imageData": data[:40]}))


def test_names_never_leave_the_folder(tmp_path):
    picture(tmp_path / "secret.png")
    page = labelme(shape(square(0, 0, 9, 9)), imagePath="../../../secret.png")
    file = write_json(tmp_path / "a/b/c/d.json", page)
    with pytest.raises(InputError, match=r"d.json: imagePath '.*secret.png' leaves the folder"):
        read(file)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (shape([[0, 0], [1, 1]]), "shape 1: polygon needs 3 points or more, and has 2"),
        (shape([[0, 0], [1, 1], [2]]), r"shape 1: point 3 must be \[x, y\], and is a list of 1"),
        (shape([[0, 0], [1, 1], None]), r"shape 1: point 3 must be \[x, y\], and is null"),
        (shape(7), "shape 1: points must be a list of points, and is 7"),
        (shape([[0, 0]] * 3, shape_type="line"), "shape 1: shape_type 'line' has no area"),
        (shape([[0, 0]] * 3, shape_type="circle"), "shape 1: circle needs 2 points, and has 3"),
        (shape([[0, 0]], shape_type="circle"), "shape 1: shape needs 2 points or more"),
        (shape([[0, 0]] * 3, label=5), "shape 1: label must be a text, and is 5"),
        ({"label": "leaf"}, "shape 1: points is missing"),
        (5, "shape 1: must be an object, and is 5"),
        (
            shape([[0, 0], [8, 8]], shape_type="mask", mask=png64(np.ones((2, 2), bool))),
            "shape 1: mask of 2x2 between the pixels 0,0 and 8,8",
        ),
        (
            shape([[29, 0], [30, 1]], shape_type="mask", mask=png64(np.ones((2, 2), bool))),
            "shape 1: a mask of 2x2 at 29,0 leaves the picture",
        ),
    ],
)
def test_mistakes_name_file_and_shape(made, words, told):
    with pytest.raises(InputError, match=f"a.json: {words}"):
        told(made)


def test_another_size_is_named(told):
    with pytest.raises(InputError, match=r"annotated as 15x10, and .* is 30x20; .*resized"):
        told(shape(square(0, 0, 5, 5)), imageWidth=15, imageHeight=10)
