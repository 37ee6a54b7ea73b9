"""`--examples` of segment and prompt: annotation files on the command line."""

import json
from pathlib import Path

import numpy as np
import pytest

from incontext.cli import main
from tests.incontext.annotations.scenes import (
    KINDS,
    coco,
    exported,
    flat,
    mask,
    picture,
    write_json,
)

MARK = {"segmentation": [flat(2, 3, 14, 12)]}


@pytest.fixture
def run(place, segmenter, capsys):
    """Run `segment` on one picture; return the exit code and what was said."""
    place.picture(Path("new.png"))
    own = segmenter.context

    def context(self, examples, *, names=None, **more):
        segmenter.asked |= {
            "names": names,
            "labels": [np.unique(e.mask).tolist() for e in examples],
        }
        segmenter.asked |= {"own": [dict(example.names) for example in examples]}
        return own(self, examples, names=names, **more)

    segmenter.context = context

    def call(*argv):
        code = main(["segment", "new.png", "-o", "out", *map(str, argv)])
        return code, capsys.readouterr().err

    return call


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_the_example_and_names_come_along(kind, run, segmenter):
    code, _ = run("--examples", exported(Path("x"), kind))
    assert code == 0
    assert segmenter.asked["labels"] == [[0, 1, 2]]
    assert segmenter.asked["own"] == [{1: "leaf", 2: "stem"}]


def test_names_of_the_user_decide(run, segmenter):
    Path("names.json").write_text(json.dumps({"3": "leaf", "9": "stem"}))
    assert run("--examples", exported(Path("x"), "labelme"), "--names", "names.json")[0] == 0
    assert segmenter.asked["labels"] == [[0, 3, 9]]
    assert segmenter.asked["names"] == {3: "leaf", 9: "stem"}


def test_folders_and_pairs_go_together(run, segmenter, place):
    picture(Path("set/images/a.png"))
    mask(Path("set/masks/a.png"), np.eye(20, 30) * 255)
    assert run("--examples", "set", *place.pair)[0] == 0
    assert segmenter.asked["examples"] == 2


def test_too_many_pictures_need_a_limit(run, segmenter):
    images = [{"id": number, "file_name": "a.png"} for number in range(33)]
    marks = [{**MARK, "image_id": number} for number in range(33)]
    write_json(Path("x/c.json"), coco(*marks, images=images))
    picture(Path("x/a.png"))
    code, said = run("--examples", "x/c.json")
    assert code == 2
    assert (
        "33 pictures, and 32 examples are the most; choose some, or pass --examples-limit 32"
        in said
    )
    assert segmenter.loaded == 0
    assert run("--examples", "x/c.json", "--examples-limit", "5")[0] == 0
    assert segmenter.asked["examples"] == 5


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--examples", "gone.json"], "no such file: gone.json"),
        (["--examples", "x/c.json"], "x/c.json: ann 17: polygon needs 3 points or more, and has 2"),
        (["--examples", "x"], "x/c.json: ann 17: polygon needs 3 points"),
        (["--examples", "bad.json"], "bad.json: line 1, column 2: invalid JSON"),
        (["--examples", "example.png"], "example.png: a picture; give a picture and its mask"),
        (["--examples", "a_seg.npy"], "a_seg.npy: cellpose's _seg.npy holds pickled objects"),
        (["--examples-limit", "3"], "--examples-limit goes with --examples"),
        (["--examples", "x", "--examples-images", "gone"], "gone: not a folder of pictures"),
    ],
)
def test_mistakes_are_one_line_before_the_model(argv, words, run, place, segmenter):
    write_json(Path("x/c.json"), coco({"segmentation": [[1, 2, 3, 4]]}))
    picture(Path("x/a.png"))
    picture(Path("a.png"))
    Path("bad.json").write_text("{]")
    np.save("a_seg.npy", np.array({"masks": 1}, dtype=object), allow_pickle=True)
    code, said = run(*argv, *(place.pair if "--examples" not in argv else []))
    assert code == 2
    assert words in said
    assert len(said.splitlines()) == 1
    assert segmenter.loaded == 0
    assert not Path("out").exists()


def test_annotations_are_never_written_over(run):
    file = exported(Path("out"), "labelme")
    place = file.rename("out/new.json")
    Path("out/a.png").rename("out/new.png")
    code, said = run("--examples", place, "--format", "labelme", "--overwrite")
    assert code == 2
    assert "out/new.json is an input of this run" in said
    code, said = run("--examples", place, "--overwrite")
    assert code == 2
    assert "out/new.png is an input of this run" in said


def test_prompt_corrects_what_annotations_found(place, segmenter, capsys, tmp_path):
    model = str(Path(__file__).parents[3] / "seggpt" / "golden" / "sam")
    place.picture(Path("new.png"))
    picture(Path("x/b.png"))
    file = exported(Path("x"), "coco")
    argv = ["prompt", "new.png", "-o", "out", "--model", model]
    assert main([*argv, "--examples", str(file)]) == 0
    picture(Path("y/b.png"))
    other = exported(Path("y"), "labelme")
    assert main([*argv, "--overwrite", "--examples", str(file), "--examples", str(other)]) == 2
    assert "SAM learns from one example, and there are 2" in capsys.readouterr().err
