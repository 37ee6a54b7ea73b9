"""Names of masks and of their pictures, as data sets have them."""

from pathlib import Path

import pytest

from incontext.annotations.naming import is_mask_folder, pair_by_name
from seggpt.errors import InputError


def found(*names):
    return [(Path(name), Path(name).with_suffix("")) for name in names]


@pytest.mark.parametrize(
    ("picture", "mask"),
    [
        ("a.jpg", "a.png"),
        ("a.JPG", "a.PNG"),
        ("a.jpg", "a_mask.png"),
        ("a.jpg", "a_masks.png"),
        ("a.jpg", "a_label.png"),
        ("a.jpg", "a_labels.png"),
        ("a.jpg", "a_seg.png"),
        ("a.jpg", "a_gt.png"),
        ("ISIC_0000000.jpg", "ISIC_0000000_segmentation.png"),
        ("ulm_000019_leftImg8bit.png", "ulm_000019_gtFine_labelIds.png"),
        ("cell.tif", "cell_cp_masks.png"),
        ("21_training.tif", "21_manual1.gif"),
        ("a.jpg", "a.jpg.png"),
        ("img_1.png", "mask_1.png"),
        ("image_1.png", "mask_1.png"),
        ("image1.png", "label1.png"),
        ("a.png", "mask_a.png"),
        ("123_sat.jpg", "123_mask.png"),
        ("case_0000.png", "case.png"),
        ("a.png", "a_seg.npy"),
    ],
)
def test_a_mask_is_found_by_its_name(picture, mask):
    pairing = pair_by_name(
        found(f"p/{picture}")[:1], [(Path("m") / mask, Path("p") / Path(mask).stem)]
    )
    assert pairing.pairs == ((Path("p") / picture, Path("m") / mask),)
    assert pairing.lone_pictures == pairing.lone_masks == ()


def test_files_beside_each_other_are_told_apart():
    files = found("a.jpg", "a.png", "b.png", "b_mask.png", "c.png", "mask_7.png", "img_7.png")
    pairing = pair_by_name(files, files)
    assert {(str(picture), str(mask)) for picture, mask in pairing.pairs} == {
        ("a.jpg", "a.png"),
        ("b.png", "b_mask.png"),
        ("img_7.png", "mask_7.png"),
    }
    assert pairing.lone_pictures == (Path("c.png"),)


def test_a_mask_of_two_pictures_and_two_masks_of_one_are_refused():
    with pytest.raises(InputError, match=r"a.jpg and a.png both pair with m/a.png; rename one"):
        pair_by_name(found("a.jpg", "a.png"), [(Path("m/a.png"), Path("a"))])
    with pytest.raises(InputError, match=r"m/a.png and m/a.gif are masks of one name; remove one"):
        pair_by_name(found("a.jpg"), [(Path("m/a.png"), Path("a")), (Path("m/a.gif"), Path("a"))])


def test_folders_of_masks_are_known_by_their_names():
    names = "masks labels annotations gt groundtruth SegmentationClass 1st_manual gtFine"
    names += " ISIC2018_Task1_Training_GroundTruth"
    assert all(is_mask_folder(Path(name)) for name in names.split())
    assert not any(
        is_mask_folder(Path(name)) for name in ("images", "gtx", "unlabelled", "JPEGImages")
    )
