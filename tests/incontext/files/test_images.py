import inspect
import io
import logging
import os
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from incontext.files.images import IMAGE_SUFFIXES, check_unique_outputs, find_images, load_image
from seggpt.errors import InputError, PromptError


def encode(image, file_format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


# ---- pixels ----

RGB = hnp.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12), st.just(3)))


@given(RGB)
def test_rgb_is_returned_unchanged_from_array_and_png(array):
    np.testing.assert_array_equal(load_image(array), array)
    np.testing.assert_array_equal(load_image(encode(Image.fromarray(array))), array)


def test_grey_repeats_its_channel():
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    expected = np.repeat(grey[..., None], 3, axis=2)
    for source in (grey, grey[..., None], Image.fromarray(grey), encode(Image.fromarray(grey))):
        np.testing.assert_array_equal(load_image(source), expected)


def test_one_bit_pictures_become_black_and_white():
    bits = np.array([[True, False], [False, True]])
    loaded = load_image(encode(Image.fromarray(bits)))
    np.testing.assert_array_equal(loaded, np.repeat(bits[..., None], 3, axis=2) * 255)


def test_palette_pictures_give_their_colours():
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    loaded = load_image(encode(image))
    np.testing.assert_array_equal(
        loaded, [[[10, 20, 30], [40, 50, 60]], [[70, 80, 90], [40, 50, 60]]]
    )


def hidden_red():
    """One opaque blue pixel, one half, one fully transparent pixel that hides red."""
    return np.array([[[0, 0, 255, 255], [0, 0, 255, 128], [255, 0, 0, 0]]], np.uint8)


@pytest.mark.parametrize(
    ("alpha", "expected"),
    [
        ("white", [[0, 0, 255], [127, 127, 255], [255, 255, 255]]),
        ("black", [[0, 0, 255], [0, 0, 128], [0, 0, 0]]),
        ("ignore", [[0, 0, 255], [0, 0, 255], [255, 0, 0]]),
    ],
)
def test_transparency_shows_the_chosen_backdrop(alpha, expected):
    for source in (hidden_red(), Image.fromarray(hidden_red())):
        np.testing.assert_array_equal(load_image(source, alpha=alpha), [expected])


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "LA"])
def test_transparency_of_every_mode_is_composited_on_white(mode):
    image = Image.new(mode, (2, 1))
    transparent = {"P": bytes([0, 255]), "L": 0, "RGB": (0, 0, 0), "LA": None}[mode]
    if mode == "P":
        image.putpalette([255, 0, 0, 0, 255, 0])
    data = encode(image) if mode == "LA" else encode(image, transparency=transparent)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(load_image(data), np.full((1, 2, 3), 255))


def test_cmyk_and_lab_are_converted():
    red = Image.new("RGB", (8, 8), (200, 30, 30))
    loaded = load_image(encode(red.convert("CMYK"), "JPEG", quality=100, subsampling=0))
    np.testing.assert_allclose(loaded, np.broadcast_to([200, 30, 30], (8, 8, 3)), atol=3)
    lab = load_image(encode(Image.new("LAB", (8, 8), (255, 128, 128)), "TIFF"))
    assert lab.shape == (8, 8, 3)


def deep_ramp(dtype, high):
    return np.linspace(0, high, 64 * 64).reshape(64, 64).astype(dtype)


@pytest.mark.parametrize(
    ("dtype", "high", "file_format"),
    [
        (np.uint16, 65535, "PNG"),
        (np.uint16, 4095, "PNG"),
        (np.uint16, 4095, "TIFF"),
        (np.int32, 1_000_000, "TIFF"),
        (np.float32, 1.0, "TIFF"),
        (np.float32, 1e30, "TIFF"),
    ],
)
def test_deep_pictures_keep_their_contrast(dtype, high, file_format, caplog):
    data = encode(Image.fromarray(deep_ramp(dtype, high)), file_format)
    with caplog.at_level(logging.INFO):
        loaded = load_image(data)
    expected = deep_ramp(np.float64, 255)
    np.testing.assert_allclose(loaded[..., 0], expected, atol=2.0)  # the cut of 0.5 % at both ends
    assert (loaded == loaded[..., :1]).all()
    assert "scaled to 8 bits" in caplog.text


def test_deep_pictures_keep_the_order_of_their_values():
    values = np.random.default_rng(0).integers(0, 65536, (40, 50)).astype(np.uint16)
    loaded = load_image(encode(Image.fromarray(values)))[..., 0]
    order = np.argsort(values, axis=None)
    assert (np.diff(loaded.ravel()[order].astype(int)) >= 0).all()


def test_a_rare_bright_spot_in_a_flat_deep_picture_is_seen():
    values = np.zeros((100, 100), np.uint16)
    values[3, 4] = 60000
    loaded = load_image(encode(Image.fromarray(values)))[..., 0]
    assert loaded[3, 4] == 255
    assert loaded.sum() == 255


def test_nan_and_infinity_in_a_float_picture_do_not_spoil_the_rest():
    values = deep_ramp(np.float32, 1.0)
    values[0, 0], values[0, 1], values[0, 2] = np.nan, np.inf, -np.inf
    loaded = load_image(encode(Image.fromarray(values), "TIFF"))[..., 0]
    assert loaded[0, 1] == 255
    assert loaded[0, 0] == loaded[0, 2] == 0
    np.testing.assert_allclose(loaded[1:], deep_ramp(np.float64, 255)[1:], atol=2.0)
    with pytest.raises(InputError, match="no finite"):
        load_image(encode(Image.fromarray(np.full((4, 4), np.nan, np.float32)), "TIFF"))


def test_a_flat_deep_picture_is_black():
    assert not load_image(Image.fromarray(np.full((4, 4), 777, np.uint16))).any()


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((4, 4, 3), np.float32), "must be uint8"),
        (np.zeros((4, 4), np.uint16), "must be uint8"),
        (np.zeros((3, 8, 9), np.uint8), "channels come first"),
        (np.zeros((8, 9, 5), np.uint8), "must be"),
        (np.zeros((2, 8, 9, 3), np.uint8), "must be"),
        (np.zeros((0, 9, 3), np.uint8), "no pixels"),
        (np.zeros((1, 200, 3), np.uint8), "too thin"),
    ],
)
def test_arrays_that_are_no_pictures_are_refused(array, words):
    with pytest.raises(InputError, match=words) as error:
        load_image(array)
    assert str(array.dtype) in str(error.value)


def test_the_pixel_limit_holds_for_arrays_too():
    with pytest.raises(InputError, match="max_pixels"):
        load_image(np.zeros((10, 10, 3), np.uint8), max_pixels=99)


@pytest.mark.parametrize(
    "option",
    [
        {"alpha": "green"},
        {"max_pixels": 0},
        {"max_pixels": "5M"},
        {"bands": (0, 1, 2)},
        {"bands": (1, 2)},
        {"bands": 1},
        {"bands": "rgb"},
    ],
)
def test_options_that_make_no_sense_are_named(option):
    ((name, value),) = option.items()
    with pytest.raises(PromptError, match=re.escape(f"{name} {value!r} is")):
        inspect.unwrap(load_image)(np.zeros((4, 4, 3), np.uint8), **option)


def test_a_file_that_was_closed_is_named(tmp_path):
    file = (tmp_path / "a.png").open("wb")
    file.close()
    with pytest.raises(InputError, match=r"a\.png: cannot read"):
        load_image(file)


def test_the_result_of_a_file_may_be_written_to():
    loaded = load_image(encode(Image.new("RGB", (4, 4))))
    loaded[0, 0] = 7
    assert loaded[0, 0, 0] == 7


# ---- targets ----


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Pictures, other files, hidden files, and a folder in a folder."""
    for name in ("shot10.png", "shot2.JPG", "notes.txt", ".hidden.png", "sub/b.png", "sub/c.tif"):
        path = tmp_path / "shots" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "shots/.git").mkdir()
    (tmp_path / "shots/.git/d.png").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stems(found):
    return [stem.as_posix() for _, stem in found]


def test_a_folder_gives_its_tree_in_natural_order(tree):
    found = find_images([tree / "shots"])
    assert stems(found) == ["shot2", "shot10", "sub/b", "sub/c"]
    assert all(file.is_file() for file, _ in found)
    assert stems(find_images([tree / "shots"], recursive=False)) == ["shot2", "shot10"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("shots/*.png", ["shot10"]),
        ("shots/*", ["shot2", "shot10"]),
        ("shots/**", ["shot2", "shot10", "sub/b", "sub/c"]),
        ("shots/**/*.png", ["shot10", "sub/b"]),
        ("**/b.*", ["shots/sub/b"]),
        ("sh*/sub/?.tif", ["shots/sub/c"]),
        ("shots/*/../*.png", ["shot10"]),
    ],
)
def test_a_pattern_gives_what_it_matches(tree, pattern, expected):
    assert stems(find_images([pattern])) == expected
    assert stems(find_images([str(tree / pattern)])) == expected


def test_a_file_is_taken_whatever_its_suffix(tree):
    assert find_images(["shots/notes.txt"]) == [(Path("shots/notes.txt"), Path("notes"))]
    assert stems(find_images(["shots/.hidden.png"])) == [".hidden"]


def test_a_name_that_exists_is_not_read_as_a_pattern(tree):
    (tree / "a[1].png").touch()
    (tree / "a1.png").touch()
    assert find_images(["a[1].png"]) == [(Path("a[1].png"), Path("a[1]"))]


@pytest.mark.parametrize("pattern", ["run [1]/*.png", "run [1]/**/*.png", "run [1]/[a]*.png"])
def test_brackets_in_a_folder_that_exists_are_no_wildcards(tmp_path, monkeypatch, pattern):
    monkeypatch.chdir(tmp_path)
    Path("run [1]").mkdir()
    Path("run [1]/a.png").touch()
    for start in ("", f"{tmp_path}/"):
        assert find_images([start + pattern]) == [(Path(f"{start}run [1]/a.png"), Path("a"))]


def test_targets_keep_their_order_and_repeats_are_dropped(tree):
    found = find_images(["shots/sub", "shots/shot10.png", "shots/*.png", "shots/sub/c.tif"])
    assert stems(found) == ["b", "c", "shot10"]


@pytest.mark.parametrize("target", ["gone.png", "", "a\0.png", "gone/"])
def test_a_missing_target_is_an_error(tree, target):
    with pytest.raises(InputError, match="no such file"):
        find_images(["shots", target])


@pytest.mark.parametrize("target", ["empty", "empty/**", "shots/*.webp"])
def test_a_target_without_pictures_is_an_error_that_lists_suffixes(tree, target):
    (tree / "empty").mkdir()
    with pytest.raises(InputError, match=r"no images .*\.png \.jpg"):
        find_images([target])


def test_no_target_is_an_error():
    with pytest.raises(InputError, match="no target"):
        find_images([])


@pytest.mark.parametrize("target", ["shots", "shots/**", "shots/**/*.png"])
def test_circular_links_end(tree, target):
    # Two loops in one folder: a walk that follows links blindly takes 2^40 steps.
    for name in ("loop1", "loop2"):
        (tree / "shots/sub" / name).symlink_to(tree / "shots/sub", target_is_directory=True)
    (tree / "shots/up").symlink_to(tree, target_is_directory=True)
    (tree / "outside.png").touch()
    found = stems(find_images([target]))
    assert "sub/b" in found
    assert set(found) <= {"shot2", "shot10", "sub/b", "sub/c"}


def test_a_linked_folder_is_entered_once_and_real_folders_come_first(tree):
    (tree / "elsewhere").mkdir()
    (tree / "elsewhere/e.png").touch()
    for name in ("a_link", "z_link"):
        (tree / "shots" / name).symlink_to(tree / "elsewhere", target_is_directory=True)
    (tree / "shots/a_sub").symlink_to(tree / "shots/sub", target_is_directory=True)
    assert stems(find_images(["shots"])) == ["a_link/e", "shot2", "shot10", "sub/b", "sub/c"]


def test_what_cannot_be_read_is_listed_so_that_reading_can_report_it(tree):
    (tree / "shots/dangling.png").symlink_to(tree / "gone.png")
    found = dict(zip(stems(find_images(["shots"])), find_images(["shots"]), strict=True))
    with pytest.raises(InputError, match="dangling link"):
        load_image(found["dangling"][0])


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_strange_names_are_found(tmp_path):
    names = [b"-rf.png", b"new\nline.png", b"caf\xe9.png", b"x" * 251 + b".png", b"two..dots.png"]
    for name in names:
        (tmp_path / os.fsdecode(name)).touch()
    found = find_images([tmp_path])
    assert {os.fsencode(file.name) for file, _ in found} == set(names)
    assert all(f"{stem}.png" == file.name for file, stem in found)


NAME_PARTS = st.sampled_from(["a", "B", "..", ".", "7", "é"])


@given(st.lists(NAME_PARTS, min_size=1, max_size=4).map("".join), st.sampled_from(IMAGE_SUFFIXES))
def test_a_stem_stays_below_the_output_folder(tmp_path_factory, name, suffix):
    folder = tmp_path_factory.getbasetemp() / "stems"
    folder.mkdir(exist_ok=True)
    file = folder / (name + suffix)
    file.touch()
    ((_, stem),) = find_images([file])
    assert stem.parts
    assert ".." not in stem.parts
    assert not stem.is_absolute()


# ---- outputs ----


def test_two_pictures_for_one_output_are_refused_by_name(tree):
    (tree / "shots/shot2.png").touch()
    with pytest.raises(InputError, match=r"shot2\.JPG .*shot2\.png .*both write shot2\.png"):
        check_unique_outputs(find_images(["shots"]))
    (tree / "other").mkdir()
    (tree / "other/b.png").touch()
    with pytest.raises(InputError, match="both write"):
        check_unique_outputs(find_images(["shots/sub", "other"]))


def test_different_outputs_are_accepted(tree):
    check_unique_outputs(find_images(["shots"]))


def test_an_output_of_one_format_may_not_be_that_of_another():
    found = [(Path("a.jpg"), Path("a")), (Path("a.overlay.jpg"), Path("a.overlay"))]
    check_unique_outputs(found)
    with pytest.raises(InputError, match=r"both write a\.overlay\.png"):
        check_unique_outputs(found, suffixes=[".png", ".overlay.png"])


@pytest.mark.parametrize(("platform", "is_clash"), [("linux", False), ("darwin", True)])
def test_case_counts_only_where_the_file_system_keeps_it(monkeypatch, platform, is_clash):
    monkeypatch.setattr("sys.platform", platform)
    found = [(Path("x/A.png"), Path("A")), (Path("y/a.png"), Path("a"))]
    if is_clash:
        with pytest.raises(InputError, match="both write"):
            check_unique_outputs(found)
    else:
        check_unique_outputs(found)
