"""`seggpt models`, on weights made here."""

import json
from pathlib import Path

import numpy as np
import pytest

from incontext.cli import main
from incontext.cli.verbs import models
from seggpt.config import ENCODERS, SegGPTConfig
from seggpt.weights import save_weights

SAM = Path(__file__).parents[3] / "seggpt" / "golden" / "sam" / "model.safetensors"


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """Two small weights files in place of the shipped ones."""
    files = {}
    for number, name in enumerate(["seggpt-small", "seggpt-other"]):
        path = tmp_path / f"{name}.safetensors"
        save_weights(
            path,
            {"a": np.full((10, number + 1), 0.5, np.float32), "b": np.zeros(3, np.float32)},
            config=SegGPTConfig.tiny().to_dict(),
            metadata={"licence": "Apache-2.0", "score": "61.2 mIoU"},
        )
        files[name] = path
    monkeypatch.setattr(models, "shipped_weights", lambda: dict(files))
    return files


def test_lists_what_the_files_say_of_themselves(weights, capsys):
    assert main(["models"]) == 0
    heading, small, other, matching, *encoders = capsys.readouterr().out.splitlines()
    assert heading.split() == ["name", "parameters", "attention", "size", "licence", "score"]
    assert small.startswith("seggpt-small (default)")
    assert "prefix" in other
    assert other.endswith("Apache-2.0  61.2 mIoU")
    assert matching.split()[:2] == ["matching", "22.1M"]
    shipped = next(line for line in encoders if line.startswith("dinov2-small (shipped)"))
    assert shipped.split()[2:] == ["22.1M", "14", "px", "44", "MB", "58", "Apache-2.0"]
    third = next(line for line in encoders if line.startswith("dinov3-base"))
    assert third.endswith("DINOv3 License (Meta's own)")


def test_lists_as_json(weights, capsys):
    assert main(["models", "list", "seggpt-other", "--json"]) == 0
    (model,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert model["name"] == "seggpt-other"
    assert model["parameters"] == 23
    assert model["is_default"] is False


def test_lists_every_encoder_as_json(weights, capsys):
    assert main(["models", "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    encoders = [event for event in events if event["event"] == "encoder"]
    assert [event["name"] for event in encoders] == list(ENCODERS)
    assert [event["name"] for event in encoders if event["shipped"]] == ["dinov2-small"]


def test_verify_tells_intact_from_damaged(weights, capsys):
    assert main(["models", "verify"]) == 0
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()] == [
        ["seggpt-small", "ok"],
        ["seggpt-other", "ok"],
        ["dinov2-small", "ok"],
    ]
    data = bytearray(weights["seggpt-other"].read_bytes())
    data[-1] ^= 1
    weights["seggpt-other"].write_bytes(data)
    assert main(["models", "verify"]) == 1
    said = capsys.readouterr()
    assert said.out.startswith("seggpt-small  ok")
    assert "SHA-256 mismatch" in said.err
    assert main(["models", "verify", "seggpt-small"]) == 0


def test_verify_tells_of_a_damaged_encoder(weights, tmp_path, capsys, monkeypatch):
    data = bytearray(models.ENCODER.read_bytes())
    data[-1] ^= 1
    damaged = tmp_path / models.ENCODER.name
    damaged.write_bytes(data)
    for module in ("verbs", "work"):
        monkeypatch.setattr(f"incontext.cli.{module}.models.ENCODER", damaged)
    assert main(["models", "verify", "dinov2-small"]) == 1
    assert "SHA-256 mismatch" in capsys.readouterr().err


def test_verify_takes_any_file_of_weights(tmp_path, capsys):
    assert main(["models", "verify", str(SAM)]) == 0
    assert capsys.readouterr().out.startswith(f"{SAM}  ok  sha256 ")
    broken = tmp_path / "x.pth"
    broken.write_bytes(b"PK\x03\x04 and no more")
    assert main(["models", "verify", str(broken)]) == 1
    assert str(broken) in capsys.readouterr().err


def test_an_unknown_name_is_a_usage_error(weights, capsys):
    assert main(["models", "verify", "seggpt-huge"]) == 2
    assert "there are seggpt-small, seggpt-other" in capsys.readouterr().err


def test_a_package_without_weights_says_so(monkeypatch, capsys):
    monkeypatch.setattr(models, "shipped_weights", dict)
    assert main(["models"]) == 1
    assert "no weights" in capsys.readouterr().err
