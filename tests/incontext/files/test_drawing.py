import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from incontext.files.drawing import cut_out, draw_overlay, make_palette, save_png
from incontext.files.masks import VOC_PALETTE
from seggpt.errors import InputError

SHAPE = (9, 11)
IMAGES = hnp.arrays(np.uint8, (*SHAPE, 3))
LABEL_MAPS = hnp.arrays(np.int32, SHAPE, elements=st.sampled_from([0, 0, 1, 2, 255]))


def square(label=1, size=40):
    label_map = np.zeros((size, size), np.int32)
    label_map[10:30, 10:30] = label
    return label_map


def test_the_inside_is_tinted_and_the_outside_is_untouched():
    image = np.full((40, 40, 3), 100, np.uint8)
    overlay = draw_overlay(image, square(), opacity=0.25)
    expected = 0.75 * 100 + 0.25 * VOC_PALETTE[1]
    np.testing.assert_allclose(
        overlay[12:28, 12:28], np.broadcast_to(expected, (16, 16, 3)), atol=0.5
    )
    np.testing.assert_array_equal(overlay[:8], image[:8])


@pytest.mark.parametrize("grey", [0, 100, 255])
def test_the_edge_differs_from_both_sides_on_any_picture(grey):
    overlay = draw_overlay(np.full((40, 40, 3), grey, np.uint8), square()).astype(int)
    bright, dark = overlay[20, 10], overlay[20, 9]
    assert abs(bright - overlay[20, 20]).max() >= 40
    assert abs(bright - dark).max() >= 80
    assert dark.max() <= grey // 3


@pytest.mark.parametrize(("size", "thickness"), [(40, 1), (1200, 2), (2400, 4)])
def test_the_edge_grows_with_the_picture(size, thickness):
    label_map = np.zeros((size, size), np.int32)
    label_map[:, size // 2 :] = 1
    overlay = draw_overlay(np.full((size, size, 3), 90, np.uint8), label_map)
    assert (overlay[5, : size // 2] != 90).any(axis=1).sum() == thickness


@given(IMAGES, LABEL_MAPS)
def test_no_label_no_change_and_the_picture_is_never_written_to(image, label_map):
    before = image.copy()
    np.testing.assert_array_equal(draw_overlay(image, np.zeros(SHAPE, np.int32)), image)
    draw_overlay(image, label_map)
    np.testing.assert_array_equal(image, before)


@given(IMAGES, LABEL_MAPS)
def test_a_cutout_keeps_the_inside_and_hides_nothing_outside(image, label_map):
    cutout = cut_out(image, label_map)
    inside = label_map != 0
    np.testing.assert_array_equal(cutout[inside, :3], image[inside])
    np.testing.assert_array_equal(cutout[..., 3], inside * 255)
    assert not cutout[~inside].any()


def test_a_palette_changes_only_the_named_labels():
    palette = make_palette({3: (9, 8, 7), 300: (1, 1, 1)})
    assert tuple(palette[3]) == (9, 8, 7)
    changed = (palette != VOC_PALETTE).any(axis=1)
    assert list(np.flatnonzero(changed)) == [3]


def test_saving_makes_folders_replaces_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "a/b/c.png"
    for color in ("red", "lime"):
        save_png(path, Image.new("RGB", (4, 4), color))
    with Image.open(path) as image:
        assert image.getpixel((0, 0)) == (0, 255, 0)
    assert os.listdir(path.parent) == ["c.png"]


def test_a_failed_write_leaves_the_old_file_and_no_part_of_a_new_one(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    save_png(path, Image.new("L", (4, 4), 7))
    before = path.read_bytes()

    def run_out_of_space(image, part, *args, **options):
        part.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", run_out_of_space)
    with pytest.raises(InputError, match=r"cannot write .*a\.png: No space left on device"):
        save_png(path, Image.new("L", (4, 4), 9))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.png"]


def test_a_folder_that_cannot_be_made_is_an_input_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"):
        save_png(tmp_path / "file/a.png", Image.new("L", (4, 4)))


def test_the_longest_name_of_a_file_system_can_be_written(tmp_path):
    path = tmp_path / ("x" * 251 + ".png")
    save_png(path, Image.new("L", (4, 4)))
    assert os.listdir(tmp_path) == [path.name]


def test_metadata_of_the_picture_is_not_written(tmp_path):
    image = Image.new("RGB", (4, 4))
    exif = image.getexif()
    exif[0x010F] = "Camera"
    image.info.update(exif=exif.tobytes(), comment=b"at home")
    save_png(tmp_path / "a.png", Image.fromarray(np.asarray(image)))
    with Image.open(tmp_path / "a.png") as saved:
        assert saved.info == {}
