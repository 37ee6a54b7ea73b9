"""`--set encoder=PATH`: another encoder's features are cached, and the same heads trained."""

import numpy as np
import pytest
from flax import nnx

from configs import in_context_small
from data import feature_cache
from data.config import FeaturesConfig
from incontext import Example, Segmenter
from incontext.bench.subjects import draw_params
from seggpt.config import InContextConfig
from seggpt.encoder import Encoder
from seggpt.in_context import positions
from seggpt.weights import load_weights, save_weights
from seggpt.weights.encoder import load_encoder
from tests.data.drawn import write_drawn_dataset
from tests.tiny_encoder import tiny_encoder
from train.__main__ import main
from train.overrides import apply_overrides
from train.tasks import encoders
from train.tasks.encoders import name_encoder, stand_on_encoder

LIKE_DINOV3 = {"patch_size": 16, "registers": 4, "positions": "rotary", "norm_epsilon": 1e-5}
RECIPE = """
from dataclasses import replace
from configs import in_context_small
from data.feature_samples import Shape

def get_config():
    config = in_context_small.get_config()
    samples = replace(
        config.data.samples, groups=2, queries=1, shapes=(Shape(examples=1, side=4, share=1.0),)
    )
    model = replace(config.model, width=32, depth=1, heads=4, matchings=((0, False),))
    data = replace(config.data, samples=samples)
    return replace(config, model=model, data=data, steps=1, log_every=1)
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("encoders")
    config = tiny_encoder(**LIKE_DINOV3)
    params = draw_params(nnx.eval_shape(lambda: Encoder(config, rngs=nnx.Rngs(0))))
    save_weights(root / "big.safetensors", params, config=config.to_dict())
    write_drawn_dataset(root / "data", name="drawn", pictures=4, size=96)
    (root / "recipe.py").write_text(RECIPE)
    return root


@pytest.mark.slow
def test_features_training_and_segmenting_on_patches_of_16_pixels(root, tmp_path, monkeypatch):
    monkeypatch.setattr(positions, "BLANK_SIDE", 8)
    command = ["--data", str(root / "data"), "--encoder", str(root / "big.safetensors")]
    command += ["--views", "2", "--pasted", "0", "--drawn", "0", "--out", str(tmp_path / "cache")]
    assert feature_cache.main(command) == 0
    cache, encoder = (
        feature_cache.open_cache(tmp_path / "cache"),
        load_encoder(root / "big.safetensors"),
    )
    assert (cache.encoder, cache.patch, cache.grid) == (encoder.sha256, 16, 21)
    command = ["--config", str(root / "recipe.py"), "--data", str(tmp_path / "cache")]
    command += ["--set", f"encoder={root / 'big.safetensors'}", "--out", str(tmp_path / "run")]
    assert main(command) == 0
    weights = tmp_path / "run" / "weights.safetensors"
    assert load_weights(weights).metadata["encoder_sha256"] == encoder.sha256
    segmenter = Segmenter.from_pretrained(weights, size=128)
    assert isinstance(segmenter.config, InContextConfig)
    assert segmenter.config.encoder == encoder.config
    picture, mask = np.zeros((64, 128, 3), np.uint8), np.zeros((64, 128), np.uint8)
    mask[:20] = 1
    assert segmenter.segment(picture, [Example(picture, mask)]).label_map.shape == (64, 128)


def test_a_recipe_follows_an_encoder_unless_its_model_was_set_too(root):
    recipe = in_context_small.get_config()
    set_one = apply_overrides(recipe, [f"encoder={root / 'big.safetensors'}"])
    assert stand_on_encoder(recipe, recipe) == recipe
    standing = stand_on_encoder(set_one, recipe)
    assert isinstance(standing.model, InContextConfig)
    assert isinstance(standing.data, FeaturesConfig)
    assert standing.model.encoder == tiny_encoder(**LIKE_DINOV3)
    assert standing.data.encoder == str(root / "big.safetensors")
    assert [s.side for s in standing.data.samples.shapes] == [14, 14, 14, 21]
    set_both = apply_overrides(set_one, ["model.encoder.registers=4"])
    assert stand_on_encoder(set_both, recipe) == set_both


def test_weights_find_their_encoder_by_a_link(root, tmp_path, caplog):
    assert name_encoder(root / "big.safetensors", tmp_path) == "big.safetensors"
    assert (tmp_path / "big.safetensors").samefile(root / "big.safetensors")
    assert name_encoder(root / "big.safetensors", tmp_path) == "big.safetensors"
    assert name_encoder(encoders.ENCODER, tmp_path) == "dinov2-small"
    assert not (tmp_path / "dinov2-small.safetensors").exists()
    name_encoder(root / "gone.safetensors", tmp_path / "nowhere")
    assert "no link to the encoder" in caplog.text
