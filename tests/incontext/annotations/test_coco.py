"""COCO: run lengths of both kinds, crowds, ids, and every mistake named by its annotation."""

import numpy as np
import pytest

from incontext.files import rle
from seggpt.errors import InputError

from .scenes import LABELS, coco, flat, picture, read, write_json

POLYGON = {"segmentation": [flat(2, 3, 14, 12)]}


@pytest.fixture
def told(tmp_path):
    """Return a function that reads annotations of one picture."""
    picture(tmp_path / "a.png")

    def run(*annotations, options=None, **more):
        return read(write_json(tmp_path / "c.json", coco(*annotations, **more)), **(options or {}))

    return run


@pytest.mark.parametrize("form", ["to_dict", "to_coco"])
def test_run_lengths_are_read(form, told):
    runs = getattr(rle.encode(LABELS == 1), form)()
    [labels], names = told({"segmentation": runs})
    np.testing.assert_array_equal(labels, LABELS == 1)
    assert names == {1: "leaf"}


def test_several_polygons_are_one_thing_and_later_ones_lie_on_top(told):
    parts = [flat(0, 0, 4, 4), flat(10, 0, 14, 4)]
    [labels], names = told(
        {"segmentation": parts}, {"segmentation": [flat(2, 0, 6, 4)], "category_id": 2}
    )
    assert labels[0].tolist() == [1] * 2 + [2] * 4 + [0] * 4 + [1] * 4 + [0] * 16
    assert names == {1: "leaf", 2: "stem"}


def test_crowds_are_ignored_where_nothing_else_is(told):
    crowd = rle.encode(np.ones((20, 30), bool)).to_dict()
    [labels], _ = told(POLYGON, {"segmentation": crowd, "iscrowd": 1})
    assert (labels[3:12, 2:14] == 1).all()
    assert (labels == -1).sum() == 600 - 9 * 12


def test_a_picture_is_found_by_its_address(told, tmp_path):
    (tmp_path / "val2017").mkdir()
    picture(tmp_path / "val2017" / "b.png")
    image = {"id": 1, "coco_url": "http://images.cocodataset.org/val2017/b.png"}
    assert told(POLYGON, images=[image])[1] == {1: "leaf"}
    with pytest.raises(InputError, match=r"picture val2017/c\.png is not beside it"):
        told(POLYGON, images=[image | {"coco_url": "http://a/../val2017/c.png"}])


def test_a_category_0_makes_numbers_from_1(told):
    categories = [{"id": 0, "name": "leaf"}, {"id": 7, "name": "stem"}]
    _, names = told(
        {**POLYGON, "category_id": 0}, {**POLYGON, "category_id": 7}, categories=categories
    )
    assert names == {1: "leaf", 2: "stem"}


def test_pictures_without_annotations_are_taken_on_request(told, tmp_path, caplog):
    picture(tmp_path / "b.png")
    images = [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}]
    assert len(told(POLYGON, images=images)[0]) == 1
    assert "1 pictures without annotations are left out; empty takes them" in caplog.text
    labels, _ = told(POLYGON, images=images, options={"empty": True})
    assert [int(map_.max()) for map_ in labels] == [1, 0]


def test_too_many_pictures_are_refused_and_a_limit_takes_the_first(told, tmp_path):
    images = [{"id": number, "file_name": "a.png"} for number in range(5)]
    marks = [{**POLYGON, "image_id": number} for number in range(5)]
    with pytest.raises(InputError, match=r"5 pictures, and 4 examples are the most; .*limit=4"):
        told(*marks, images=images, options={"most": 4})
    assert len(told(*marks, images=images, options={"most": 4, "limit": 2})[0]) == 2


@pytest.mark.parametrize("place", ["images/a.png", "../images/a.png", "../train2017/a.png"])
def test_pictures_are_found_in_the_usual_neighbours(place, tmp_path):
    picture(tmp_path / "annotations" / place)
    file = write_json(tmp_path / "annotations" / "instances_train2017.json", coco(POLYGON))
    assert len(read(file)[0]) == len(read(tmp_path)[0]) == 1


def test_pictures_are_found_where_they_are_said_to_be(tmp_path):
    picture(tmp_path / "far/below/a.png")
    images = [{"id": 1, "file_name": "below/a.png"}]
    file = write_json(tmp_path / "c.json", coco(POLYGON, images=images))
    assert len(read(file, images=tmp_path / "far")[0]) == 1
    with pytest.raises(
        InputError, match=r"image 1: picture below/a.png is not beside it; .*images"
    ):
        read(file)


@pytest.mark.parametrize(
    "name", ["../../secret.png", "/etc/secret.png", "..\\..\\secret.png", "C:/x.png"]
)
def test_names_never_leave_the_folder(name, tmp_path):
    picture(tmp_path / "secret.png")
    images = [{"id": 1, "file_name": name}]
    file = write_json(tmp_path / "one/two/c.json", coco(POLYGON, images=images))
    with pytest.raises(InputError, match=r"image 1: file_name '.*' leaves the folder of the file"):
        read(file)


def mistakes():
    runs = rle.encode(LABELS == 1).to_dict()
    yield {"segmentation": [[1, 2, 3, 4]]}, "ann 17: polygon needs 3 points or more, and has 2"
    yield {"segmentation": [[1, 2, 3]]}, "ann 17: polygon has 3 numbers, and x and y"
    yield {"segmentation": [[1, 2, 3, "4", 5, 6]]}, "ann 17: point 2: '4' is no coordinate"
    yield {"segmentation": [[1, 2, 3, 10**400, 5, 6]]}, "ann 17: point 2: a huge number is no coord"
    yield {"segmentation": [flat(0, 0, 900, 9)]}, r"ann 17: point 2 \(900, 0\) lies far outside"
    yield {"segmentation": [7]}, "ann 17: polygon must be a list of numbers x, y, ..., and is 7"
    yield {"segmentation": "x"}, "ann 17: segmentation must be an object, and is 'x'"
    yield {"segmentation": []}, "ann 17: no segmentation, and boxes are no masks"
    yield {}, "ann 17: no segmentation"
    yield {"segments_info": []}, "ann 17: segments of COCO panoptic"
    yield (
        {"segmentation": {**runs, "size": [30, 20]}},
        "run lengths of 20x30 for a picture of 30x20",
    )
    yield {"segmentation": {**runs, "size": [9, 9]}}, "ann 17: segmentation.counts has|ann 17: run"
    yield {"segmentation": {**runs, "size": [10**9, 10**9]}}, "ann 17: .* exceeds max_pixels"
    yield {"segmentation": {**runs, "size": 9}}, r"ann 17: segmentation.size must be \[height"
    yield (
        {"segmentation": {**runs, "counts": [10**9]}},
        "ann 17: segmentation.counts has 1000000000",
    )
    yield {"segmentation": {**runs, "counts": [5, 5]}}, "ann 17: run lengths of 10 pixels"
    yield {"segmentation": {**runs, "counts": "o" * 99}}, "ann 17: no compressed run lengths"
    yield {"segmentation": {**runs, "counts": "\u1234"}}, "ann 17: no compressed run lengths"
    yield {"segmentation": {"size": [20, 30]}}, "ann 17: segmentation.counts is missing"
    yield {**POLYGON, "category_id": 9}, "ann 17: category_id 9 is not among the categories"
    yield {**POLYGON, "image_id": 9}, "ann 17: image_id 9 is not among the images"
    yield {**POLYGON, "image_id": None}, "ann 17: image_id must be a whole number, and is null"
    yield {**POLYGON, "id": "x"}, "ann at place 1: id must be a whole number, and is 'x'"
    yield {**POLYGON, "iscrowd": "no"}, "ann 17: iscrowd must be a whole number"


@pytest.mark.parametrize(("annotation", "words"), list(mistakes()))
def test_mistakes_name_file_and_annotation(annotation, words, told):
    with pytest.raises(InputError, match=words) as refused:
        told(annotation)
    assert "c.json: " in str(refused.value)
    assert "\n" not in str(refused.value)


def test_ids_must_differ(told):
    with pytest.raises(InputError, match="ann 17 is there twice"):
        told(POLYGON, {**POLYGON, "id": 17})
    same = [{"id": 1, "name": "leaf"}, {"id": 2, "name": "leaf"}]
    with pytest.raises(InputError, match="categories 1 and 2 are both called 'leaf'"):
        told(POLYGON, {**POLYGON, "category_id": 2}, categories=same)


def test_another_size_than_the_pictures_is_named(told):
    images = [{"id": 1, "file_name": "a.png", "width": 20, "height": 30}]
    with pytest.raises(
        InputError, match=r"image 1: annotated as 20x30, and .*a.png is 30x20; .*EXIF"
    ):
        told(POLYGON, images=images)
