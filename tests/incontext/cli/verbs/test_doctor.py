"""`seggpt doctor`: facts, self-test, and an honest exit code."""

import json
import tomllib
from pathlib import Path

import jax
import pytest

from incontext.cli import main
from incontext.cli.work import doctor as checkup
from incontext.cli.work.models import ShippedModel
from seggpt.errors import DeviceError, InputError


@pytest.fixture(autouse=True)
def weights(monkeypatch):
    monkeypatch.setattr(checkup, "shipped_weights", lambda: {"seggpt-other": "tiny"})
    monkeypatch.setattr(checkup, "verify_model", lambda path: "0123456789abcdef" * 4)
    model = ShippedModel("tiny", 5_000_000, "prefix", 448, "Apache-2.0", "-", "tiny")
    monkeypatch.setattr(checkup, "read_model", lambda name, path: model)


def test_reports_everything_as_json(segmenter, capsys):
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["problems"] == []
    assert report["versions"]["jax"]
    assert "cpu:0" in report["devices"]
    assert report["self-test"]["result"] == "ok"
    assert set(report["weights"]) == {"seggpt-other", "dinov2-small"}
    assert set(report["weights"].values()) == {"5.0M parameters, sha256 0123456789abcdef..."}


def test_every_extra_is_told():
    text = (Path(__file__).parents[4] / "pyproject.toml").read_text()
    extras = tomllib.loads(text)["project"]["optional-dependencies"]
    assert set(checkup.EXTRAS) == set(extras) - {"test", "dev"}


def test_reports_everything_as_text(segmenter, capsys):
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {"versions", "machine", "extras", "weights", "devices", "self-test"} <= set(lines)
    assert "  result        ok" in lines


def test_a_model_that_finds_nothing_is_a_problem(segmenter, capsys, monkeypatch):
    monkeypatch.setattr(segmenter, "_result", nothing_found(segmenter._result))
    assert main(["doctor"]) == 1
    assert "self-test: overlap 0.00" in capsys.readouterr().err


def test_every_failure_is_told_once_and_the_rest_is_told(segmenter, capsys, monkeypatch):
    def fail(*_, **__):
        raise DeviceError("JAX_PLATFORMS=cuda: jax finds no such device")

    monkeypatch.setattr("incontext.device.find_devices", fail)
    monkeypatch.setattr("incontext.device.make_cache_folder", homeless)
    monkeypatch.setattr(segmenter, "from_pretrained", fail)
    monkeypatch.setattr(checkup, "read_model", lambda *_: {}["broken"])
    before = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        assert main(["doctor", "--json"]) == 1
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        "seggpt: error: weights: 'broken'",
        "seggpt: error: JAX_PLATFORMS=cuda: jax finds no such device",
    ]
    report = json.loads(said.out)
    assert report["devices"] == {"compile cache": "none: no home folder"}
    assert report["self-test"] == {"result": "failed"}


def homeless():
    raise InputError("no home folder")


def nothing_found(make):
    def result(self, image, count, threshold):
        return make(self, image * 0, count, threshold)

    return result


def test_a_missing_device_is_a_problem_and_the_rest_is_told(segmenter, capsys, monkeypatch):
    def fail(*_, **__):
        raise DeviceError("--device tpu: no such device; available: cpu:0")

    monkeypatch.setattr(segmenter, "from_pretrained", fail)
    assert main(["doctor", "--device", "tpu"]) == 1
    said = capsys.readouterr()
    assert "versions" in said.out
    assert said.err == (
        "seggpt: error: self-test: --device tpu: no such device; available: cpu:0\n"
    )
