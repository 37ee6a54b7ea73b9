"""Weights on an encoder of their own, one like DINOv3's: where it is found, and what is refused."""

import re
import shutil

import numpy as np
import pytest
from flax import nnx

from incontext import Example, Promptable, Segmenter
from incontext.bench.subjects import draw_params
from incontext.cli import main
from seggpt.config import InContextConfig, PromptHeadsConfig
from seggpt.encoder import Encoder
from seggpt.errors import CheckpointError, PromptError
from seggpt.in_context.model import InContextModel
from seggpt.model import SegGPT
from seggpt.weights import save_weights
from seggpt.weights.encoder import load_encoder
from tests.tiny_encoder import tiny_encoder, tiny_in_context
from tests.tiny_models import tiny_seggpt

LIKE_DINOV3 = {
    "patch_size": 16,
    "registers": 4,
    "positions": "rotary",
    "activation": "swiglu",
    "norm_epsilon": 1e-5,
}
HEADS = PromptHeadsConfig(
    image_size=128, prompt_width=16, mask_width=4, decoder_heads=2, decoder_mlp=12
)
PICTURE = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
MASK = np.zeros((96, 128), np.uint8)
MASK[20:60, 30:90] = 1


def save_drawn(path, model, config, metadata=None):
    """Write random weights; to initialise a model takes many times as long."""
    params = draw_params(nnx.eval_shape(lambda: model(config, rngs=nnx.Rngs(0))))
    save_weights(path, params, config=config.to_dict(), metadata=metadata)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Write an encoder, weights on it in another folder, and another encoder."""
    root = tmp_path_factory.mktemp("own_encoder")
    (root / "weights").mkdir()
    for name, changes in (("big", LIKE_DINOV3), ("other", {})):
        save_drawn(root / f"{name}.safetensors", Encoder, tiny_encoder(**changes))
    config = tiny_in_context(
        encoder=tiny_encoder(**LIKE_DINOV3), prompts=HEADS, depth=1, matchings=((0, False),)
    )
    sha256 = load_encoder(root / "big.safetensors").sha256
    metadata = {"encoder": "/home/me/big.safetensors", "encoder_sha256": sha256}
    save_drawn(root / "weights" / "w.safetensors", InContextModel, config, metadata)
    return root


def test_patches_of_16_pixels_segment_and_take_clicks(made):
    encoder = made / "big.safetensors"
    segmenter = Segmenter.from_pretrained(
        made / "weights" / "w.safetensors", encoder=encoder, size=128
    )
    assert isinstance(segmenter.config, InContextConfig)
    assert segmenter.config.encoder.positions == "rotary"
    context = segmenter.context([Example(PICTURE, MASK)])
    result = segmenter.segment(PICTURE, context, points=[[40, 40]], labels=[1])
    assert result.label_map.shape == MASK.shape
    with pytest.raises(PromptError, match="size 112 is not a multiple of 32"):
        segmenter.engine.check_size(112)


def test_an_encoder_beside_the_weights_needs_no_argument(made, tmp_path):
    for file in (made / "weights" / "w.safetensors", made / "big.safetensors"):
        shutil.copy(file, tmp_path)
    config = Segmenter.from_pretrained(tmp_path / "w.safetensors", size=128).config
    assert isinstance(config, InContextConfig)
    assert config.prompts == HEADS


def test_what_is_not_there_is_named_with_the_mend(made):
    sha256 = load_encoder(made / "big.safetensors").sha256
    said = rf"stand on the encoder big\.safetensors with SHA-256 {sha256}.*encoder='PATH'"
    for model in (Segmenter, Promptable):
        with pytest.raises(CheckpointError, match=said):
            model.from_pretrained(made / "weights" / "w.safetensors")


def test_another_encoder_is_refused_with_both_checksums(made, tmp_path, capsys):
    picture = tmp_path / "a.npy"
    np.save(picture, PICTURE)
    weights, other = made / "weights" / "w.safetensors", made / "other.safetensors"
    right, wrong = (load_encoder(made / f"{name}.safetensors").sha256 for name in ("big", "other"))
    said = f"{right}, and {other} has {wrong}; give the other one with "
    for model in (Segmenter, Promptable):
        with pytest.raises(CheckpointError, match=re.escape(said + "encoder='PATH'")):
            model.from_pretrained(weights, encoder=other)
    command = ["prompt", str(picture), "--point", "40,40", "-o", str(tmp_path / "out")]
    assert main([*command, "--model", str(weights), "--encoder", str(other)]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if right in line]
    assert said + "--encoder PATH" in line


def test_weights_without_an_encoder_take_none(made, tmp_path):
    path = tmp_path / "seggpt.safetensors"
    save_drawn(path, SegGPT, tiny_seggpt())
    with pytest.raises(PromptError, match=r"encoder='.*big\.safetensors' is for in-context models"):
        Segmenter.from_pretrained(path, encoder=made / "big.safetensors")
