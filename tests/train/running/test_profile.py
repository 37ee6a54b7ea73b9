from dataclasses import replace
from pathlib import Path

import pytest

from data.config import FeaturesConfig
from data.feature_samples import SamplesConfig, Shape
from tests.tiny_encoder import tiny_in_context
from train.config import TrainConfig
from train.running import profile
from train.running.profile import format_timings, main, make_parts, measure

CONFIGS = Path(__file__).resolve().parents[3] / "configs"


@pytest.fixture
def config(monkeypatch):
    monkeypatch.setattr(profile, "PRODUCT", 64)
    samples = SamplesConfig(groups=2, shapes=(Shape(examples=1, side=4, share=1.0),))
    data = FeaturesConfig(samples=samples)
    return TrainConfig(
        model=tiny_in_context(depth=1, matchings=((0, True),)), data=data, steps=4, log_every=1
    )


def test_every_part_has_a_speed(config):
    timings = measure(make_parts(config), seconds=0.0)
    assert [*timings] == ["product", "stem", "matching", "blocks", "decoder", "step"]
    assert all(min(timing) > 0 for timing in timings.values())
    assert timings["product"].gflop == pytest.approx(2 * 64**3 / 1e9)
    lines = format_timings(timings).splitlines()
    assert lines[1].split()[::4] == ["product", "100%"]
    parts = sum(timings[name].gflop for name in ("stem", "matching", "blocks", "decoder"))
    assert 0.7 < parts / timings["step"].gflop < 1.1


def test_other_recipes_are_one_line(capsys, config):
    with pytest.raises(ValueError, match="on cached features alone"):
        make_parts(replace(config, train_encoder=True))
    assert main(["--config", str(CONFIGS / "seggpt_small.py")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
