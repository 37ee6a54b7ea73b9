"""`seggpt everything`, on small random weights."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from incontext import AutomaticMaskGenerator, Example, Segmenter
from incontext.cli import main

pytestmark = pytest.mark.usefixtures("loaded_once")
SAM = str(Path(__file__).parents[3] / "seggpt" / "golden" / "sam")
LOOSE: dict[str, Any] = {
    "points_per_side": 3,
    "pred_iou_thresh": 0.6,
    "stability_score_thresh": 0.0,
}
# The first mask of random weights expects less of itself than the others.
BOXES: dict[str, Any] = {"prompts": "boxes", "pred_iou_thresh": 0.0}
OPTIONS = [
    *("-o", "out", "--model", SAM),
    *(
        part
        for name, value in LOOSE.items()
        for part in (f"--{name.replace('_', '-')}", str(value))
    ),
]


@pytest.fixture
def picture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(pixels).save("a.png")
    return pixels


@pytest.mark.parametrize(
    ("arguments", "same"),
    [
        ([], {}),
        (["--prompts", "boxes", "--pred-iou-thresh", "0"], BOXES),
    ],
)
def test_the_file_lists_what_the_generator_finds(picture, capsys, arguments, same):
    options = [*OPTIONS, "--box-nms-thresh", "1", "--format", "json,overlay", "--json", *arguments]
    assert main(["everything", "a.png", *options]) == 0
    found = json.loads(Path("out/a.json").read_text())
    assert (found["width"], found["height"]) == (30, 20)
    generator = AutomaticMaskGenerator.from_pretrained(
        SAM, output_mode="coco_rle", box_nms_thresh=1.0, **{**LOOSE, **same}
    )
    assert found["masks"] == generator.generate("a.png")
    assert len(found["masks"]) >= (1 if same else 2)
    assert np.asarray(Image.open("out/a.overlay.png")).shape == picture.shape
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (result,) = [event for event in events if event["event"] == "result"]
    assert result["masks"] == len(found["masks"])


def test_a_bad_picture_does_not_stop_the_others(picture, capsys):
    Path("b.png").write_text("no picture")
    assert main(["everything", "a.png", "b.png", *OPTIONS]) == 3
    assert "b.png" in capsys.readouterr().err
    assert Path("out/a.json").exists()
    assert not Path("out/b.json").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--format", "mask"], 2, "unknown format 'mask'; choose from json, overlay"),
        (["--prompts", "dots"], 2, "invalid choice: 'dots' (choose from"),
        (["--points-per-side", "0"], 2, "not a whole number above 0"),
        (["--model", "absent.pth"], 1, "absent.pth: no such file"),
    ],
)
def test_what_cannot_be_done_is_one_line(picture, capsys, arguments, code, message):
    assert main(["everything", "a.png", *OPTIONS, *arguments]) == code
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not Path("out").exists()


def test_nothing_found_is_said_with_the_mend(picture, capsys):
    strict = ["--pred-iou-thresh", "1", "--points-per-side", "2"]
    assert main(["everything", "a.png", *OPTIONS, *strict]) == 0
    assert json.loads(Path("out/a.json").read_text())["masks"] == []
    said = capsys.readouterr().err
    assert "a.png: nothing found" in said
    assert "--pred-iou-thresh (1)" in said


def test_only_what_a_point_or_an_example_means_is_kept(picture):
    everything = ["everything", "a.png", *OPTIONS, "--box-nms-thresh", "1"]
    assert main(everything) == 0
    masks = json.loads(Path("out/a.json").read_text())["masks"]
    Image.fromarray(np.full((20, 30), 255, np.uint8)).save("mask.png")
    segmenter = Segmenter.from_pretrained()
    context = segmenter.context([Example("a.png", "mask.png")])
    marked = segmenter.segment("a.png", context).label_map > 0
    for given, rule in (
        (["--point", "4,7"], lambda mask, _: mask[7, 4]),
        (["--point", "4,7,0"], lambda mask, _: False),
        (["-e", "a.png", "mask.png"], lambda mask, marked: marked[mask].mean() > 0.5),
    ):
        assert main([*everything, *given, "--overwrite"]) == 0
        kept = json.loads(Path("out/a.json").read_text())["masks"]
        wanted = [m for m in masks if rule(decode_coco(m["segmentation"]), marked)]
        assert kept == wanted


def decode_coco(segmentation):
    """Undo COCO's compressed run lengths."""
    counts, value, shift = [], 0, 0
    for letter in segmentation["counts"]:
        bits = ord(letter) - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value, shift = 0, 0
    height, width = segmentation["size"]
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return flat.reshape(width, height).T


def test_a_point_outside_all_pictures_and_an_example_that_is_not_there_make_no_sense(
    picture, capsys
):
    everything = ["everything", "a.png", *OPTIONS]
    assert main([*everything, "--point", "99,5"]) == 2
    assert "point 99,5 is outside the picture of 30x20" in capsys.readouterr().err
    assert main([*everything, "-e", "none.png", "none_mask.png"]) == 2
    assert "no such file: none_mask.png" in capsys.readouterr().err
