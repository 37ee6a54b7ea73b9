"""`seggpt segment --detail tiles` on pictures above the limit."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from PIL import Image

import incontext
from incontext.cli import main
from tests.tiny_models import tiny_segmenter

PIXELS = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
TILES = ["--detail", "tiles", "--max-pixels", "1000"]


@pytest.fixture(scope="module")
def tiny():
    return tiny_segmenter()


@pytest.fixture(autouse=True)
def large(place, tiny, monkeypatch):
    """A large TIFF and PNG, a picture that is not, and a model that loads at once."""
    fake = SimpleNamespace(from_pretrained=lambda *_, **__: tiny)
    monkeypatch.setattr(incontext, "Segmenter", fake, raising=False)
    tifffile.imwrite("large.tif", PIXELS, tile=(16, 16), photometric="rgb")
    Image.fromarray(PIXELS).save("large.png")
    place.picture(Path("small.png"))


def segment(place, *argv):
    return main(["segment", *argv, *place.pair, "-o", "out"])


def test_a_large_tiff_is_done_beside_usual_pictures(place, capsys):
    formats = ["--format", "mask,labels"]
    assert segment(place, "small.png", "large.tif", *TILES, *formats) == 0
    assert place.written()[:2] == ["large.labels.png", "large.png"]
    assert np.asarray(Image.open("out/large.png")).shape == (70, 90)
    said = capsys.readouterr().err
    assert "large.tif: 90x70 in 48 tiles" in said
    assert "about 1 min for its tiles" in said
    small, large = place.records()
    assert (small["status"], large["status"]) == ("done", "done")
    assert large["scores"].keys() == {"255"} or large["scores"].keys() == {"1"}
    assert segment(place, "large.tif", "small.png", *TILES, *formats, "--resume") == 0


def test_a_refusal_of_the_size_names_the_way(place, capsys):
    limit = ["--max-pixels", "1000"]
    assert segment(place, "large.tif", "small.png", *limit) == 3
    assert "use --detail tiles, which reads tiled TIFFs" in capsys.readouterr().err
    assert segment(place, "large.png", *TILES, "--overwrite") == 1
    assert "use --detail tiles, which reads tiled TIFFs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--format", "mask,overlay"], "leave out overlay"),
        (["--format", "labels", "--instances"], "--instances cannot number"),
        (["--bands", "1,2,3"], "without --bands"),
    ],
)
def test_what_needs_the_whole_picture_is_refused(options, words, place, capsys):
    assert segment(place, "large.tif", *TILES, *options) == 1
    said = capsys.readouterr().err
    assert words in said
    assert "large.tif: 90x70" in said


def test_damage_is_one_pictures_failure_and_leaves_no_file(place, capsys):
    tifffile.imwrite("damaged.tif", PIXELS, tile=(16, 16), photometric="rgb", compression="zlib")
    with tifffile.TiffFile("damaged.tif") as file:
        last = file.pages[0].dataoffsets[-1]
    data = bytearray(Path("damaged.tif").read_bytes())
    data[last : last + 8] = bytes(8)
    Path("damaged.tif").write_bytes(data)
    assert segment(place, "damaged.tif", "small.png", *TILES) == 3
    assert "damaged.tif: cannot read this TIFF" in capsys.readouterr().err
    assert place.written() == ["results.jsonl", "run.json", "small.png"]
