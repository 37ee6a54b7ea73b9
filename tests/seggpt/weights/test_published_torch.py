"""The published implementations write a checkpoint, and we must find every number in it."""

import argparse

import numpy as np
import pytest

from seggpt.weights import load_published
from seggpt.weights.tree import flatten

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.torch

DEPTH, WIDTH, PATCH, DECODER = 4, 16, 4, 3


@pytest.fixture(scope="module")
def model():
    config = transformers.SegGptConfig(
        hidden_size=WIDTH,
        num_hidden_layers=DEPTH,
        num_attention_heads=4,
        image_size=[24, 12],
        patch_size=PATCH,
        pretrain_image_size=8,
        mlp_dim=40,
        decoder_hidden_size=DECODER,
        merge_index=1,
        intermediate_hidden_state_indices=[1, 2, 3],
    )
    torch.manual_seed(0)
    model = transformers.SegGptForImageSegmentation(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # the library starts some of them at zero
            parameter.copy_(torch.randn_like(parameter))
    return model


def expected_params(model):
    """Read our arrays off the modules: by what they compute, not by their names."""

    def array(tensor):
        return tensor.detach().numpy()

    embed, encoder, decoder = model.model.embeddings, model.model.encoder, model.decoder
    patch = embed.patch_embeddings.projection
    params = {
        "vit.patch_embed.kernel": np.einsum("dcyx->yxcd", array(patch.weight)).reshape(-1, WIDTH),
        "vit.patch_embed.bias": array(patch.bias),
        "vit.pos_embed": array(embed.position_embeddings)[0, 1:].reshape(2, 2, WIDTH),
        "mask_token": array(embed.mask_token).ravel(),
        "segment_token_x": array(embed.segment_token_input).ravel(),
        "segment_token_y": array(embed.segment_token_prompt).ravel(),
        "type_token_semantic": array(embed.type_token_semantic).ravel(),
        "type_token_instance": array(embed.type_token_instance).ravel(),
        "decoder.conv.kernel": np.einsum("oiyx->yxio", array(decoder.decoder_pred.conv.weight)),
        "decoder.conv.bias": array(decoder.decoder_pred.conv.bias),
        "decoder.head.kernel": array(decoder.decoder_pred.head.weight)[:, :, 0, 0].T,
        "decoder.head.bias": array(decoder.decoder_pred.head.bias),
    }
    linears = {"decoder.embed": decoder.decoder_embed}
    norms = {"norm": encoder.layernorm, "decoder.norm": decoder.decoder_pred.layernorm}
    for i, layer in enumerate(encoder.layers):
        block = f"vit.blocks.{i}"
        params[f"{block}.attn.rel_pos_h"] = array(layer.attention.rel_pos_h)
        params[f"{block}.attn.rel_pos_w"] = array(layer.attention.rel_pos_w)
        linears |= {
            f"{block}.attn.qkv": layer.attention.qkv,
            f"{block}.attn.proj": layer.attention.proj,
        }
        linears |= {f"{block}.mlp.fc1": layer.mlp.lin1, f"{block}.mlp.fc2": layer.mlp.lin2}
        norms |= {f"{block}.norm1": layer.layernorm_before, f"{block}.norm2": layer.layernorm_after}
    for name, module in linears.items():
        params |= {f"{name}.kernel": array(module.weight).T, f"{name}.bias": array(module.bias)}
    for name, module in norms.items():
        params |= {f"{name}.scale": array(module.weight), f"{name}.bias": array(module.bias)}
    return params


def assert_loaded(path, model, dialect, **options):
    weights = load_published(path, **options)
    expected, found = expected_params(model), flatten(weights.params)
    assert found.keys() == expected.keys()
    assert len(found) == len(model.state_dict())
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)
    assert weights.metadata["dialect"] == dialect
    assert weights.config["image_size"] == 12
    assert weights.config["heads"] == 4
    assert weights.config["mlp_ratio"] == 2.5
    return weights.config


@pytest.mark.parametrize("shard_size", ["5GB", "10KB"])
def test_what_hugging_face_saves_is_read(tmp_path, model, shard_size):
    model.save_pretrained(tmp_path, max_shard_size=shard_size)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (shard_size == "10KB")
    config = assert_loaded(tmp_path, model, "huggingface", family="seggpt")
    assert (config["merge_block"], config["taps"]) == (1, [1, 2, 3])


def authors_name(name):
    """Undo convert_seggpt_to_hf.py of transformers, written down here a second time."""
    exact = {
        "segment_token_input": "segment_token_x",
        "segment_token_prompt": "segment_token_y",
        "type_token_semantic": "type_token_cls",
        "type_token_instance": "type_token_ins",
        "position_embeddings": "pos_embed",
    }
    steps = (
        ("model.embeddings.patch_embeddings.projection.", "patch_embed.proj."),
        ("model.encoder.layernorm.", "norm."),
        ("model.encoder.layers.", "blocks."),
        ("model.embeddings.", ""),
        ("layernorm_before", "norm1"),
        ("layernorm_after", "norm2"),
        ("attention.", "attn."),
        ("mlp.lin", "mlp.fc"),
        ("decoder.decoder_embed", "decoder_embed"),
        ("decoder.decoder_pred.conv", "decoder_pred.0"),
        ("decoder.decoder_pred.layernorm", "decoder_pred.1"),
        ("decoder.decoder_pred.head", "decoder_pred.3"),
    )
    for old, new in steps:
        name = name.replace(old, new)
    return exact.get(name, name)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_the_authors_save_is_read(tmp_path, model, dtype):
    state = {
        authors_name(name): tensor.to(getattr(torch, dtype))
        for name, tensor in model.state_dict().items()
    }
    options = argparse.Namespace(lr=1e-3, output_dir="x")
    torch.save({"model": state, "epoch": 9, "args": options}, tmp_path / "x.pth")
    assert_loaded(tmp_path / "x.pth", model, "authors")


def test_a_training_state_is_read(tmp_path, model):
    """Parameters, an optimiser's state, a scaler and numpy numbers, as MAE's trainer saves them."""
    optimizer = torch.optim.AdamW(model.parameters())
    torch.stack([parameter.sum() for parameter in model.parameters()]).sum().backward()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer.step()
    model.load_state_dict(before)
    checkpoint = {
        "model": {authors_name(name): parameter for name, parameter in model.named_parameters()},
        "optimizer": optimizer.state_dict(),
        "scaler": {"scale": 65536.0, "_growth_tracker": 0},
        "best": np.float64(0.5),
        "args": argparse.Namespace(betas=(0.9, 0.95)),
    }
    torch.save(checkpoint, tmp_path / "x.pth")
    assert_loaded(tmp_path / "x.pth", model, "authors")
