"""Labels over several files: one name has one number."""

import numpy as np
import pytest

from incontext.annotations.find import find_examples
from seggpt.errors import InputError

from .scenes import coco, flat, labelme, picture, shape, square, write_json


@pytest.fixture
def files(tmp_path):
    """Return a function that writes a COCO file with one category, or a labelme file."""
    picture(tmp_path / "a.png")

    def write(file, name, number=None):
        if number is None:
            return write_json(tmp_path / file, labelme(shape(square(0, 0, 5, 5), name)))
        mark = {"segmentation": [flat(0, 0, 5, 5)], "category_id": number}
        categories = [{"id": number, "name": name}]
        return write_json(tmp_path / file, coco(mark, categories=categories))

    return write


def labels_of(*paths, **options):
    found = find_examples(paths, **options)
    return [int(np.asarray(own).max()) for _, own in found.pairs], found.names


def test_names_without_numbers_take_those_of_other_files(files):
    paths = files("l.json", "leaf"), files("m.json", "bug"), files("c.json", "leaf", 3)
    assert labels_of(*paths) == ([3, 1, 3], {1: "bug", 3: "leaf"})


def test_files_that_disagree_are_refused_by_name(files):
    one, two = files("one.json", "leaf", 1), files("two.json", "leaf", 2)
    with pytest.raises(InputError, match=r"two.json: 'leaf' has the label 2, and 1 in .*one.json"):
        labels_of(one, two)
    three = files("three.json", "stem", 1)
    with pytest.raises(
        InputError, match=r"three.json: label 1 is 'stem', and 'leaf' in .*one.json"
    ):
        labels_of(one, three)


def test_names_that_are_told_decide(files):
    paths = files("one.json", "leaf", 1), files("two.json", "leaf", 2), files("l.json", "stem")
    told = {4: "leaf", 9: "stem"}
    assert labels_of(*paths, names=told) == ([4, 4, 9], told)
    with pytest.raises(InputError, match="label 1 is 'leaf', and 'bug' in names"):
        labels_of(files("one.json", "leaf", 1), files("l.json", "bug"), names={1: "bug"})


def test_names_that_no_file_knows_only_rename(files):
    assert labels_of(files("one.json", "leaf", 3), names={3: "Blatt"}) == ([3], {3: "leaf"})


def test_names_that_are_numbers_are_labels(files):
    assert labels_of(files("l.json", "7"), files("m.json", "2"))[0] == [7, 2]
