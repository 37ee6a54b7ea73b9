"""Weights that transformers' DINOv2 writes make ours compute the same."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from seggpt.encoder import Encoder
from seggpt.weights.encoder import load_encoder

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.torch

DEPTH, PATCH = 3, 4


@pytest.fixture(scope="module", params=["Dinov2", "Dinov2WithRegisters"])
def reference(request):
    make_config = getattr(transformers, f"{request.param}Config")
    config = make_config(
        hidden_size=32,
        num_hidden_layers=DEPTH,
        num_attention_heads=2,
        patch_size=PATCH,
        image_size=8 * PATCH,
    )
    torch.manual_seed(0)
    model = getattr(transformers, f"{request.param}Model")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # the library starts some of them at zero or one
            parameter.copy_(0.4 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("size", [(20, 20), (24, 44)])
def test_every_block_equals_transformers(tmp_path, reference, size):
    reference.save_pretrained(tmp_path)
    loaded = load_encoder(tmp_path)
    assert loaded.config.registers == getattr(reference.config, "num_register_tokens", 0)
    encoder = Encoder(
        dataclasses.replace(loaded.config, taps=tuple(range(DEPTH))), rngs=nnx.Rngs(0)
    )
    encoder = nnx.merge(nnx.graphdef(encoder), jax.tree.map(jnp.asarray, loaded.params))
    image = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
    with torch.no_grad():
        pixels = torch.tensor(image).permute(0, 3, 1, 2)
        states = reference(pixel_values=pixels, output_hidden_states=True).hidden_states
    found = encoder.vit.taps(jnp.asarray(image), range(DEPTH))
    for tokens, state in zip(found, states[1:], strict=True):
        wanted = state[:, 1 + loaded.config.registers :].numpy()
        np.testing.assert_allclose(tokens, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
