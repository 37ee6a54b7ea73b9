"""Folders: told by what lies in them; two readings are refused."""

from pathlib import Path

import numpy as np
import pytest

from incontext.annotations.find import find_examples
from seggpt.errors import InputError

from .scenes import exported, mask, picture, write_json


def names_of(folder):
    pairs = find_examples(folder).pairs
    return [(Path(str(image)).name, own.name) for image, own in pairs]


@pytest.mark.parametrize(
    ("image", "own"),
    [
        ("images/a.png", "masks/a.png"),
        ("imgs/a.jpg", "labels/a.png"),
        ("img/a.jpg", "annotations/a.png"),
        ("photos/x/a.jpg", "gt/x/a.png"),
        ("Images/a.jpg", "GroundTruth/a_gt.png"),
        ("JPEGImages/a.jpg", "SegmentationClass/a.png"),
        ("leftImg8bit/ulm/u_leftImg8bit.png", "gtFine/ulm/u_gtFine_labelIds.png"),
        ("imagesTr/case_0000.png", "labelsTr/case.png"),
        ("Task1_Training_Input/I_1.jpg", "Task1_Training_GroundTruth/I_1_segmentation.png"),
        ("images/21_training.tif", "1st_manual/21_manual1.gif"),
        ("a.jpg", "masks/a.png"),
        ("a.png", "a_mask.png"),
        ("a.jpg", "a.png"),
        ("x/a.png", "x/a_cp_masks.png"),
    ],
)
def test_pictures_and_masks_are_paired(image, own, tmp_path):
    picture(tmp_path / image)
    mask(tmp_path / own)
    assert names_of(tmp_path) == [(image.rpartition("/")[2], own.rpartition("/")[2])]


def test_arrays_are_masks(tmp_path):
    picture(tmp_path / "images/a.png")
    (tmp_path / "masks").mkdir()
    np.save(tmp_path / "masks/a.npy", np.eye(20, 30, dtype=np.uint8))
    assert names_of(tmp_path) == [("a.png", "a.npy")]
    assert names_of(tmp_path / "masks/a.npy") == [("a.png", "a.npy")]


def test_voc_has_a_second_folder_for_instances(tmp_path):
    picture(tmp_path / "JPEGImages/a.jpg")
    picture(tmp_path / "JPEGImages/b.jpg")
    mask(tmp_path / "SegmentationClass/a.png")
    mask(tmp_path / "SegmentationObject/a.png")
    assert names_of(tmp_path) == [("a.jpg", "a.png")]


def test_what_has_no_partner_is_said(tmp_path, caplog):
    picture(tmp_path / "images/a.png")
    picture(tmp_path / "images/b.png")
    mask(tmp_path / "masks/a.png")
    mask(tmp_path / "masks/c.png")
    assert len(names_of(tmp_path)) == 1
    assert "1 pictures have no mask and are left out: " in caplog.text
    assert "1 masks have no picture and are left out: " in caplog.text


def test_two_readings_are_refused_with_both(tmp_path):
    picture(tmp_path / "images/a.png")
    mask(tmp_path / "masks/a.png")
    mask(tmp_path / "labels/a.png")
    with pytest.raises(
        InputError, match=r"can be read as masks in .*labels .* or as masks in .*masks"
    ):
        find_examples(tmp_path)


def test_an_annotation_file_beside_masks_is_refused_until_one_is_named(tmp_path):
    file = exported(tmp_path, "coco")
    mask(tmp_path / "a_mask.png")
    with pytest.raises(InputError, match=r"can be read as COCO \(.*coco.json\) or as masks beside"):
        find_examples(tmp_path)
    assert len(find_examples(file).pairs) == 1


def test_other_json_is_passed_over_in_a_folder_and_refused_by_itself(tmp_path):
    exported(tmp_path, "labelme")
    other = write_json(tmp_path / "run.json", {"state": "done"})
    assert len(find_examples(tmp_path).pairs) == 1
    with pytest.raises(InputError, match=r"run.json: neither COCO"):
        find_examples(other)


@pytest.mark.parametrize("name", ["nothing", "a.png", "a.docx"])
def test_what_is_nothing_of_the_kind_is_refused(name, tmp_path):
    picture(tmp_path / "a.png")
    (tmp_path / "a.docx").write_text("x")
    with pytest.raises(InputError, match=f"{name}: |no such file"):
        find_examples(tmp_path / name)
    with pytest.raises(InputError, match="no examples that we know"):
        find_examples(tmp_path)
