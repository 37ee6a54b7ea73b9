"""Every recipe at its full size: its steps fit its weights, and what they cost is told."""

from pathlib import Path

import jax
import numpy as np
import pytest

from seggpt.config import SegGPTConfig
from tests.train.tiny import SIZE, tiny_config
from train import cost
from train.__main__ import load_recipe
from train.cost import describe_steps, measure

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
RECIPES = sorted(path for path in CONFIGS.glob("*.py") if "-> TrainConfig:" in path.read_text())
FULL = [path for path in RECIPES if path.stem != "prompt_heads"]  # a step needs a cache


@pytest.mark.parametrize("path", FULL, ids=lambda p: p.stem)
def test_a_recipe_fits_together_at_full_size(path):
    config = load_recipe(path)
    if isinstance(config.model, SegGPTConfig):
        assert sum(share for _, share in config.shots) == pytest.approx(1)
        size, patch = config.seggpt.image_size, config.seggpt.patch_size
        assert (config.view_size or size) % patch == 0
    for described in describe_steps(config):
        after, metrics = jax.eval_shape(described.step, described.state, described.batch)
        assert after == described.state
        assert {array.shape for array in metrics.values()} == {()}


def test_the_cost_of_a_step_is_that_of_its_matrices():
    small, large = (
        measure(describe_steps(tiny_config(batch_size=size))[0], parts=1) for size in (2, 4)
    )
    assert 1.7 < large["gflop"] / small["gflop"] < 2.3
    assert large["activations"] > small["activations"] > 0
    params = sum(a.size for a in jax.tree.leaves(describe_steps(tiny_config())[0].state.params))
    pictures = 4 * 4 * SIZE * SIZE * 4  # bytes
    assert large["state"] == pytest.approx((4 * 4 * params + pictures) / 2**30, rel=0.02)
    assert np.isfinite(list(large.values())).all()


def test_heads_say_that_their_steps_depend_on_a_cache(capsys):
    assert cost.main(["--config", str(CONFIGS / "prompt_heads.py")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("train.cost: error: a step of heads")
    assert error.count("\n") == 1
