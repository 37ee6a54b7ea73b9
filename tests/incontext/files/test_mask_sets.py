"""Whole mask files, and sets of them: what people have, and what it must be read as."""

import io
import logging
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from incontext.files.mask_shapes import VOC_PALETTE
from incontext.files.masks import load_mask, load_masks
from seggpt.errors import InputError

from .scenes import COLORS, LABELS, SIZE, colored, draw_cells, encode, indexed, levels, tiff

VOC = [(int(r), int(g), int(b)) for r, g, b in VOC_PALETTE]


def marked(mask):
    return (mask.labels != 0) & (mask.labels != mask.ignored)


def same_parts(mask, truth=LABELS):
    """Whether a mask has the parts of another, whatever the labels are called."""
    pairs = set(zip(mask.labels.ravel().tolist(), truth.ravel().tolist(), strict=True))
    return len(pairs) == len(np.unique(truth)) and (0, 0) in pairs


def warnings(caplog):
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


# ---- 255 beside other values ----


def bordered(width, *, classes=(1, 15)):
    """Return discs with a border of 255, as VOC has them."""
    image = Image.new("L", SIZE)
    pen = ImageDraw.Draw(image)
    for place, value in enumerate(classes):
        box = (15 + 70 * place, 20, 65 + 70 * place, 75)
        pen.ellipse(box, fill=value, outline=255, width=width)
    return np.asarray(image)


@pytest.mark.parametrize(
    "values", [(128, 128, 255), (85, 170, 255), (64, 128, 255), (100, 200, 255), (40, 40, 255)]
)
@pytest.mark.parametrize("kind", ["auto", "labels"])
def test_255_among_grey_levels_is_a_class_and_said(values, kind, caplog):
    mask = load_mask(encode(levels(*values)), kind=kind)
    assert mask.classes == tuple(sorted(set(values)))
    np.testing.assert_array_equal(mask.labels, levels(*values))
    [line] = warnings(caplog)
    assert "255 is a label" in line
    assert "ignore=255" in line


@pytest.mark.parametrize(("bits", "values"), [(4, (1, 2, 15)), (2, (1, 2, 3)), (4, (3, 7, 12))])
def test_files_of_few_bits_have_the_labels_that_were_written(bits, values):
    data = png_of(levels(*values), bits)
    assert Image.open(io.BytesIO(data)).mode == "L"
    mask = load_mask(data)
    assert mask.classes == values
    np.testing.assert_array_equal(mask.labels, levels(*values))


def png_of(values, bits):
    """Write a grey PNG of 1, 2 or 4 bits, which Pillow cannot."""

    def chunk(kind, body):
        crc = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + crc

    height, width = values.shape
    unpacked = np.unpackbits(values[..., None], axis=2)[..., 8 - bits :]
    rows = np.packbits(unpacked.reshape(height, -1), axis=1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("width", [1, 3, 5])
@pytest.mark.parametrize("kind", ["auto", "labels", "binary"])
def test_a_thin_border_of_255_around_small_labels_is_ignored_and_said(width, kind, caplog):
    values = bordered(width)
    for image in (Image.fromarray(values), indexed(values, [*VOC[:255], (9, 9, 9)])):
        caplog.clear()
        mask = load_mask(encode(image), kind=kind)
        assert mask.classes == ((1,) if kind == "binary" else (1, 15))
        assert ((mask.labels == mask.ignored) == (values == 255)).all()
        assert (marked(mask) == ((values > 0) & (values < 255))).all()
        [line] = warnings(caplog)
        assert "255 is ignored" in line


@pytest.mark.parametrize("values", [(1, 2, 255), (1, 255, 255), (7, 20, 255)])
def test_a_solid_255_beside_small_labels_has_to_be_told(values):
    data = encode(levels(*values))
    with pytest.raises(InputError, match=r"pass ignore='none' or ignore=255"):
        load_mask(data)
    every = load_mask(data, ignore="none")
    assert every.classes == tuple(sorted(set(values)))
    told = load_mask(data, ignore=255)
    assert told.classes == tuple(sorted(set(values) - {255}))
    assert told.ignored == 255
    assert load_mask(data, kind="binary").labels.sum() == (LABELS > 0).sum()


def test_what_one_mask_of_a_set_tells_of_255_holds_for_all(caplog):
    masks = load_masks([bordered(3), levels(1, 15, 255)])
    assert [mask.classes for mask in masks] == [(1, 15), (1, 15)]
    assert [mask.ignored for mask in masks] == [255, 255]
    assert len(warnings(caplog)) == 1  # for both


@pytest.mark.parametrize(
    ("ignore", "classes"), [(2, (1, 3)), (3, (1, 2)), ("none", (1, 2, 3)), ("auto", (1, 2, 3))]
)
def test_any_value_can_be_ignored(ignore, classes):
    mask = load_mask(encode(LABELS), ignore=ignore)
    assert mask.classes == classes
    assert ((mask.labels == mask.ignored) == (ignore == LABELS)).all()


def test_a_colour_can_be_ignored_and_vocs_is_by_itself(caplog):
    mask = load_mask(encode(colored()), ignore="#008000")
    assert set(mask.colors.values()) == {COLORS[1], COLORS[3]}
    assert ((mask.labels == mask.ignored) == (LABELS == 2)).all()
    voc = Image.fromarray(VOC_PALETTE[bordered(3)])
    mask = load_mask(encode(voc))
    assert len(mask.classes) == 2
    assert "#e0e0c0 is ignored" in warnings(caplog)[-1]


@pytest.mark.parametrize("ignore", ["255", "blue", "#12", True])
def test_nonsense_to_ignore_is_named(ignore):
    with pytest.raises(InputError, match=r"ignore .*is no label value") as error:
        load_mask(encode(LABELS), ignore=ignore)
    assert repr(ignore) in str(error.value)


def test_a_number_to_ignore_in_a_coloured_mask_is_refused_with_the_mend():
    with pytest.raises(InputError, match="pass ignore='#rrggbb'"):
        load_mask(encode(colored()), ignore=255)


# ---- palettes ----


def quantized(**options):
    return encode(colored().quantize(4), **options)


def white_first():
    return encode(indexed((LABELS == 0).astype(np.uint8), [(255, 255, 255), (0, 0, 0)]))


def shuffled(order, file_format="PNG"):
    """Write the labels as indices in another order, in the colours that they have."""
    where = {label: index for index, label in enumerate(order)}
    values = np.vectorize(where.__getitem__)(LABELS)
    palette = [COLORS.get(label, (0, 0, 0)) for label in order]
    return encode(indexed(values, palette), file_format)


@pytest.mark.parametrize(
    "data",
    [quantized(), shuffled((3, 2, 1, 0)), shuffled((2, 0, 1, 3)), shuffled((1, 2, 3, 0), "GIF")],
)
@pytest.mark.parametrize("kind", ["auto", "binary"])
def test_a_palette_that_does_not_begin_with_black_is_read_as_rgb(data, kind, caplog):
    mask, known = load_mask(data, kind=kind), load_mask(encode(colored()), kind=kind)
    np.testing.assert_array_equal(mask.labels, known.labels)
    assert mask.classes == known.classes
    [line] = warnings(caplog)
    assert "not black: read by colour" in line


def test_a_palette_with_white_first_marks_what_is_white():
    mask = load_mask(white_first())
    np.testing.assert_array_equal(mask.labels, LABELS > 0)


def test_a_palette_without_black_is_refused_and_its_indices_are_there_when_asked_for():
    data = encode(indexed(LABELS, [(255, 255, 255), *COLORS.values()]))
    with pytest.raises(InputError, match=r"index 0 is #ffffff.*kind='labels'"):
        load_mask(data)
    np.testing.assert_array_equal(load_mask(data, kind="labels").labels, LABELS)


@pytest.mark.parametrize("shades", [((128, 0, 0), (0, 128, 0), (128, 128, 0)), ((90, 40, 40),) * 3])
def test_dithered_colours_are_refused_with_the_mend(shades):
    table = np.array([(0, 0, 0), *shades], np.uint8)
    data = encode(Image.fromarray(table[LABELS]).convert("P"))  # to web colours
    with pytest.raises(InputError, match=r"dithered.*kind='binary'"):
        load_mask(data)
    assert ((load_mask(data, kind="binary").labels > 0) == (LABELS > 0)).mean() > 0.99


def test_a_transparent_index_0_is_the_background_whatever_its_colour():
    image = indexed(LABELS, [(255, 0, 255), *COLORS.values()])
    np.testing.assert_array_equal(load_mask(encode(image, transparency=0)).labels, LABELS)


@pytest.mark.parametrize("other", [(0, 2, 1, 3), (0, 3, 1, 2), (3, 2, 1, 0)])
def test_palettes_that_disagree_are_matched_by_colour(other, caplog):
    first, second = load_masks([shuffled((0, 1, 2, 3)), shuffled(other)])
    np.testing.assert_array_equal(first.labels, second.labels)
    assert first.colors == second.colors
    assert any("read by colour" in line for line in warnings(caplog))


def test_palettes_that_agree_keep_their_indices(caplog):
    masks = load_masks(
        [shuffled((0, 1, 2, 3)), encode(indexed(LABELS % 2, [(0, 0, 0), COLORS[1]]))]
    )
    assert [mask.classes for mask in masks] == [(1, 2, 3), (1,)]
    assert not warnings(caplog)


def test_a_palette_beside_rgb_is_matched_by_colour():
    first, second = load_masks([shuffled((0, 2, 1, 3)), encode(colored())])
    np.testing.assert_array_equal(first.labels, second.labels)


# ---- instances ----


@pytest.mark.parametrize("count", [200, 255, 374])
def test_binary_of_instance_ids_is_what_is_not_0(count):
    ids = draw_cells(count)
    values = ids.astype(np.uint8) if count < 256 else ids
    for source in (values, encode(values), values.astype(np.int64)):
        mask = load_mask(source, kind="binary")
        assert mask.classes == (1,)
        np.testing.assert_array_equal(mask.labels, ids > 0)


def test_binary_of_grey_levels_is_what_is_not_0():
    np.testing.assert_array_equal(
        load_mask(encode(levels(60, 120, 240)), kind="binary").labels, LABELS > 0
    )


# ---- lossy and soft ----


def soft(image):
    return image.filter(ImageFilter.GaussianBlur(0.8))


def shrunk(image):
    large = image.resize((4 * SIZE[0], 4 * SIZE[1]), Image.Resampling.NEAREST)
    return large.resize(SIZE, Image.Resampling.LANCZOS)


@pytest.mark.parametrize(
    "data",
    [
        encode(colored(), "JPEG", quality=50),
        encode(colored(), "JPEG", quality=75),
        encode(colored(), "JPEG", quality=92),
        encode(colored(), "WEBP", quality=80),
        encode(soft(colored())),
        encode(shrunk(colored())),
    ],
)
@pytest.mark.parametrize("kind", ["auto", "rgb", "binary"])
def test_dirty_colours_become_those_that_were_drawn(data, kind, caplog):
    mask = load_mask(data, kind=kind)
    truth = load_mask(encode(colored()), kind=kind)
    assert mask.classes == truth.classes
    here = truth.labels > 0
    assert (mask.labels == truth.labels)[here].mean() >= 0.97
    assert (mask.labels == truth.labels).mean() >= 0.99
    [line] = warnings(caplog)
    assert "colours (lossy or soft edges) are taken for the 4 of flat parts" in line


@pytest.mark.parametrize("kind", ["auto", "labels", "binary"])
@pytest.mark.parametrize("values", [(85, 170, 255), (60, 120, 180)])
def test_dirty_grey_levels_become_those_that_were_drawn(kind, values):
    mask = load_mask(encode(levels(*values), "JPEG", quality=80), kind=kind)
    assert mask.classes == ((1,) if kind == "binary" else values)
    right = marked(mask) == (LABELS > 0) if kind == "binary" else mask.labels == levels(*values)
    assert right[LABELS > 0].mean() >= 0.97


def test_a_colour_is_one_in_lossy_and_clean_masks():
    clean, lossy = load_masks([encode(colored()), encode(colored(), "JPEG", quality=75)])
    assert (clean.labels == lossy.labels).mean() > 0.99


@pytest.mark.parametrize("seed", [0, 1])
def test_a_photograph_has_no_few_colours(seed):
    noise = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    photo = Image.fromarray(noise).resize(SIZE, Image.Resampling.BICUBIC)
    for image in (photo, photo.convert("L")):
        for options in (("PNG", {}), ("JPEG", {"quality": 90})):
            with pytest.raises(InputError, match=r"photograph|lossy mask|soft mask"):
                load_mask(encode(image, options[0], **options[1]))


# ---- TIFFs of two readings ----


@pytest.mark.parametrize("marks", [LABELS > 0, LABELS == 2, LABELS != 2])
def test_bools_by_tifffile_are_read_as_they_were_written(marks):
    for options in ({}, {"compression": "zlib"}, {"bigtiff": True}):
        np.testing.assert_array_equal(load_mask(tiff(marks, **options)).labels, marks)


def test_labels_that_are_stored_with_white_as_0_are_numbers(caplog):
    for dtype in (np.uint8, np.uint16):
        mask = load_mask(tiff(LABELS.astype(dtype), photometric="miniswhite"))
        np.testing.assert_array_equal(mask.labels, LABELS)
    assert "MinIsWhite" in warnings(caplog)[-1]


def test_black_and_white_of_other_programs_that_is_stored_inverted_is_refused():
    for source in (LABELS > 0, (LABELS > 0).astype(np.uint8) * 255):
        data = tiff(source, photometric="miniswhite", software="scanner")
        with pytest.raises(InputError, match=r"either the stored numbers mark .*save it as PNG"):
            load_mask(data)


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, np.float64])
def test_labels_of_64_bits_are_read(dtype):
    np.testing.assert_array_equal(load_mask(tiff(LABELS.astype(dtype))).labels, LABELS)


def test_float_colour_is_no_mask():
    with pytest.raises(InputError, match="3 bands of float32 are no mask"):
        load_mask(tiff(np.zeros((20, 30, 3), np.float32), photometric="rgb"))
