import pytest

from tests.train.tiny import tiny_config
from train.cost import main, measure

RECIPE = """
from tests.train.tiny import tiny_config

def get_config():
    return tiny_config()
"""


@pytest.fixture(scope="module")
def costs():
    return {size: measure(tiny_config(batch_size=size), devices=1) for size in (4, 8)}


def test_flops_grow_with_the_batch(costs):
    few, many = (costs[size]["teraFLOPs of a step"] for size in (4, 8))
    assert many == pytest.approx(2 * few, rel=0.1)


def test_flops_are_three_forward_passes_through_the_matrices(costs):
    # Every token meets every matrix: 2 FLOPs forward and 4 back; attention and the decoder add.
    config = tiny_config()
    tokens = config.pictures.pairs.views * (config.seggpt.image_size // 4) ** 2 * 4
    least = 6 * tokens * config.seggpt.depth * 12 * config.seggpt.width**2
    assert least < 1e12 * costs[4]["teraFLOPs of a step"] < 10 * least


def test_the_state_is_weights_average_and_two_moments(costs):
    parameters = 1e6 * costs[4]["parameters, millions"]
    assert costs[4]["GB of state, a device"] * 1e9 == pytest.approx(16 * parameters, rel=1e-3)


def test_bad_options_are_one_line(tmp_path, capsys):
    path = tmp_path / "recipe.py"
    path.write_text(RECIPE)
    assert main(["--config", str(path), "--devices", "6", "--set", "fsdp=4"]) == 2
    assert capsys.readouterr().err == "cost: error: --devices 6 is not a multiple of fsdp 4\n"
    assert main(["--config", "configs/in_context_small.py"]) == 2
    assert "learns from cached features" in capsys.readouterr().err
