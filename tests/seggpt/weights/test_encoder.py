"""Encoders in every dialect and container, and what is said of those that are none."""

import dataclasses
import hashlib
import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import save_file

from seggpt.config import ENCODERS, EncoderConfig
from seggpt.errors import CheckpointError
from seggpt.pretrained import ENCODER, find_encoder, shipped_weights
from seggpt.weights import save_weights
from seggpt.weights.encoder import load_encoder
from seggpt.weights.tree import flatten

WIDTH, DEPTH, PATCH, SIDE, REGISTERS = 128, 3, 2, 3, 2
PARTS = {  # of a block: the authors' name, Hugging Face's, and the shape of the weight
    "norm1.weight": ("norm1.weight", (WIDTH,)),
    "norm1.bias": ("norm1.bias", (WIDTH,)),
    "attn.proj.weight": ("attention.output.dense.weight", (WIDTH, WIDTH)),
    "attn.proj.bias": ("attention.output.dense.bias", (WIDTH,)),
    "ls1.gamma": ("layer_scale1.lambda1", (WIDTH,)),
    "norm2.weight": ("norm2.weight", (WIDTH,)),
    "norm2.bias": ("norm2.bias", (WIDTH,)),
    "mlp.fc1.weight": ("mlp.fc1.weight", (4 * WIDTH, WIDTH)),
    "mlp.fc1.bias": ("mlp.fc1.bias", (4 * WIDTH,)),
    "mlp.fc2.weight": ("mlp.fc2.weight", (WIDTH, 4 * WIDTH)),
    "mlp.fc2.bias": ("mlp.fc2.bias", (WIDTH,)),
    "ls2.gamma": ("layer_scale2.lambda1", (WIDTH,)),
}
OUTSIDE = {  # of the blocks
    "cls_token": ("embeddings.cls_token", (1, 1, WIDTH)),
    "pos_embed": ("embeddings.position_embeddings", (1, SIDE**2 + 1, WIDTH)),
    "patch_embed.proj.weight": (
        "embeddings.patch_embeddings.projection.weight",
        (WIDTH, 3, PATCH, PATCH),
    ),
    "patch_embed.proj.bias": ("embeddings.patch_embeddings.projection.bias", (WIDTH,)),
    "mask_token": ("embeddings.mask_token", (1, WIDTH)),
    "norm.weight": ("layernorm.weight", (WIDTH,)),
    "norm.bias": ("layernorm.bias", (WIDTH,)),
}


@pytest.fixture(scope="module")
def meta() -> dict[str, np.ndarray]:
    """Random weights under the authors' names."""
    rng = np.random.default_rng(0)
    shapes = {name: shape for name, (_, shape) in OUTSIDE.items()}
    for block in range(DEPTH):
        shapes |= {f"blocks.{block}.{name}": shape for name, (_, shape) in PARTS.items()}
        shapes[f"blocks.{block}.attn.qkv.weight"] = (3 * WIDTH, WIDTH)
        shapes[f"blocks.{block}.attn.qkv.bias"] = (3 * WIDTH,)
    return {name: rng.standard_normal(s).astype(np.float32) for name, s in shapes.items()}


def to_huggingface(meta):
    """Give the same weights Hugging Face's names."""
    named = {theirs: meta[name] for name, (theirs, _) in OUTSIDE.items()}
    if "register_tokens" in meta:
        named["embeddings.register_tokens"] = meta["register_tokens"]
    for block in range(DEPTH):
        ours, theirs = f"blocks.{block}.", f"encoder.layer.{block}."
        named |= {theirs + other: meta[ours + name] for name, (other, _) in PARTS.items()}
        for array in ("weight", "bias"):
            parts = np.split(meta[f"{ours}attn.qkv.{array}"], 3)
            for part, name in zip(parts, ("query", "key", "value"), strict=True):
                named[f"{theirs}attention.attention.{name}.{array}"] = part.copy()
    return named


def expected_params(meta):
    """Say what each of our arrays is, array by array."""
    position = meta["pos_embed"][0]
    patch = meta["patch_embed.proj.weight"]
    pixels = [patch[:, c, y, x] for y in range(PATCH) for x in range(PATCH) for c in range(3)]
    prefix = [meta["cls_token"][0] + position[:1], *meta.get("register_tokens", [])]
    params = {
        "vit.prefix_tokens": np.concatenate(prefix),
        "vit.pos_embed": position[1:].reshape(SIDE, SIDE, WIDTH),
        "vit.patch_embed.kernel": np.stack(pixels),
        "vit.patch_embed.bias": meta["patch_embed.proj.bias"],
    }
    for block in range(DEPTH):
        ours, theirs = f"vit.blocks.{block}.", f"blocks.{block}."
        for part in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"):
            params[f"{ours}{part}.kernel"] = meta[f"{theirs}{part}.weight"].T
            params[f"{ours}{part}.bias"] = meta[f"{theirs}{part}.bias"]
        for number in (1, 2):
            params[f"{ours}norm{number}.scale"] = meta[f"{theirs}norm{number}.weight"]
            params[f"{ours}norm{number}.bias"] = meta[f"{theirs}norm{number}.bias"]
            params[f"{ours}scale{number}"] = meta[f"{theirs}ls{number}.gamma"]
    return params


def assert_loads(path, meta, **changes):
    """Load an encoder and compare it with the weights that it was made of."""
    loaded = load_encoder(path)
    flat, expected = flatten(loaded.params), expected_params(meta)
    assert flat.keys() == expected.keys()
    for name, array in flat.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)
        assert array.dtype == np.float32
    assert loaded.config == dataclasses.replace(CONFIG, **changes)
    return loaded


CONFIG = EncoderConfig(
    patch_size=PATCH, width=WIDTH, depth=DEPTH, heads=2, pos_grid=(SIDE, SIDE), taps=(1, 2, 2)
)


def with_registers(meta):
    tokens = np.random.default_rng(1).standard_normal((1, REGISTERS, WIDTH)).astype(np.float32)
    return meta | {"register_tokens": tokens}


def test_an_authors_pth_is_read(tmp_path, build: SimpleNamespace, meta):
    path = tmp_path / "dinov2.pth"
    path.write_bytes(build.pth(meta, wrapper=None))
    loaded = assert_loads(path, meta)
    assert loaded.metadata == {"source": "dinov2.pth"}
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("dialect", ["authors", "huggingface"])
def test_registers_are_read_in_both_dialects(tmp_path, meta, dialect):
    meta = with_registers(meta)
    save_file(meta if dialect == "authors" else to_huggingface(meta), tmp_path / "x.safetensors")
    assert_loads(tmp_path / "x.safetensors", meta, registers=REGISTERS)


@pytest.mark.parametrize("prefix", ["", "dinov2.", "backbone.", "module.backbone."])
def test_prefixes_are_taken_off(tmp_path, meta, prefix):
    stored = {prefix + name: array for name, array in to_huggingface(meta).items()}
    save_file(stored, tmp_path / "x.safetensors")
    assert_loads(tmp_path / "x.safetensors", meta)


def test_other_parts_of_a_network_are_left_out_and_counted(tmp_path, meta, caplog):
    stored = {"dinov2." + name: array for name, array in to_huggingface(meta).items()}
    save_file(stored | {"classifier.weight": np.zeros(3, np.float32)}, tmp_path / "x.safetensors")
    with caplog.at_level(logging.INFO, "seggpt"):
        assert_loads(tmp_path / "x.safetensors", meta)
    assert "1 tensors are not the encoder's and left out" in caplog.text


def test_a_teacher_with_blocks_in_chunks_is_read(tmp_path, build: SimpleNamespace, meta):
    chunks = {"blocks.0.": "blocks.0.0.", "blocks.1.": "blocks.0.1.", "blocks.2.": "blocks.1.2."}
    stored = {"dino_head.last_layer.weight": np.zeros((2, 2), np.float32)}
    for name, array in meta.items():
        start = name[:9]
        stored[f"backbone.{chunks.get(start, start)}{name[9:]}"] = array
    (tmp_path / "x.pth").write_bytes(build.pth(stored, wrapper="teacher"))
    assert_loads(tmp_path / "x.pth", meta)


def write_config(folder, **changes):
    config = {"model_type": "dinov2", "hidden_size": WIDTH, "num_attention_heads": 4}
    (folder / "config.json").write_text(json.dumps(config | {"mlp_ratio": 4} | changes))


def test_a_folder_says_how_many_heads_there_are(tmp_path, meta):
    save_file(to_huggingface(meta), tmp_path / "model.safetensors")
    write_config(tmp_path)
    loaded = assert_loads(tmp_path, meta, heads=4)
    assert loaded.sha256 == assert_loads(tmp_path / "model.safetensors", meta, heads=4).sha256


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 64}, "hidden_size is 64, but 128 is needed"),
        ({"image_size": 224}, "image_size is 224, but 6 is needed"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ({"use_swiglu_ffn": True}, "use_swiglu_ffn is True"),
        ({"num_attention_heads": "4"}, "num_attention_heads is '4', but 2 is needed"),
        ({"num_attention_heads": 3}, "not a multiple of heads 3"),
        ({"num_register_tokens": 4}, "num_register_tokens is 4, but 0 is needed"),
    ],
)
def test_a_config_json_that_contradicts_is_refused(tmp_path, meta, changes, message):
    save_file(to_huggingface(meta), tmp_path / "model.safetensors")
    write_config(tmp_path, **changes)
    with pytest.raises(CheckpointError, match=message):
        load_encoder(tmp_path)


def test_shards_have_a_checksum_of_them_all(tmp_path, meta):
    items = list(to_huggingface(meta).items())
    shards = {"a.safetensors": dict(items[::2]), "b.safetensors": dict(items[1::2])}
    for name, shard in shards.items():
        save_file(shard, tmp_path / name)
    weight_map = {key: name for name, shard in shards.items() for key in shard}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    before = assert_loads(tmp_path, meta).sha256
    save_file(shards["b.safetensors"] | {"layernorm.bias": np.zeros(WIDTH, np.float32)},
              tmp_path / "b.safetensors")  # fmt: skip
    weight_map["layernorm.bias"] = "b.safetensors"
    shards["a.safetensors"].pop("layernorm.bias", None)
    save_file(shards["a.safetensors"], tmp_path / "a.safetensors")
    assert assert_loads(tmp_path, meta).sha256 != before


def test_everything_that_is_wrong_is_said_once(tmp_path, meta):
    broken = dict(meta)
    del broken["blocks.1.ls1.gamma"], broken["cls_token"]
    broken["head.weight"] = np.zeros(2, np.float32)
    broken["blocks.0.mlp.fc2.bias"] = np.zeros(7, np.float32)
    save_file(broken, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError) as caught:
        load_encoder(tmp_path / "x.safetensors")
    said = str(caught.value)
    assert "2 missing (cls_token, blocks.1.ls1.gamma)" in said
    assert "1 unexpected (head.weight)" in said
    assert "blocks.0.mlp.fc2.bias is (7,) where (128) is needed" in said
    assert "\n" not in said


def test_a_block_that_is_skipped_is_missing(tmp_path, meta):
    gap = {name: array for name, array in meta.items() if not name.startswith("blocks.1.")}
    save_file(gap, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match=r"14 missing \(blocks.1.norm1.weight.*14 unexpected"):
        load_encoder(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pos_embed": np.zeros((1, 9, WIDTH), np.float32)}, "9 rows is not a square"),
        ({"other.cls_token": np.zeros(1, np.float32)}, "more than one encoder"),
    ],
)
def test_what_shapes_and_names_contradict_is_refused(tmp_path, meta, change, message):
    save_file(meta | change, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match=message):
        load_encoder(tmp_path / "x.safetensors")


def test_another_model_is_no_encoder(tmp_path):
    save_file({"a.weight": np.zeros(3, np.float32)}, tmp_path / "x.safetensors")
    with pytest.raises(
        CheckpointError, match=r"not a ViT of DINOv2 or DINOv3; it holds 1 tensors such"
    ):
        load_encoder(tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="not the fields of an encoder"):
        load_encoder(shipped_weights()["seggpt-small"])
    with pytest.raises(CheckpointError, match="no such file, and no shipped encoder of that name"):
        load_encoder("dinov2-huge")


def test_our_own_files_come_back_as_they_are(tmp_path, meta):
    save_file(meta, tmp_path / "x.safetensors")
    first = load_encoder(tmp_path / "x.safetensors")
    fields = first.config.to_dict()
    path = tmp_path / "own.safetensors"
    save_weights(path, first.params, config=fields, metadata={"note": "a"})
    assert assert_loads(path, meta).metadata == {"note": "a"}
    save_weights(path, first.params, config=fields | {"registers": 1})
    with pytest.raises(CheckpointError, match=r"own\.safetensors: vit.prefix_tokens is"):
        load_encoder(path)
    save_weights(path, first.params, config=fields | {"depth": 0})
    with pytest.raises(CheckpointError, match=r"own\.safetensors: depth 0 is not above 0"):
        load_encoder(path)


def test_the_shipped_encoder_has_a_name_and_is_no_segmenter():
    assert ENCODER.stem not in shipped_weights()
    assert find_encoder() == find_encoder("dinov2-small") == ENCODER
    loaded = load_encoder("dinov2-small")
    assert loaded.config == ENCODERS["dinov2-small"]
    assert loaded.sha256 == hashlib.sha256(ENCODER.read_bytes()).hexdigest()
    assert "on what data is not stated" in loaded.metadata["note"]
    card = ENCODER.with_suffix(".md").read_text(encoding="utf-8")
    assert loaded.sha256 in card
    assert loaded.metadata["source_sha256"] in card
