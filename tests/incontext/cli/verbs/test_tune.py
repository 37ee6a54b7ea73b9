"""`seggpt tune`: from folders to a prompt that `seggpt segment` uses; every mistake is one line."""

import argparse
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from incontext import Context
from incontext.cli import main
from incontext.cli.console import Console
from incontext.cli.work.tune import command_of, pair_files
from incontext.tune import tuner
from seggpt.weights import save_weights
from tests.incontext.annotations.scenes import coco, write_json
from tests.tiny_models import fresh_weights, tiny_seggpt

OUT = ["-o", "p.safetensors"]
QUICK = ["--steps", "2", "--batch", "2", "--model", "tiny.safetensors"]


def write_pair(name, *, seed=0, mask=True, size=(24, 18)):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 90, (size[1], size[0], 3)).astype(np.uint8)
    image[4:12, 5:15] += 150
    Path("images").mkdir(exist_ok=True)
    Path("masks").mkdir(exist_ok=True)
    Image.fromarray(image).save(f"images/{name}.jpg")
    if mask:
        marked = np.zeros((size[1], size[0]), np.uint8)
        marked[4:12, 5:15] = 255
        Image.fromarray(marked).save(f"masks/{name}.png")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    config = tiny_seggpt()
    params = fresh_weights(config)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path, jax.tree.map(np.asarray, params), config=config.to_dict())
    return path


@pytest.fixture
def place(tmp_path, monkeypatch, weights):
    """Six labelled pictures and weights, as the working directory."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.safetensors").write_bytes(weights.read_bytes())
    for number in range(6):
        write_pair(f"shot{number}", seed=number)
    return tmp_path


@pytest.fixture
def said(capsys):
    """Return what was said on stderr, after checking that nothing looks like a crash."""

    def read():
        text = capsys.readouterr().err
        assert "Traceback" not in text
        return text.splitlines()

    return read


def tune(*more):
    return main(["tune", "images", "masks", *OUT, *QUICK, *more])


def test_a_prompt_is_written_and_segment_uses_it_with_more_examples(place, said):
    Path("names.json").write_text('{"1": "leaf"}')
    before = Path("tiny.safetensors").read_bytes()
    assert tune("--names", "names.json", "--report", "page.html") == 0
    assert said()[-1].endswith("-> p.safetensors")
    assert not Path("p.safetensors.state").exists()
    assert "<table>" in Path("page.html").read_text()
    context = Context.load("p.safetensors")
    assert context.names == {1: "leaf"}
    assert context.about["command"] == "seggpt tune images masks -o p.safetensors --steps 2"
    assert Path("tiny.safetensors").read_bytes() == before
    model = ["--model", "tiny.safetensors"]
    argv = ["segment", "images", "--prompt", "p.safetensors", *model]
    assert main([*argv, "-o", "one"]) == 0
    assert main([*argv, "-e", "images/shot0.jpg", "masks/shot0.png", "-o", "two"]) == 0
    assert len(list(Path("one").glob("*.png"))) == len(list(Path("two").glob("*.png"))) == 6


def test_scores_are_a_table_on_stdout_and_events_are_json(place, capsys):
    assert tune("--report", "page.html") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["context", "mean", "IoU", "threshold", "1"]
    assert lines[-1].startswith("tuned ")
    assert tune("--json", "--overwrite") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [e["step"] for e in events if e["event"] == "step"] == [1, 2]
    assert events[-1]["event"] == "tuned"


def test_masks_may_have_usual_endings_and_what_lacks_a_partner_is_said(place, said):
    Path("masks/shot0.png").rename("masks/shot0_mask.png")
    write_pair("alone", mask=False)
    Image.new("L", (4, 4)).save("masks/other.png")
    assert tune() == 0
    lines = said()
    assert (
        "seggpt: 1 of 7 pictures have no mask and are left out: images/alone.jpg; "
        "add masks/alone.png" in lines
    )
    assert "seggpt: 1 masks have no picture and are left out: masks/other.png" in lines


def test_names_that_never_pair_up_are_refused_with_the_mend(place, said):
    for mask in Path("masks").iterdir():
        mask.rename(mask.with_name(f"label-of-{mask.name}"))
    assert tune() == 2
    assert said() == [
        "seggpt: error: no picture in images has a mask in masks: images/shot0.jpg needs "
        "masks/shot0.png, and there is masks/label-of-shot0.png"
    ]
    assert not Path("p.safetensors").exists()


def test_two_pictures_of_one_name_are_refused(place, said):
    Image.open("images/shot0.jpg").save("images/shot0.png")
    assert tune() == 2
    assert said() == [
        "seggpt: error: images/shot0.jpg and images/shot0.png both pair with masks/shot0.png; "
        "rename one"
    ]


def test_a_mask_of_another_size_ends_in_one_line(place, said):
    Image.new("L", (5, 5), 255).save("masks/shot3.png")
    assert tune() == 1
    (line,) = [line for line in said() if "error" in line]
    assert "mask 5x5 does not match image 24x18" in line
    assert "images/shot3.jpg" in line


def test_masks_of_nothing_are_refused(place, said):
    for mask in Path("masks").iterdir():
        Image.new("L", (24, 18)).save(mask)
    assert tune() == 2
    assert said()[-1] == (
        "seggpt: error: no mask has any foreground; mark the object in at least one picture"
    )


def test_one_picture_is_enough(place, said):
    for number in range(1, 6):
        Path(f"images/shot{number}.jpg").unlink()
        Path(f"masks/shot{number}.png").unlink()
    assert tune() == 0
    assert "its own pictures (too few to hold out)" in said()[-1]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["tune", "images", "masks", "-o", "p.pth"], "must end in .safetensors"),
        (["tune", "images", "masks", "-o", "no/p.safetensors"], "no such folder: no"),
        (["tune", "images", "nomasks", *OUT], "nomasks: not a folder of masks"),
        (["tune", "images", *OUT], "give IMAGES_DIR and MASKS_DIR, --examples PATH, or both"),
        (["tune", *OUT, "--examples", "no.json"], "no such file: no.json"),
        (["tune", "images", "masks", *OUT, "--batch", "3", "--micro-batch", "2"], "multiple"),
        (["tune", "images", "masks", *OUT, "--minutes", "0"], "'0' is no minutes above 0"),
        (["tune", "images", "masks", *OUT, "--labels", "x"], "is not a list of labels"),
        (["tune", "images", "masks", *OUT, "--names", "no.json"], "--names no.json: No such file"),
        (["tune", "images", "masks", *OUT, *QUICK, "--labels", "9"], "label 9 is in no mask"),
        (["tune", "images", "masks", *OUT, *QUICK, "--hold-out", "6"], "leave none to learn from"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(argv, words, place, said):
    assert main(argv) == 2
    (line,) = [line for line in said() if line.startswith("seggpt: error: ")]
    assert words in line
    assert not Path("p.safetensors").exists()


def test_a_folder_without_pictures_is_nothing_usable(place, said):
    Path("empty").mkdir()
    assert main(["tune", "empty", "masks", *OUT]) == 1
    assert "no images under empty" in said()[-1]


def test_a_file_is_not_replaced_unasked(place, said):
    Path("p.safetensors").write_text("mine")
    assert tune() == 2
    assert said() == ["seggpt: error: p.safetensors exists; add --overwrite or choose another name"]
    assert Path("p.safetensors").read_text() == "mine"


def test_ctrl_c_writes_the_best_so_far_and_resume_goes_on(place, said, monkeypatch):
    learn = tuner.learn_prompt

    def pressed(run, state, *, tell, **more):
        def stop(progress):
            tell(progress)
            if progress.step == 65:
                raise KeyboardInterrupt

        return learn(run, state, tell=stop, **more)

    argv = ["tune", "images", "masks", *OUT, "--model", "tiny.safetensors", "--batch", "2"]
    monkeypatch.setattr(tuner, "learn_prompt", pressed)
    assert main([*argv, "--steps", "80"]) == 130
    assert said()[-1].startswith("seggpt: error: interrupted; ")
    assert Path("p.safetensors").exists()
    assert Path("p.safetensors.state").exists()
    monkeypatch.undo()
    monkeypatch.chdir(place)
    assert main([*argv, "--steps", "80", "--resume", "--overwrite"]) == 0
    assert not Path("p.safetensors.state").exists()


def test_another_models_prompt_is_refused_by_segment(place, said, weights):
    assert tune() == 0
    said()
    argv = ["segment", "images/shot0.jpg", "--prompt", "p.safetensors", "-o", "out"]
    assert main([*argv, "--model", "seggpt-small"]) == 2
    assert "this context was made by model" in said()[-1]


def test_the_command_in_the_file_names_what_changes_the_result():
    names = ("config", "learn", "start", "prompts", "steps", "lr", "hold_out", "seed", "labels")
    args = argparse.Namespace(
        **dict.fromkeys(names), images="a/b/", masks="m", examples=[], output="x/p", turns=1
    )
    assert command_of(args) == "seggpt tune b m -o p --turns"
    args.turns, args.lr = None, 0.1
    assert command_of(args) == "seggpt tune b m -o p --lr 0.1"
    args.images, args.masks, args.examples = None, None, ["x/coco.json"]
    assert command_of(args) == "seggpt tune --examples coco.json -o p --lr 0.1"


def test_annotation_files_take_the_place_of_folders(place, said):
    images = [{"id": n, "file_name": f"shot{n}.jpg", "width": 24, "height": 18} for n in range(6)]
    mark = {"segmentation": [[5, 4, 15, 4, 15, 12, 5, 12]]}
    marks = [{**mark, "image_id": number, "category_id": 3} for number in range(6)]
    write_json(
        Path("coco.json"), coco(*marks, images=images, categories=[{"id": 3, "name": "leaf"}])
    )
    argv = ["tune", "--examples", "coco.json", *OUT, *QUICK]
    assert main(argv) == 0
    context = Context.load("p.safetensors")
    assert context.labels == (3,)
    assert context.names == {3: "leaf"}
    assert "--examples coco.json" in context.about["command"]
    said()
    write_json(Path("coco.json"), coco({"segmentation": []}, images=images))
    assert main([*argv, "--overwrite"]) == 2
    assert "--examples: coco.json: ann 17: no segmentation" in said()[-1]


def test_masks_beside_their_pictures_are_one_folder_given_twice(place, said):
    for mask in Path("masks").iterdir():
        mask.rename(Path("images") / f"{mask.stem}_mask.png")
    pairs = pair_files("images", "images", Console())
    assert [(image.name, mask.name) for image, mask in pairs] == [
        (f"shot{number}.jpg", f"shot{number}_mask.png") for number in range(6)
    ]
    assert said() == []
