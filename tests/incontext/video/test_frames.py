"""Frames of folders, pages and video files, forwards and backwards."""

import random
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from PIL import Image

from incontext.video.frames import open_video
from seggpt.errors import InputError
from tests.damage import SEEDS, change_bytes, refusal

COLORS = [(40 * n, 20, 200 - 30 * n) for n in range(6)]


def folder(place: Path) -> Path:
    place.mkdir()
    for number, color in enumerate(COLORS):
        Image.new("RGB", (32, 24), color).save(place / f"shot{number + 7}.png")
    return place


def pages(place: Path) -> Path:
    images = [Image.new("RGB", (32, 24), color) for color in COLORS]
    images[0].save(place, save_all=True, append_images=images[1:])
    return place


def film(place: Path, count: int = len(COLORS)) -> Path:
    av = pytest.importorskip("av")
    with av.open(str(place), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height = 32, 24
        for color in COLORS[:count]:
            frame = av.VideoFrame.from_image(Image.new("RGB", (32, 24), color))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return place


MAKERS = {"frames": folder, "pages.tif": pages, "film.mp4": film}


@pytest.mark.parametrize("name", MAKERS)
def test_frames_come_in_order_and_by_their_numbers(tmp_path, name):
    video = open_video(MAKERS[name](tmp_path / name))
    assert video.count == len(COLORS)
    for frame, color in zip(video.read(0, None, 1), COLORS, strict=True):
        assert frame.picture.shape == (24, 32, 3)
        assert abs(frame.picture.mean(axis=(0, 1)) - color).max() < 8  # films lose a little
        assert frame.name == video.name(frame.number)
    assert [frame.number for frame in video.read(1, None, 2)] == [1, 3, 5]
    assert [frame.number for frame in video.read(2, 4, 1)] == [2, 3]
    assert [frame.number for frame in video.read(9, 10, 1)] == []
    back = list(video.read_back(4, 1, 2))
    assert [frame.number for frame in back] == [4, 2]
    assert abs(back[1].picture.mean(axis=(0, 1)) - COLORS[2]).max() < 8


def test_names_are_those_of_the_pictures_or_davis_numbers(tmp_path):
    assert open_video(folder(tmp_path / "frames")).name(3) == "shot10"
    assert open_video(pages(tmp_path / "a.tif")).name(3) == "00003"


def test_a_film_says_its_rate(tmp_path):
    assert open_video(film(tmp_path / "a.mp4")).rate == 5


def test_frames_that_would_write_the_same_file_are_refused(tmp_path):
    place = folder(tmp_path / "frames")
    Image.new("RGB", (32, 24)).save(place / "shot7.jpg")
    with pytest.raises(InputError, match="two pictures are called shot7"):
        open_video(place)


def test_what_is_no_video_is_refused_in_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.png").write_text("no picture")
    for name, message in {
        "absent.mp4": "no such file",
        "empty": "no images",
        "a.png": "no file of many pictures",
    }.items():
        with pytest.raises(InputError, match=message):
            open_video(tmp_path / name)


def test_a_broken_film_says_how_far_it_went(tmp_path):
    pytest.importorskip("av")
    (tmp_path / "b.mp4").write_bytes(b"no film at all" * 50)
    with pytest.raises(InputError, match=r"b.mp4: no video that can be read: "):
        open_video(tmp_path / "b.mp4")


def test_without_pyav_films_are_refused_with_the_mend(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "a.mp4").write_bytes(b"film")
    with pytest.raises(InputError, match=r'pip install "seggpt-jax\[video\]"'):
        open_video(tmp_path / "a.mp4")


def test_options_say_how_pictures_are_read(tmp_path):
    place = folder(tmp_path / "frames")
    with pytest.raises(InputError, match="max_pixels"):
        next(open_video(place, max_pixels=10).read(0, None, 1))


def test_one_frame_is_a_video(tmp_path):
    assert open_video(film(tmp_path / "one.mp4", count=1)).count == 1
    Image.new("RGB", (8, 8)).save(tmp_path / "one.png")
    [frame] = open_video(tmp_path / "one.png").read(0, None, 1)
    assert np.array_equal(frame.picture, np.zeros((8, 8, 3)))


def test_pages_are_no_larger_than_allowed(tmp_path):
    with pytest.raises(InputError, match=r"a.tif: 32x24 .* exceeds max_pixels"):
        open_video(pages(tmp_path / "a.tif"), max_pixels=700)


def test_a_page_that_grows_is_refused_before_it_is_decoded(tmp_path):
    data = pages(tmp_path / "a.gif").read_bytes()
    fourth = [place for place in range(len(data)) if data[place : place + 5] == b",\0\0\0\0"][4]
    large = data[: fourth + 5] + b"\xe8\x03\xe8\x03" + data[fourth + 9 :]  # 1000 x 1000
    (tmp_path / "a.gif").write_bytes(large)
    video = open_video(tmp_path / "a.gif", max_pixels=1000)
    for frames in (video.read(3, None, 1), video.read_back(5, 0, 1)):
        with pytest.raises(InputError, match=r"page . cannot be read: .*1000x1000 is 1 Mpx"):
            list(frames)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Sound files of many pictures, and a folder for damaged ones."""
    place = tmp_path_factory.mktemp("pages")
    for suffix in (".tif", ".gif", ".png", ".webp"):
        pages(place / f"whole{suffix}")
    (place / "frames").mkdir()
    return place


def assert_refused_or_read(seed: int, place: Path) -> None:
    rng = random.Random(seed)
    suffix = rng.choice((".tif", ".tif", ".gif", ".gif", ".png", ".webp"))
    video = place / rng.choice((f"damaged{suffix}", "frames"))
    file = video / f"a{suffix}" if video.is_dir() else video
    file.write_bytes(change_bytes((place / f"whole{suffix}").read_bytes(), rng))

    def read() -> None:
        opened = open_video(video, max_pixels=1 << 18)
        frames = (
            opened.read(0, None, 1) if seed % 2 else opened.read_back((opened.count or 1) - 1, 0, 1)
        )
        for frame in islice(frames, 20):
            assert frame.picture.size <= 3 << 18

    said = refusal(read, InputError)
    if video.is_dir():
        file.unlink()
    assert not said or file.name in said or "frames" in said


@settings(deadline=None, max_examples=60)
@given(SEEDS)
def test_damaged_pages_are_refused_or_read(place, seed):
    assert_refused_or_read(seed, place)


@pytest.mark.slow
def test_many_damaged_pages_are_refused_or_read(place):
    for seed in range(10_000):
        assert_refused_or_read(seed, place)
