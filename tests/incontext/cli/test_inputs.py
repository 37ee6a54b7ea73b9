"""How the command line says what its pictures and masks are, and in which words it is answered."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from incontext.cli import main

SAM = str(Path(__file__).parents[2] / "seggpt" / "golden" / "sam")


@pytest.fixture
def segment(place, segmenter, capsys):
    """Run `seggpt segment` over one picture with a mask, and return the exit code and stderr."""
    place.picture(Path("a.png"))

    def run(mask, *options):
        Image.fromarray(mask).save("own.png")
        pair = ["-e", "example.png", "own.png"]
        code = main(["segment", "a.png", *pair, "-o", "out", "--overwrite", *options])
        return code, capsys.readouterr().err

    return run


def halves(*values):
    mask = np.zeros((10, 12), np.uint8)
    for place, value in enumerate(values):
        mask[2:, 4 * place : 4 * place + 3] = value
    return mask


def test_hints_name_options_and_the_options_help(segment):
    code, text = segment(halves(1, 2, 255))
    assert code == 2
    assert "--ignore none or --ignore 255" in text
    for option in (["--ignore", "255"], ["--ignore", "none"], ["--mask-kind", "binary"]):
        assert segment(halves(1, 2, 255), *option)[0] == 0


@pytest.mark.parametrize("value", ["-1", "7", "#e0e0c0", "none", "auto"])
def test_values_colours_and_none_can_be_ignored(segment, value):
    assert segment(halves(1, 2), "--ignore", value)[0] == 0


@pytest.mark.parametrize(
    "option",
    [
        ("--ignore", "red"),
        ("--ignore", "1.5"),
        ("--bands", "1,2"),
        ("--bands", "0,1,2"),
        ("--bands", "r,g,b"),
        ("--alpha", "green"),
    ],
)
def test_nonsense_is_refused_with_its_value(segment, option):
    code, text = segment(halves(1), *option)
    assert code == 2
    assert option[1] in text


def test_too_many_labels_are_refused_before_the_model(segment, segmenter):
    mask = np.arange(300, 420, dtype=np.uint16).reshape(10, 12)
    code, text = segment(mask, "--mask-kind", "labels")
    assert code == 2
    assert "--mask-kind binary" in text
    assert segmenter.loaded == 0


def test_a_limit_holds_for_pictures_and_can_be_raised(place, segmenter, capsys, monkeypatch):
    place.picture(Path("a.png"))
    for module in ("images", "masks"):
        monkeypatch.setattr(f"incontext.files.{module}.MAX_PIXELS", 100)
    monkeypatch.setattr("incontext.cli.inputs.MAX_PIXELS", 100)
    asked = ["segment", "a.png", *place.pair, "-o", "out"]
    assert main(asked) == 2
    assert "raise --max-pixels" in capsys.readouterr().err
    assert main([*asked, "--max-pixels", "1k"]) == 0


def test_a_limit_holds_for_points_too_and_can_be_raised(place, capsys, monkeypatch):
    place.picture(Path("a.png"))
    monkeypatch.setattr("incontext.files.images.MAX_PIXELS", 100)
    asked = ["prompt", "a.png", "--point", "5,5", "-o", "out", "--model", SAM]
    assert main(asked) == 1
    assert "raise --max-pixels" in capsys.readouterr().err
    assert main([*asked, "--max-pixels", "1k", "--overwrite"]) == 0


def test_bands_and_alpha_reach_the_pictures(place, segmenter):
    red = np.zeros((10, 12, 4), np.uint8)
    red[..., 0] = 255
    buffer = io.BytesIO()
    Image.fromarray(red).save(buffer, "PNG")
    Path("a.png").write_bytes(buffer.getvalue())
    for option, marked in (
        (["--bands", "1,1,1"], True),
        (["--bands", "2,2,2"], False),
        (["--alpha", "white"], True),
        (["--alpha", "black"], False),
    ):
        code = main(["segment", "a.png", *place.pair, "-o", "out", "--overwrite", *option])
        assert code == 0
        assert np.asarray(Image.open("out/a.png")).all() == marked
