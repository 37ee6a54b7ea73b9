"""Bad inputs 25 to 33 and 38: examples, masks, points, boxes, and names of labels."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from incontext.examples.context import read_examples

SAM = str(Path(__file__).parents[3] / "seggpt" / "golden" / "sam")
SIZE = (120, 90)


@pytest.fixture
def mask(seggpt, segmenter, monkeypatch):
    """Return how `segment` is asked with one example whose mask is given."""

    def context(_, examples, **__):
        read_examples(examples)
        return "context"

    monkeypatch.setattr(segmenter, "context", context)
    seggpt.picture(Path("a.png"))
    seggpt.picture(Path("photo.png"), size=SIZE)

    def run(picture, *options, file_format="png"):
        picture.save(f"own.{file_format}")
        return ["segment", "a.png", "-e", "photo.png", f"own.{file_format}", "-o", "out", *options]

    return run


def disc(*values):
    """Draw discs of grey values."""
    array = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    for place, value in enumerate(values, 1):
        center = place * SIZE[0] / (len(values) + 1)
        array[(x - center) ** 2 + (y - 45) ** 2 < 17**2] = value
    return Image.fromarray(array)


def test_25_sizes_that_differ(seggpt, mask):
    turned = mask(disc(255).transpose(Image.Transpose.ROTATE_90))
    seggpt.fails(2, ("own.png", "mask 90x120 does not match image 120x90", "EXIF"), *turned)


def test_26_a_picture_without_its_mask(seggpt):
    seggpt.fails(2, "expected 2 arguments", "segment", "a.png", "-e", "example.png", "-o", "out")


def test_27_a_mask_of_nothing(seggpt, mask):
    seggpt.fails(2, ("own.png", "mask has no foreground"), *mask(disc()))


def test_28_a_mask_of_everything(seggpt, mask):
    assert "own.png: mask covers 100 %" in seggpt.works(*mask(Image.new("L", SIZE, 255)))


def test_29_a_lossy_mask(seggpt, mask):
    said = seggpt.works(*mask(disc(255), file_format="jpg"), "-v")
    assert "own.jpg" in said
    assert "lossy" in said
    noise = np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)
    photo = mask(Image.fromarray(noise), "--overwrite", file_format="jpg")
    seggpt.fails(2, ("own.jpg", "--mask-kind"), *photo)


def test_30_what_values_mean(seggpt, mask):
    for picture, said in ((disc(1), "grey"), (disc(255), "grey"), (disc(1, 2), "labels")):
        assert said in seggpt.works(*mask(picture, "--overwrite", "-v"))
    colours = Image.merge("RGB", [disc(200, 0), disc(0, 100), disc(10, 10)])
    assert "one class a colour" in seggpt.works(*mask(colours, "--overwrite", "-v"))


def test_30_masks_that_contradict_each_other(seggpt, mask):
    disc(0, 255).save("other.png")
    labels = mask(disc(1, 2), "-e", "example.png", "mask.png")
    seggpt.fails(2, ("own.png", "mask.png"), *labels)


def test_31_soft_edges(seggpt, mask):
    soft = disc(255).filter(ImageFilter.GaussianBlur(2))
    assert "own.png" in seggpt.works(*mask(soft))


def test_32_too_many_classes(seggpt, mask):
    many = Image.fromarray(np.arange(SIZE[0] * SIZE[1], dtype=np.uint16).reshape(90, 120) // 36)
    seggpt.fails(2, ("own.png", "--mask-kind"), *mask(many))
    seggpt.fails(2, "299 labels up to 299", *mask(many, "--mask-kind", "labels"))


@pytest.mark.parametrize(
    ("prompt", "gist"),
    [
        (["--point", "900,20"], "point 900,20 is outside the picture of 12x10"),
        (["--box", "0,0,640,5"], "box 0,0,640,5 is outside the picture of 12x10"),
        (["--box", "9,9,5,20"], "X0 < X1"),
        (["--point", "nan,2"], "'nan,2' is not X,Y"),
        (["--point", "10;20"], "'10;20' is not X,Y"),
        (["--point", "1,2,5"], "'1,2,5' is not X,Y or X,Y,1 or X,Y,0"),
    ],
)
def test_33_points_and_boxes(prompt, gist, seggpt):
    seggpt.picture(Path("a.png"))
    seggpt.fails(2, gist, "prompt", "a.png", *prompt, "-o", "out", "--model", SAM)


@pytest.mark.parametrize("text", ["{", "[1]", '{"one": "leaf"}', "\xff"])
def test_38_names_that_are_none(text, seggpt):
    seggpt.picture(Path("a.png"))
    Path("names.json").write_bytes(text.encode("latin-1"))
    asked = ["segment", "a.png", *seggpt.out, "--names", "names.json"]
    seggpt.fails(2, ("--names names.json", '{"1": "crop"}'), *asked)
