"""Weights that transformers' DINOv2 and DINOv3 write make ours compute the same."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from seggpt.encoder import Encoder
from seggpt.errors import CheckpointError
from seggpt.weights.encoder import load_encoder
from tests.jitting import jitted

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.torch

DEPTH, PATCH, WIDTH = 3, 4, 32
THIRD = {"num_register_tokens": 4, "intermediate_size": 4 * WIDTH}
MODELS = {
    "dinov2": ("Dinov2", {}),
    "dinov2-giant": ("Dinov2", {"use_swiglu_ffn": True}),
    "dinov2-registers": ("Dinov2WithRegisters", {}),
    "dinov2-giant-registers": ("Dinov2WithRegisters", {"use_swiglu_ffn": True}),
    "dinov3": ("DINOv3ViT", THIRD),
    "dinov3-plus": ("DINOv3ViT", {**THIRD, "use_gated_mlp": True, "hidden_act": "silu"}),
}


@pytest.fixture(scope="module", params=MODELS)
def reference(request):
    name, fields = MODELS[request.param]
    config = getattr(transformers, f"{name}Config")(
        hidden_size=WIDTH,
        num_hidden_layers=DEPTH,
        num_attention_heads=2,
        patch_size=PATCH,
        image_size=8 * PATCH,
        **fields,
    )
    torch.manual_seed(0)
    model = getattr(transformers, f"{name}Model")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # the library starts some of them at zero or one
            parameter.copy_(0.4 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module")
def folder(reference, tmp_path_factory):
    path = tmp_path_factory.mktemp("published")
    reference.save_pretrained(path)
    return path


def test_every_block_equals_transformers(folder, reference):
    loaded = load_encoder(folder)
    assert loaded.config.registers == getattr(reference.config, "num_register_tokens", 0)
    encoder = Encoder(
        dataclasses.replace(loaded.config, taps=tuple(range(DEPTH))), rngs=nnx.Rngs(0)
    )
    encoder = nnx.merge(nnx.graphdef(encoder), jax.tree.map(jnp.asarray, loaded.params))
    taps = jitted(encoder.vit.taps)
    for size in ((20, 20), (24, 44)):
        image = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
        with torch.no_grad():
            pixels = torch.tensor(image).permute(0, 3, 1, 2)
            states = reference(pixel_values=pixels, output_hidden_states=True).hidden_states
        found = taps(jnp.asarray(image), range(DEPTH))
        for tokens, state in zip(found, states[-DEPTH:], strict=True):
            wanted = state[:, 1 + loaded.config.registers :].numpy()
            np.testing.assert_allclose(tokens, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_an_array_that_is_missing_or_of_another_shape_is_named(folder, tmp_path):
    shutil.copy(folder / "config.json", tmp_path)  # it alone knows that there should be registers
    arrays = load_file(folder / "model.safetensors")
    unused = ("embeddings.mask_token", "norm.", "layernorm.")
    for name in arrays:
        if name.startswith(unused) or "layer.0." in name or "layer.1." in name:
            continue
        others = {other: array for other, array in arrays.items() if other != name}
        longer = np.pad(arrays[name], [(0, 1)] + [(0, 0)] * (arrays[name].ndim - 1))
        for changed in (others, others | {name: longer}):
            save_file(changed, tmp_path / "x.safetensors")
            with pytest.raises(CheckpointError, match=name.removeprefix("embeddings.")):
                load_encoder(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("field", "value"), [("layer_norm_eps", 1e-4), ("rope_theta", 10.0), ("hidden_act", "relu")]
)
def test_a_config_json_that_asks_for_something_else_is_refused(folder, tmp_path, field, value):
    published = json.loads((folder / "config.json").read_text())
    if field not in published:
        pytest.skip("positions are a table")
    (tmp_path / "config.json").write_text(json.dumps(published | {field: value}))
    save_file(load_file(folder / "model.safetensors"), tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=f"{field} is"):
        load_encoder(tmp_path)
