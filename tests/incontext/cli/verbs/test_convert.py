"""`seggpt convert`, on a small checkpoint in the authors' format."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from incontext import Segmenter
from incontext.cli import main
from seggpt.errors import CheckpointError
from seggpt.weights import load_published, load_weights
from seggpt.weights.tree import flatten

PAINTER = Path(__file__).parents[3] / "seggpt" / "weights" / "golden" / "painter.pth"

SAM = Path(__file__).parents[3] / "seggpt" / "golden" / "sam"


def test_a_sam_becomes_a_file_of_ours_that_only_the_predictor_takes(tmp_path, capsys):
    target = tmp_path / "sam.safetensors"
    assert main(["convert", str(SAM), "-o", str(target)]) == 0
    assert load_weights(target).config["model"] == "sam"
    with pytest.raises(CheckpointError, match="Predictor"):
        Segmenter.from_pretrained(target)
    with pytest.raises(CheckpointError, match="Predictor"):
        Segmenter.from_pretrained(SAM)


def test_the_file_holds_the_same_weights_and_says_where_they_come_from(tmp_path, capsys):
    target = tmp_path / "painter.safetensors"
    assert main(["convert", str(PAINTER), "-o", str(target)]) == 0
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    assert capsys.readouterr().out == f"{target}  sha256 {digest}\n"
    published, ours = load_published(PAINTER), load_weights(target)
    assert ours.config == published.config
    assert ours.metadata["family"] == "painter"
    assert ours.metadata["source"] == "painter.pth"
    assert ours.metadata["source_sha256"] == hashlib.sha256(PAINTER.read_bytes()).hexdigest()
    theirs = flatten(published.params)
    for name, array in flatten(ours.params).items():
        np.testing.assert_array_equal(array, theirs[name])


def test_bfloat16_halves_the_file(tmp_path, capsys):
    sizes = []
    for dtype in ("float32", "bfloat16"):
        target = tmp_path / f"{dtype}.safetensors"
        assert main(["convert", str(PAINTER), "-o", str(target), "--dtype", dtype, "--json"]) == 0
        event = json.loads(capsys.readouterr().out)
        assert event["event"] == "convert"
        assert event["output"] == str(target)
        sizes.append(sum(a.nbytes for a in flatten(load_weights(target).params).values()))
    assert sizes[0] == sizes[1]  # read back as float32
    small, large = (tmp_path / f"{d}.safetensors" for d in ("bfloat16", "float32"))
    assert small.stat().st_size < 0.75 * large.stat().st_size


def test_nothing_is_replaced_unasked(tmp_path, capsys):
    target = tmp_path / "w.safetensors"
    target.write_bytes(b"precious")
    assert main(["convert", str(PAINTER), "-o", str(target)]) == 2
    assert "exists; add --overwrite" in capsys.readouterr().err
    assert target.read_bytes() == b"precious"
    assert main(["convert", str(PAINTER), "-o", str(target), "--overwrite"]) == 0
    assert load_weights(target).metadata["family"] == "painter"


@pytest.mark.parametrize(
    ("source", "output", "code", "message"),
    [
        ("absent.pth", "w.safetensors", 1, "absent.pth"),
        ("text.pth", "w.safetensors", 1, "text.pth"),
        ("text.pth", "w.bin", 2, "must end in .safetensors"),
    ],
)
def test_what_cannot_be_converted_is_one_line_and_leaves_nothing(
    tmp_path, capsys, monkeypatch, source, output, code, message
):
    monkeypatch.chdir(tmp_path)
    Path("text.pth").write_text("no checkpoint")
    assert main(["convert", source, "-o", output]) == code
    (line,) = [part for part in capsys.readouterr().err.splitlines() if "error" in part]
    assert message in line
    assert not Path(output).exists()
