"""Mistakes on the command line of `seggpt segment`: exit code 2, before any model is loaded."""

from pathlib import Path

import pytest
from PIL import Image

from incontext.cli import main


@pytest.fixture
def refused(place, segmenter, capsys):
    """Run a command line that must be refused, and return its one line."""
    place.picture(Path("a.png"))

    def run(*argv):
        assert main(["segment", *argv]) == 2
        assert segmenter.loaded == 0
        assert not Path("out").exists()
        text = capsys.readouterr().err
        assert text.startswith("seggpt: error: ")
        assert len(text.splitlines()) == 1
        return text

    return run


def test_a_prompt_is_needed(refused):
    assert "-e IMAGE MASK" in refused("a.png", "-o", "out")


def test_an_output_folder_is_needed(refused, place):
    assert "-o" in refused("a.png", *place.pair)


def test_an_example_needs_its_mask(refused):
    refused("a.png", "-o", "out", "-e", "example.png")


def test_overwrite_and_skip_existing_exclude_each_other(refused, place):
    refused("a.png", *place.pair, "-o", "out", "--overwrite", "--skip-existing")


@pytest.mark.parametrize("files", [("nope.png", "mask.png"), ("example.png", "nope.png")])
def test_a_missing_example_is_named(files, refused):
    assert "no such file: nope.png" in refused("a.png", "-e", *files, "-o", "out")


def test_a_folder_is_no_example(refused):
    Path("folder").mkdir()
    assert "a folder" in refused("a.png", "-e", "folder", "mask.png", "-o", "out")


def test_sizes_of_a_pair_must_agree(refused):
    Image.open("mask.png").transpose(Image.Transpose.ROTATE_90).save("turned.png")
    line = refused("a.png", "-e", "example.png", "turned.png", "-o", "out")
    assert "10x12 does not match image 12x10" in line


def test_an_empty_mask_is_refused(refused):
    Image.new("L", (12, 10)).save("empty.png")
    assert "no foreground" in refused("a.png", "-e", "example.png", "empty.png", "-o", "out")


@pytest.mark.parametrize("text", ["coco3", "mask,pdf", ",", ""])
def test_an_unknown_format_is_refused(text, refused, place):
    assert "choose from mask, overlay" in refused(
        "a.png", *place.pair, "-o", "out", "--format", text
    )


@pytest.mark.parametrize(
    "option",
    [
        ("--threshold", "1.5"),
        ("--threshold", "nan"),
        ("--batch", "0"),
        ("--batch", "two"),
        ("--max-pixels", "-1"),
        ("--mask-kind", "jpeg"),
        ("--ensemble", "mean"),
        ("--on-error", "ignore"),
        ("--no-such-option",),
        ("--over",),
    ],
)
def test_a_bad_value_is_refused(option, refused, place):
    refused("a.png", *place.pair, "-o", "out", *option)


def test_an_output_that_is_a_file_is_refused(place, segmenter, capsys):
    place.picture(Path("a.png"))
    assert main(["segment", "a.png", *place.pair, "-o", "mask.png/deep"]) == 2
    assert "is not a folder" in capsys.readouterr().err


def test_large_pictures_are_refused_by_max_pixels(place, segmenter, capsys):
    place.picture(Path("a.png"))
    assert main(["segment", "a.png", *place.pair, "-o", "out", "--max-pixels", "100"]) == 1
    assert "--max-pixels" in capsys.readouterr().err


def test_names_are_read_before_the_model(refused, place):
    line = refused("a.png", *place.pair, "-o", "out", "--names", "nowhere.json")
    assert "--names nowhere.json: No such file" in line
    Path("names.json").write_text("[1, 2]")
    line = refused("a.png", *place.pair, "-o", "out", "--names", "names.json")
    assert 'must be JSON like {"1": "crop"}' in line
