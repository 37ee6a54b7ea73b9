"""DINOv2's giant and DINOv3 in their authors' names, and the same under Hugging Face's."""

import re

import numpy as np
import pytest
from safetensors.numpy import save_file

from seggpt.config import EncoderConfig
from seggpt.errors import CheckpointError
from seggpt.weights.encoder import load_encoder, read_encoder_config
from seggpt.weights.tree import flatten

WIDTH, DEPTH, PATCH, REGISTERS, GIANT = 128, 2, 2, 4, 344
KINDS = ("dinov2-giant", "dinov3", "dinov3-plus")
# Hugging Face's names of what is not cut or left out, in either family.
THEIRS = {
    "cls_token": "embeddings.cls_token",
    "storage_tokens": "embeddings.register_tokens",
    "register_tokens": "embeddings.register_tokens",
    "pos_embed": "embeddings.position_embeddings",
}
PARTS = {
    "dinov2-giant": {
        "attn.proj": "attention.output.dense",
        "mlp.w12": "mlp.weights_in",
        "mlp.w3": "mlp.weights_out",
    },
    "dinov3": {
        "attn.proj": "attention.o_proj",
        "mlp.fc1": "mlp.up_proj",
        "mlp.fc2": "mlp.down_proj",
    },
    "dinov3-plus": {
        "attn.proj": "attention.o_proj",
        "mlp.w1": "mlp.gate_proj",
        "mlp.w2": "mlp.up_proj",
        "mlp.w3": "mlp.down_proj",
    },
}


def block_shapes(kind):
    linear = {"attn.qkv": (3 * WIDTH, WIDTH), "attn.proj": (WIDTH, WIDTH)}
    if kind == "dinov2-giant":
        linear |= {"mlp.w12": (2 * GIANT, WIDTH), "mlp.w3": (WIDTH, GIANT)}
    elif kind == "dinov3":
        linear |= {"mlp.fc1": (4 * WIDTH, WIDTH), "mlp.fc2": (WIDTH, 4 * WIDTH)}
    else:
        linear |= {"mlp.w1": (4 * WIDTH, WIDTH), "mlp.w2": (4 * WIDTH, WIDTH)}
        linear |= {"mlp.w3": (WIDTH, 4 * WIDTH)}
    shapes = {f"{name}.weight": shape for name, shape in linear.items()}
    shapes |= {f"{name}.bias": shape[:1] for name, shape in linear.items()}
    shapes |= {f"norm{n}.{array}": (WIDTH,) for n in (1, 2) for array in ("weight", "bias")}
    return shapes | {"ls1.gamma": (WIDTH,), "ls2.gamma": (WIDTH,)}


def draw_authors(kind):
    """Draw random weights under the authors' names."""
    rng = np.random.default_rng(0)
    shapes = {"cls_token": (1, 1, WIDTH), "mask_token": (1, WIDTH)}
    shapes |= {"patch_embed.proj.weight": (WIDTH, 3, PATCH, PATCH)}
    shapes |= {"patch_embed.proj.bias": (WIDTH,), "norm.weight": (WIDTH,), "norm.bias": (WIDTH,)}
    is_third = kind != "dinov2-giant"
    shapes["storage_tokens" if is_third else "register_tokens"] = (1, REGISTERS, WIDTH)
    if not is_third:
        shapes["pos_embed"] = (1, 10, WIDTH)
    for block in range(DEPTH):
        shapes |= {f"blocks.{block}.{name}": shape for name, shape in block_shapes(kind).items()}
    arrays = {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
    if is_third:
        arrays["rope_embed.periods"] = (100.0 ** (np.arange(16) / 16)).astype(np.float32)
        for block in range(DEPTH):
            mask = np.repeat(np.asarray([1, 0, 1], np.float32), WIDTH)
            arrays[f"blocks.{block}.attn.qkv.bias_mask"] = mask
    return arrays


def to_huggingface(arrays, kind):
    """Give the same weights Hugging Face's names."""
    is_third, named = kind != "dinov2-giant", {}
    for name, array in arrays.items():
        if name in ("rope_embed.periods", "mask_token") or name.endswith("bias_mask"):
            continue
        if match := re.fullmatch(r"blocks\.(\d+)\.(.+)\.(\w+)", name):
            block, part, end = match.groups()
            theirs = f"{'' if is_third else 'encoder.'}layer.{block}."
            if part == "attn.qkv":
                middle = "attention.{}_proj" if is_third else "attention.attention.{}"
                letters = "qkv" if is_third else ("query", "key", "value")
                cut = {
                    middle.format(p): a.copy()
                    for p, a in zip(letters, np.split(array, 3), strict=True)
                }
                if is_third and end == "bias":
                    del cut["attention.k_proj"]
                named |= {f"{theirs}{part}.{end}": a for part, a in cut.items()}
            elif part in ("ls1", "ls2"):
                named[f"{theirs}layer_scale{part[-1]}.lambda1"] = array
            else:
                named[f"{theirs}{PARTS[kind].get(part, part)}.{end}"] = array
        elif name.startswith("patch_embed"):
            middle = "" if is_third else ".projection"
            named[f"embeddings.patch_embeddings{middle}.{name.split('.')[-1]}"] = array
        else:
            named[THEIRS.get(name, name if is_third else f"layer{name}")] = array
    return named


def expected_config(kind):
    others = {"registers": REGISTERS, "taps": (0, 1, 1), "heads": 2}
    if kind == "dinov2-giant":
        others |= {"pos_grid": (3, 3), "activation": "swiglu", "mlp_ratio": GIANT / WIDTH}
    else:
        others |= {"positions": "rotary", "norm_epsilon": 1e-5}
        others |= {"activation": "swiglu"} if kind == "dinov3-plus" else {}
    return EncoderConfig(patch_size=PATCH, width=WIDTH, depth=DEPTH, **others)


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def test_both_dialects_are_the_same_encoder(tmp_path, kind):
    arrays = draw_authors(kind)
    save_file(arrays, tmp_path / "authors.safetensors")
    save_file(to_huggingface(arrays, kind), tmp_path / "hf.safetensors")
    authors, theirs = (load_encoder(tmp_path / f"{n}.safetensors") for n in ("authors", "hf"))
    assert authors.config == theirs.config == expected_config(kind)
    assert read_encoder_config(tmp_path / "hf.safetensors") == theirs.config
    flat, others = flatten(authors.params), flatten(theirs.params)
    assert flat.keys() == others.keys()
    for name, array in flat.items():
        np.testing.assert_array_equal(array, others[name], err_msg=name)
    bias = arrays["blocks.1.attn.qkv.bias"].copy()
    if kind != "dinov2-giant":
        bias[WIDTH : 2 * WIDTH] = 0
    np.testing.assert_array_equal(flat["vit.blocks.1.attn.qkv.bias"], bias)
    if kind == "dinov3-plus":
        gate, passed = (arrays[f"blocks.1.mlp.w{n}.weight"].T for n in (1, 2))
        expected = np.concatenate([gate, passed], axis=1)
        np.testing.assert_array_equal(flat["vit.blocks.1.mlp.fc1.kernel"], expected)


def test_what_stands_around_an_encoder_is_left_out(tmp_path, kind):
    arrays = {f"backbone.{name}": array for name, array in draw_authors(kind).items()}
    arrays["backbone.local_cls_norm.weight"] = arrays["backbone.local_cls_norm.bias"] = np.ones(
        WIDTH, np.float32
    )
    save_file(arrays | {"head.bias": np.ones(3, np.float32)}, tmp_path / "x.safetensors")
    assert load_encoder(tmp_path / "x.safetensors").config == expected_config(kind)


def test_an_array_that_is_missing_or_of_another_shape_is_named(tmp_path, kind):
    arrays = draw_authors(kind)
    for name in arrays:
        # Nothing tells a DINOv2 whose registers are missing from one that has none.
        if name in ("mask_token", "norm.weight", "norm.bias") or name.startswith("blocks.0."):
            continue
        others = {other: array for other, array in arrays.items() if other != name}
        longer = np.pad(arrays[name], [(0, 1)] + [(0, 0)] * (arrays[name].ndim - 1))
        changes = [others | {name: longer}] + ([others] if name != "register_tokens" else [])
        for changed in changes:
            save_file(changed, tmp_path / "x.safetensors")
            with pytest.raises(CheckpointError, match=re.escape(name)):
                load_encoder(tmp_path / "x.safetensors")


def test_other_rotary_positions_and_masks_are_refused(tmp_path):
    arrays = draw_authors("dinov3")
    for name, wrong in (("rope_embed.periods", 1.1), ("blocks.1.attn.qkv.bias_mask", np.nan)):
        save_file(arrays | {name: arrays[name] * np.float32(wrong)}, tmp_path / "x.safetensors")
        with pytest.raises(CheckpointError, match=re.escape(name)):
            load_encoder(tmp_path / "x.safetensors")


def test_periods_in_bfloat16_are_taken(tmp_path):
    arrays = draw_authors("dinov3")
    periods = arrays["rope_embed.periods"].view(np.uint32) & 0xFFFF0000
    arrays["rope_embed.periods"] = periods.view(np.float32)
    save_file(arrays, tmp_path / "x.safetensors")
    assert load_encoder(tmp_path / "x.safetensors").config.positions == "rotary"
