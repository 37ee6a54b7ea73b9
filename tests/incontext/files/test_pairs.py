"""Several pictures and masks together: what belongs to one picture, and what shows nothing."""

import logging

import numpy as np
import pytest
from PIL import Image

from incontext.files.images import load_image
from incontext.files.pairs import check_writable_labels, read_pairs
from incontext.wording import speak_as_command
from seggpt.errors import InputError

from .scenes import LABELS, SIZE, encode

PICTURE = np.full((SIZE[1], SIZE[0], 3), 90, np.uint8)
OTHER = PICTURE + 1
NOTHING = np.zeros_like(LABELS)


def read(*pairs, **options):
    images = [image for image, _ in pairs]
    return read_pairs(
        images, [mask for _, mask in pairs], load=lambda index: load_image(images[index]), **options
    )


def one(label, value=255):
    return ((label == LABELS) * value).astype(np.uint8)


@pytest.mark.parametrize("value", [1, 255])
def test_a_mask_per_class_of_one_picture_gives_classes_in_their_order(value, caplog):
    [pair] = read(*[(PICTURE, one(label, value)) for label in (1, 2, 3)])
    np.testing.assert_array_equal(pair.mask.labels, LABELS)
    assert pair.mask.classes == (1, 2, 3)
    assert "3 masks of one picture are its classes in their order" in caplog.text
    assert "kind='binary'" in caplog.text


def test_a_class_that_a_picture_lacks_keeps_its_number():
    pairs = read(
        *[(PICTURE, one(label)) for label in (1, 2, 3)],
        *[(OTHER, one(label) if label != 2 else NOTHING) for label in (1, 2, 3)],
    )
    assert [pair.mask.classes for pair in pairs] == [(1, 2, 3), (1, 3)]
    assert [pair.index for pair in pairs] == [0, 3]


def test_masks_of_one_picture_are_one_class_where_binary_is_asked_for():
    [pair] = read(*[(PICTURE, one(label)) for label in (1, 2, 3)], kind="binary")
    np.testing.assert_array_equal(pair.mask.labels, LABELS > 0)


def test_masks_of_one_picture_with_labels_of_their_own_keep_them():
    values = [np.where(label == LABELS, LABELS, 0).astype(np.uint8) for label in (1, 2, 3)]
    [pair] = read(*[(PICTURE, value) for value in values], kind="labels")
    np.testing.assert_array_equal(pair.mask.labels, LABELS)


def test_pictures_with_different_numbers_of_masks_are_refused_with_the_mend():
    with pytest.raises(InputError, match=r"which class is which.*kind='binary'"):
        read((PICTURE, one(1)), (PICTURE, one(2)), (OTHER, one(1)))
    pairs = read((PICTURE, one(1)), (PICTURE, one(2)), (OTHER, NOTHING))
    assert [pair.mask.classes for pair in pairs] == [(1, 2), ()]


def test_paths_to_one_file_are_one_picture(tmp_path):
    (tmp_path / "a.png").write_bytes(encode(PICTURE))
    (tmp_path / "sub").mkdir()
    names = [tmp_path / "a.png", tmp_path / "sub" / ".." / "a.png"]
    [pair] = read((str(names[0]), one(1)), (names[1], one(2)))
    assert pair.mask.classes == (1, 2)


def test_one_pair_given_twice_stays_two():
    assert len(read((PICTURE, one(1)), (PICTURE, one(1)))) == 2


def test_an_example_of_nothing_is_taken_beside_a_marked_one_and_said(caplog):
    pairs = read((PICTURE, one(1)), (OTHER, NOTHING))
    assert [pair.mask.classes for pair in pairs] == [(1,), ()]
    assert "nothing is marked: it shows what is not wanted" in caplog.text


def test_examples_of_nothing_alone_are_refused_unless_a_prompt_has_others():
    pairs = [(PICTURE, NOTHING), (OTHER, NOTHING)]
    for some in (pairs, pairs[:1]):
        with pytest.raises(InputError, match=r"no foreground .*give an example beside it"):
            read(*some)
    assert len(read(*pairs, may_be_empty=True)) == 2


def test_the_labels_of_a_prompt_are_values_of_its_further_masks():
    [pair] = read((PICTURE, one(1, 7)), known=(7, 9))
    assert pair.mask.classes == (7,)
    [pair] = read((PICTURE, one(1, 8)), known=(7, 9))
    assert pair.mask.classes == (1,)


@pytest.mark.parametrize(
    ("orientation", "size", "is_said"),
    [
        (3, (40, 30), True),
        (6, (40, 40), True),
        (2, (40, 30), True),
        (4, (30, 40), True),
        (6, (40, 30), False),
        (8, (30, 40), False),
        (1, (40, 40), False),
    ],
)
def test_a_turn_by_exif_is_said_where_sizes_do_not_tell(orientation, size, is_said, caplog):
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = Image.new("RGB", size, (90, 80, 70))
    data = encode(photo, "JPEG", exif=exif)
    mask = np.zeros(load_image(data).shape[:2], np.uint8)
    mask[5:15, 5:15] = 1
    read((data, mask))
    said = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert bool(said) is is_said
    if is_said:
        assert f"EXIF orientation ({orientation})" in said[0].getMessage()


def test_a_mask_with_the_orientation_of_its_picture_needs_no_word(caplog):
    exif = Image.Exif()
    exif[0x0112] = 3
    mask = np.zeros((30, 40), np.uint8)
    mask[5:15, 5:15] = 1
    read((encode(Image.new("RGB", (40, 30)), "JPEG", exif=exif), encode(mask, exif=exif)))
    assert not caplog.records


@pytest.mark.parametrize(
    ("labels", "is_refused"), [((1, 255), False), ((1, 256), True), ((), False)]
)
def test_labels_that_cannot_be_written_are_refused_in_the_words_of_the_place(labels, is_refused):
    if not is_refused:
        check_writable_labels(labels, name="m.png")
        return
    with pytest.raises(InputError, match=r"m\.png: 2 labels up to 256.*kind='binary'"):
        check_writable_labels(labels, name="m.png")
    with speak_as_command(), pytest.raises(InputError, match="pass --mask-kind binary"):
        check_writable_labels(labels, name="m.png")
