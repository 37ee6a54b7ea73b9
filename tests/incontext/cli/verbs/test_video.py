"""`seggpt video`: what is written for each frame, and what is refused before there is a model."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from incontext.cli import main
from tests.tiny_models import save_in_context

pytestmark = pytest.mark.usefixtures("loaded_once")
FRAMES = 5


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_in_context(tmp_path_factory.mktemp("weights")))


@pytest.fixture
def clip(tmp_path, monkeypatch):
    """A folder of frames, and a mask of the first one."""
    monkeypatch.chdir(tmp_path)
    Path("clip").mkdir()
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (20, 30, 3), np.uint8)
    for number in range(FRAMES):
        Image.fromarray(np.roll(picture, 2 * number, axis=1)).save(f"clip/{number:05d}.png")
    mask = np.zeros((20, 30), np.uint8)
    mask[4:12, 3:15], mask[14:18, 20:28] = 1, 2
    Image.fromarray(mask).save("mask.png")
    return mask


def rows(folder="out"):
    with Path(folder, "objects.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def masks(folder="out"):
    return {path.name: np.asarray(Image.open(path)) for path in sorted(Path(folder).glob("*.png"))}


def follow(*options, model):
    return main(["video", "clip", "--model", model, "--size", "112", *options])


def test_each_frame_has_a_mask_and_rows_in_the_table(clip, model, capsys):
    assert follow("--mark", "0", "mask.png", "-o", "out", model=model) == 0
    found = masks()
    assert list(found) == [f"{number:05d}.png" for number in range(FRAMES)]
    np.testing.assert_array_equal(found["00000.png"], clip)
    first = [row for row in rows() if row["frame"] == "0"]
    assert [(row["label"], row["area"]) for row in first] == [("1", "96"), ("2", "32")]
    assert [first[0][name] for name in ("x", "y", "left", "bottom")] == ["9.00", "8.00", "3", "12"]
    assert "5 frames written" in capsys.readouterr().err


def test_a_run_goes_on_where_it_stopped(clip, model):
    common = ("--mark", "0", "mask.png", "--memory", "0")
    assert follow(*common, "-o", "whole", model=model) == 0
    assert follow(*common, "-o", "out", "--end", "2", model=model) == 0
    assert follow(*common, "-o", "out", model=model) == 2  # files are there
    assert follow(*common, "-o", "out", "--resume", model=model) == 0
    assert rows() == rows("whole")
    for name, mask in masks("whole").items():
        np.testing.assert_array_equal(masks()[name], mask)


def test_a_correction_leaves_alone_what_came_before(clip, model):
    first = ("-e", "clip/00000.png", "mask.png")
    assert follow(*first, "-o", "out", model=model) == 0
    before = rows()
    Image.fromarray(np.flipud(clip)).save("mended.png")
    later = ("--mark", "3", "mended.png", "--start", "3", "--overwrite")
    assert follow(*first, *later, "-o", "out", model=model) == 0
    np.testing.assert_array_equal(masks()["00003.png"], np.flipud(clip))
    assert [row for row in rows() if int(row["frame"]) < 3] == [
        row for row in before if int(row["frame"]) < 3
    ]
    assert {row["frame"] for row in rows()} >= {"3"}


def test_from_a_frame_in_the_middle_it_goes_both_ways(clip, model):
    assert follow("--mark", "2", "mask.png", "-o", "out", "--stride", "2", model=model) == 0
    assert list(masks()) == ["00000.png", "00002.png", "00004.png"]
    assert [row["frame"] for row in rows() if row["label"] == "1"][:1] == ["2"]


def test_the_overlays_become_a_film(clip, model):
    av = pytest.importorskip("av")
    assert follow("--mark", "0", "mask.png", "-o", "out", "--format", "mp4", model=model) == 0
    assert len(masks()) == FRAMES
    with av.open("out/overlay.mp4") as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [picture.shape for picture in pictures] == [(20, 30, 3)] * FRAMES


def test_an_end_after_the_last_frame_is_the_last_frame(clip, model):
    asked = ("--mark", "0", "mask.png", "-o", "out", "--end", "99", "--stride", "2")
    assert follow(*asked, model=model) == 0
    assert list(masks()) == ["00000.png", "00002.png", "00004.png"]
    assert follow(*asked, "--resume", model=model) == 0


def test_an_example_of_another_picture_is_enough(clip, model):
    assert follow("-e", "clip/00003.png", "mask.png", "-o", "out", "--end", "1", model=model) == 0
    assert list(masks()) == ["00000.png", "00001.png"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "say what to follow"),
        (("--mark", "9", "mask.png"), "--mark 9: the video has no such frame; it has 5, from 0"),
        (("--mark", "x", "mask.png"), "--mark x mask.png: the frame is a whole number"),
        (("--mark", "0", "absent.png"), "no such file: absent.png"),
        (("--mark", "1", "mask.png", "--stride", "2"), "leaves that frame out"),
        (("--mark", "0", "mask.png", "--start", "3", "--end", "2"), "--end 2 is before --start 3"),
        (("--mark", "0", "mask.png", "--start", "3"), "--mark 0: not between --start and --end"),
        (("--mark", "7", "mask.png", "--start", "7"), "--start 7: the video has 5 frames, from 0"),
        (("--mark", "0", "mask.png", "--mark", "0", "mask.png"), "--mark 0: given twice"),
        (("--mark", "0", "mask.png", "-o", "clip", "--overwrite"), "clip: holds the frames"),
        (("--mark", "0", "mask.png", "-o", "clip/", "--resume"), "clip/: holds the frames"),
    ],
)
@pytest.mark.usefixtures("clip")
def test_what_makes_no_sense_is_refused_in_one_line(options, message, capsys):
    assert follow("-o", "out", *options, model="absent.safetensors") == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert message in said[0]
    assert not Path("out").exists()


def test_a_mark_of_another_size_is_refused(clip, model, capsys):
    Image.new("L", (8, 8), 1).save("small.png")
    assert follow("--mark", "0", "small.png", "-o", "out", model=model) != 0
    assert "small.png" in capsys.readouterr().err
