import io
import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageDraw, ImageFilter

from incontext.files.masks import VOC_PALETTE, check_same_size, load_mask, load_masks
from seggpt.errors import InputError


def encode(image, file_format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def disc(value: int | tuple[int, ...] = 255, mode="L"):
    image = Image.new(mode, (60, 40))
    ImageDraw.Draw(image).ellipse((15, 8, 42, 33), fill=value)
    return image


def indexed(values, palette=VOC_PALETTE):
    image = Image.fromarray(np.asarray(values, np.uint8))
    image.putpalette(palette.tobytes())
    return image


WHERE = np.asarray(disc()) > 0

LABELS = np.array([[0, 0, 1, 1], [0, 2, 2, 1], [0, 7, 7, 0]])


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        (WHERE, "binary01"),
        (WHERE.astype(np.uint8), "binary01"),
        (WHERE.astype(np.int64), "binary01"),
        (WHERE.astype(np.float32), "binary01"),
        (WHERE * 255, "binary255"),
        (disc(), "binary255"),
        (disc(1), "binary01"),
        (disc(38), "binary"),
        (disc().convert("1"), "binary01"),
        (disc().convert("RGB"), "binary255"),
        (indexed(WHERE), "indexed"),
        (indexed(WHERE * 255), "binary255"),
        (disc((128, 0, 0), mode="RGB"), "rgb"),
        (disc((128, 0, 0, 255), mode="RGBA"), "rgb"),
        (disc((0, 0, 0, 255), mode="RGBA"), "alpha"),
        (Image.fromarray(WHERE.astype(np.uint16) * 65535), "binary"),
    ],
)
def test_every_dialect_of_one_object_gives_class_one(source, kind):
    sources = [source] if isinstance(source, np.ndarray) else [source, encode(source)]
    for each in sources:
        mask = load_mask(each)
        np.testing.assert_array_equal(mask.labels, WHERE)
        assert mask.labels.dtype == np.int32
        assert mask.kind == kind
        assert mask.classes == (1,)
        assert mask.note


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        (LABELS, "labels"),
        (Image.fromarray(LABELS.astype(np.uint8)), "labels"),
        (Image.fromarray(LABELS.astype(np.uint16)), "labels"),
        (Image.fromarray(np.repeat(LABELS[..., None].astype(np.uint8), 3, axis=2)), "labels"),
        (indexed(LABELS), "indexed"),
    ],
)
def test_every_dialect_of_labels_keeps_their_values(source, kind):
    mask = load_mask(source)
    np.testing.assert_array_equal(mask.labels, LABELS)
    assert mask.kind == kind
    assert mask.classes == (1, 2, 7)


@given(
    hnp.arrays(np.uint8, (5, 6), elements=st.integers(0, 254)),
    hnp.arrays(np.uint8, (256, 3)),
)
def test_colours_of_a_palette_that_begins_with_black_never_change_the_labels(values, palette):
    palette[0] = 0
    mask = load_mask(encode(indexed(values, palette)), allow_empty=True)
    np.testing.assert_array_equal(mask.labels, values)
    for label in mask.classes:
        assert mask.colors[label] == tuple(palette[label])


def test_coloured_classes_are_numbered_and_remembered():
    colors = np.zeros((3, 4, 3), np.uint8)
    colors[0, :2], colors[1] = (0, 128, 0), (128, 0, 0)
    mask = load_mask(encode(Image.fromarray(colors)))
    np.testing.assert_array_equal(mask.labels, [[1, 1, 0, 0], [2] * 4, [0] * 4])
    assert mask.colors == {1: (0, 128, 0), 2: (128, 0, 0)}
    assert "1=#008000" in mask.note


def test_void_of_an_indexed_mask_is_kept_but_is_no_class():
    values = np.array([[0, 1, 255], [255, 15, 0]])
    mask = load_mask(encode(indexed(values)))
    np.testing.assert_array_equal(mask.labels, values)
    assert mask.classes == (1, 15)
    assert "255 is ignored" in mask.note


def test_a_cutout_photograph_gives_its_alpha_and_says_so():
    photo = np.random.default_rng(0).integers(0, 256, (40, 60, 4), dtype=np.uint8)
    photo[..., 3] = WHERE * 255
    mask = load_mask(encode(Image.fromarray(photo)))
    np.testing.assert_array_equal(mask.labels, WHERE)
    assert mask.kind == "alpha"
    assert "colours are not used" in mask.note


def test_hidden_colours_below_full_transparency_are_background():
    image = disc((0, 255, 0, 255), mode="RGBA")
    pixels = np.array(image)
    pixels[~WHERE] = (255, 0, 0, 0)
    mask = load_mask(encode(Image.fromarray(pixels)))
    np.testing.assert_array_equal(mask.labels, WHERE)
    assert "transparent pixels are background" in mask.note


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("kind", ["auto", "binary"])
def test_a_jpeg_mask_of_one_object_is_cleaned_and_said(mode, kind, caplog):
    fill = 255 if mode == "L" else (255, 0, 0)
    lossy = encode(disc(fill, mode=mode), "JPEG", quality=75)
    again = encode(Image.open(io.BytesIO(lossy)))  # as PNG, which no longer tells
    for data in (lossy, again):
        caplog.clear()
        mask = load_mask(data, kind=kind)
        assert mask.classes == (1,)
        assert (mask.labels != WHERE).mean() < 0.01
        [record] = caplog.records
        assert record.levelno == logging.WARNING
        assert "taken for the 2 of flat parts" in record.getMessage()


def test_an_antialiased_mask_is_cleaned_and_said(caplog):
    soft = disc().filter(ImageFilter.GaussianBlur(0.7))
    for kind in ("auto", "binary"):
        assert (load_mask(encode(soft), kind=kind).labels != WHERE).mean() < 0.01
    assert "lossy or soft edges" in caplog.text


def test_a_black_object_on_hidden_white_is_found_by_its_alpha():
    pixels = np.full((40, 60, 4), (255, 255, 255, 0), np.uint8)
    pixels[WHERE] = (0, 0, 0, 255)
    mask = load_mask(encode(Image.fromarray(pixels)))
    np.testing.assert_array_equal(mask.labels, WHERE)
    assert mask.kind == "alpha"


@pytest.mark.parametrize("corner", ["white", "red"])
def test_a_soft_alpha_is_refused_until_the_caller_says_binary(corner):
    image = Image.new("RGB", (60, 40), "white")
    image.paste(corner, (0, 0, 30, 20))
    image.putalpha(disc().filter(ImageFilter.GaussianBlur(2)))
    with pytest.raises(InputError, match="soft mask"):
        load_mask(encode(image))
    assert load_mask(encode(image), kind="binary").classes == (1,)


def test_a_photograph_is_no_mask():
    photo = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    for source in (photo, photo[..., 0]):
        with pytest.raises(InputError, match="photograph"):
            load_mask(source)


@pytest.mark.parametrize("kind", ["auto", "binary", "labels", "rgb"])
def test_an_empty_mask_is_refused_unless_allowed(kind):
    for image in (Image.new("L", (8, 6)), indexed(np.zeros((6, 8)))):
        with pytest.raises(InputError, match=r"no foreground \(8x6"):
            load_mask(encode(image), kind=kind)
        mask = load_mask(encode(image), kind=kind, allow_empty=True)
        assert mask.classes == ()
        assert not mask.labels.any()


@pytest.mark.parametrize(("fill", "is_full"), [(1, True), (0, False)])
def test_only_a_full_mask_is_warned_of(caplog, fill, is_full):
    values = np.ones((6, 8), np.uint8)
    values[0, 0] = fill
    load_mask(values)
    assert ("covers 100 %" in caplog.text) is is_full
    assert all(record.levelno == logging.WARNING for record in caplog.records)


@pytest.mark.parametrize(
    "source",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 2), np.uint8),
        np.full((4, 4), 0.5),
        np.array([[np.nan, 1.0]]),
        Image.fromarray(np.full((4, 4), 0.5, np.float32)),
        np.zeros((0, 4), bool),
    ],
)
def test_what_is_no_mask_is_refused(source):
    with pytest.raises(InputError):
        load_mask(source)


def test_damaged_and_missing_files_are_refused_as_pictures_are(tmp_path):
    data = encode(disc())
    with pytest.raises(InputError, match="truncated image"):
        load_mask(data[: len(data) // 2])
    with pytest.raises(InputError, match="no such file"):
        load_mask(tmp_path / "gone.png")
    with pytest.raises(InputError, match="max_pixels"):
        load_mask(data, max_pixels=100)


def test_exif_turns_a_mask_as_it_turns_the_picture():
    exif = Image.Exif()
    exif[0x0112] = 6
    mask = load_mask(encode(disc(), exif=exif))
    np.testing.assert_array_equal(mask.labels, np.rot90(WHERE, -1))


# ---- several masks ----


def red_and_blue(has_red, has_blue):
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[0, 0] = (255, 0, 0) if has_red else 0
    pixels[1, 1] = (0, 0, 255) if has_blue else 0
    return Image.fromarray(pixels)


def test_a_colour_has_one_label_in_all_masks():
    both, only_red = load_masks([red_and_blue(True, True), red_and_blue(True, False)])
    assert both.labels[0, 0] == only_red.labels[0, 0] == 2
    assert both.labels[1, 1] == 1
    assert only_red.classes == (2,)
    assert only_red.colors == {2: (255, 0, 0)}


def test_a_value_is_a_label_everywhere_if_it_is_one_anywhere():
    masks = load_masks([np.array([[0, 7]]), np.array([[0, 7]]), np.array([[7, 9]])])
    assert [mask.classes for mask in masks] == [(7,), (7,), (7, 9)]
    assert load_mask(np.array([[0, 7]])).classes == (1,)


ONE, SEVEN, NINE = (np.array([[0, value]], np.uint8) for value in (1, 7, 9))
FULL = np.array([[0, 255]], np.uint8)
PARTS = np.array([[1, 2]], np.uint8)
RED = Image.fromarray(np.array([[[0, 0, 0], [255, 0, 0]]], np.uint8))
BLUE = Image.fromarray(np.array([[[0, 0, 0], [0, 0, 255]]], np.uint8))


@pytest.mark.parametrize(
    "sources",
    [[SEVEN, NINE], [ONE, SEVEN], [FULL, SEVEN], [FULL, PARTS], [RED, PARTS], [RED, BLUE, FULL]],
)
def test_contradictory_masks_are_refused_until_the_caller_decides(sources):
    for order in (sources, sources[::-1]):
        with pytest.raises(InputError, match="contradict"):
            load_masks(order)
    masks = load_masks(sources, kind="binary")
    assert all(mask.classes == (1,) for mask in masks)


@pytest.mark.parametrize(
    "sources",
    [[ONE, FULL], [FULL, WHERE], [SEVEN, SEVEN], [RED, FULL], [RED, RED], [indexed(ONE), FULL]],
)
def test_styles_may_differ_where_all_mean_class_one(sources):
    assert [mask.classes for mask in load_masks(sources)] == [(1,)] * len(sources)


def test_an_empty_mask_contradicts_nothing():
    empty = np.zeros((1, 2), np.uint8)
    masks = load_masks([PARTS, empty, FULL * 0], allow_empty=True)
    assert [mask.classes for mask in masks] == [(1, 2), (), ()]


def test_no_masks_are_no_error():
    assert load_masks([]) == []


# ---- sizes and palette ----


def test_a_mask_of_another_size_is_refused_with_both_sizes():
    image = np.zeros((480, 640, 3), np.uint8)
    check_same_size(image, np.zeros((480, 640), np.int32))
    with pytest.raises(
        InputError, match=r"m\.png: mask 640x479 .*image 640x480 \(i\.jpg\)"
    ) as error:
        check_same_size(
            image, np.zeros((479, 640), np.int32), image_name="i.jpg", mask_name="m.png"
        )
    assert "EXIF" not in str(error.value)


def test_swapped_sides_hint_at_exif():
    with pytest.raises(InputError, match=r"480x640 does not match image 640x480.*EXIF"):
        check_same_size(np.zeros((480, 640, 3), np.uint8), np.zeros((640, 480), np.int32))


def test_the_voc_palette_has_the_known_colours():
    known = {
        0: (0, 0, 0),
        1: (128, 0, 0),
        2: (0, 128, 0),
        3: (128, 128, 0),
        4: (0, 0, 128),
        7: (128, 128, 128),
        8: (64, 0, 0),
        15: (192, 128, 128),
        20: (0, 64, 128),
        255: (224, 224, 192),
    }
    for label, color in known.items():
        assert tuple(VOC_PALETTE[label]) == color
    assert len({tuple(color) for color in VOC_PALETTE}) == 256
