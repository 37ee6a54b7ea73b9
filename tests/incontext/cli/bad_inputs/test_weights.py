"""Bad inputs 34, 35 and 39: weights, devices and recipes."""

import json
import pickle
import shutil
import struct
import zipfile
from pathlib import Path

import pytest

from seggpt.weights import save_weights
from tests.tiny_models import fresh_weights, tiny_seggpt
from train.__main__ import main as train

TESTS = Path(__file__).parents[3]
GOLDEN = TESTS / "seggpt" / "weights" / "golden"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"
CONFIG = str(TESTS.parent / "configs" / "in_context_small.py")


class Evil:
    def __reduce__(self):
        return (print, ("this must not run",))


def evil(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(Evil(), protocol=2))


def bit_flipped(path):
    own(path)
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


def newer(path):
    config = tiny_seggpt()
    save_weights(path, fresh_weights(config), config=config.to_dict() | {"unheard_of": 1})


def own(path):
    config = tiny_seggpt()
    save_weights(path, fresh_weights(config), config=config.to_dict())


def of_another_model(path):
    header = json.dumps(
        {"conv1.weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    ).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))


WEIGHTS = {
    "missing": ("no.safetensors", lambda path: None, "no such file"),
    "Git-LFS pointer": ("a.pth", lambda path: path.write_bytes(LFS), "git lfs pull"),
    "Git-LFS pointer to ours": (
        "a.safetensors",
        lambda path: path.write_bytes(LFS),
        "git lfs pull",
    ),
    "text": ("a.pth", lambda path: path.write_text("hello"), "not a weights file"),
    "truncated": (
        "a.pth",
        lambda path: path.write_bytes((GOLDEN / "painter.pth").read_bytes()[:900]),
        "a.pth",
    ),
    "legacy": ("a.pth", lambda path: shutil.copy(GOLDEN / "legacy.pth", path), "a.pth"),
    "evil pickle": ("a.pth", evil, "print"),
    "another model": ("a.safetensors", of_another_model, "not a SegGPT"),
    "bit-flipped": ("a.safetensors", bit_flipped, "SHA-256 mismatch"),
    "newer": ("a.safetensors", newer, "unheard_of"),
    "SAM's": ("sam", lambda path: shutil.copytree(TESTS / "seggpt/golden/sam", path), "SAM"),
}


@pytest.mark.parametrize("case", WEIGHTS)
def test_34_weights_that_are_none(case, seggpt):
    name, make, gist = WEIGHTS[case]
    make(Path(name))
    seggpt.picture(Path("a.png"))
    seggpt.fails(1, (name, gist), "segment", "a.png", *seggpt.out, "--model", name)
    assert not Path("out").exists()


def test_35_a_device_that_is_not_there(seggpt):
    seggpt.picture(Path("a.png"))
    gist = ("--device cuda: no such device", "available: cpu:0")
    seggpt.fails(1, gist, "segment", "a.png", *seggpt.out, "--device", "cuda")


@pytest.mark.parametrize(("pictures", "code"), [("a", 1), ("ab", 3)])
def test_35_memory_that_does_not_suffice(pictures, code, seggpt, segmenter):
    failures = iter([RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")])

    def fill(count):
        if error := next(failures, None):
            raise error

    for name in pictures:
        seggpt.picture(Path(f"in/{name}.png"))
    segmenter.before_result = staticmethod(fill)
    gist = ("a.png: out of memory for 12x10", "shrink it")
    seggpt.fails(code, gist, "segment", "in", *seggpt.out, "--batch", "1")


@pytest.mark.parametrize(
    ("setting", "gist"),
    [
        ("step=7", "did you mean 'steps'?"),
        ("steps=many", "steps"),
        ("optim.lr='1e-3'", "optim.lr"),
        ("steps=!!python/object:os.system", "steps"),
    ],
)
def test_39_settings_of_a_recipe(setting, gist, tmp_path, capsys):
    asked = ["--config", CONFIG, "--out", str(tmp_path / "out"), "--set", setting]
    assert train(asked) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("train: error: ")
    assert gist in line


@pytest.mark.parametrize(
    ("text", "gist"),
    [
        (None, "no such recipe"),
        ("", "get_config"),
        ("def get_config(): return 5", "not a recipe"),
        ("lr: 1e-3", "get_config"),
        ("import nothing_of_that_name", "recipe.py: ModuleNotFoundError"),
        ("def get_config(: pass", "recipe.py: SyntaxError"),
    ],
)
def test_39_recipes_that_are_none(text, gist, tmp_path, capsys):
    recipe = tmp_path / "recipe.py"
    if text is not None:
        recipe.write_text(text)
    assert train(["--config", str(recipe), "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert gist in line
