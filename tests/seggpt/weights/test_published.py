import json
import re
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from seggpt.errors import CheckpointError
from seggpt.weights import detect_family, load_published, load_weights, save_weights
from seggpt.weights.names import name_table
from seggpt.weights.shapes import infer_config
from seggpt.weights.tree import flatten

GOLDEN = Path(__file__).parent / "golden"
CONFIG = {
    "image_size": 32,
    "patch_size": 8,
    "width": 8,
    "depth": 4,
    "heads": 2,
    "mlp_ratio": 2.0,
    "pos_grid": [3, 3],
    "decoder_width": 2,
    "merge_block": 0,
    "taps": [0, 1, 2, 3],
    "attention": "mutual",
    "type_tokens": True,
    "rel_pos": True,
    "activation": "gelu",
}


def expected_params(state, *, depth=4, type_tokens=True):
    """Say what each of our arrays is, from the authors' names, array by array."""
    linear = {"decoder.embed.kernel": "decoder_embed.weight"}
    same = {
        "vit.patch_embed.bias": "patch_embed.proj.bias",
        "decoder.embed.bias": "decoder_embed.bias",
    }
    for i in range(depth):
        for part in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"):
            linear[f"vit.blocks.{i}.{part}.kernel"] = f"blocks.{i}.{part}.weight"
            same[f"vit.blocks.{i}.{part}.bias"] = f"blocks.{i}.{part}.bias"
        for part in ("norm1", "norm2"):
            same[f"vit.blocks.{i}.{part}.scale"] = f"blocks.{i}.{part}.weight"
            same[f"vit.blocks.{i}.{part}.bias"] = f"blocks.{i}.{part}.bias"
        for part in ("attn.rel_pos_h", "attn.rel_pos_w"):
            same[f"vit.blocks.{i}.{part}"] = f"blocks.{i}.{part}"
    for ours, theirs in (("norm", "norm"), ("decoder.norm", "decoder_pred.1")):
        same |= {f"{ours}.scale": f"{theirs}.weight", f"{ours}.bias": f"{theirs}.bias"}
    same |= {"decoder.conv.bias": "decoder_pred.0.bias", "decoder.head.bias": "decoder_pred.3.bias"}
    params = {ours: state[theirs] for ours, theirs in same.items()}
    params |= {ours: state[theirs].T for ours, theirs in linear.items()}
    tokens = {name: name for name in ("mask_token", "segment_token_x", "segment_token_y")}
    if type_tokens:
        tokens |= {"type_token_semantic": "type_token_cls", "type_token_instance": "type_token_ins"}
    params |= {ours: state[theirs][0, 0, 0] for ours, theirs in tokens.items()}

    patch = state["patch_embed.proj.weight"]
    side = patch.shape[-1]
    rows = [patch[:, c, y, x] for y in range(side) for x in range(side) for c in range(3)]
    table = state["pos_embed"][0, 1:]
    grid = int(len(table) ** 0.5)
    params["vit.patch_embed.kernel"] = np.stack(rows)
    params["vit.pos_embed"] = np.stack([table[y * grid : (y + 1) * grid] for y in range(grid)])
    conv, head = state["decoder_pred.0.weight"], state["decoder_pred.3.weight"]
    kernel = np.zeros((3, 3, conv.shape[1], conv.shape[0]), conv.dtype)
    for out in range(conv.shape[0]):
        for into in range(conv.shape[1]):
            kernel[:, :, into, out] = conv[out, into]
    params["decoder.conv.kernel"] = kernel
    params["decoder.head.kernel"] = head[:, :, 0, 0].T
    return params


def assert_params_equal(params, expected):
    flat = flatten(params)
    assert flat.keys() == expected.keys()
    for name, array in flat.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)
        assert array.dtype == np.float32
        assert array.flags.c_contiguous
        assert array.flags.writeable


def rename(state, *, type_tokens=True):
    """Give the authors' tensors Hugging Face's names."""
    tables = [
        name_table(dialect=dialect, depth=4, type_tokens=type_tokens)
        for dialect in ("authors", "huggingface")
    ]
    return {new.theirs: state[old.theirs] for old, new in zip(*tables, strict=True)}


@pytest.fixture(scope="module")
def state(build):
    return build.state("authors")


def test_an_authors_pth_is_read(tmp_path, build, state):
    (tmp_path / "seggpt.pth").write_bytes(build.pth(state))
    weights = load_published(tmp_path / "seggpt.pth", family="seggpt")
    assert_params_equal(weights.params, expected_params(state))
    assert weights.config == CONFIG
    assert weights.metadata == {"family": "seggpt", "dialect": "authors", "source": "seggpt.pth"}


@pytest.mark.parametrize("wrapper", ["model", None])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_wrappers_and_parallel_prefixes_are_taken_off(tmp_path, build, state, wrapper, prefix):
    prefixed = {prefix + name: array for name, array in state.items()}
    (tmp_path / "x.pth").write_bytes(build.pth(prefixed, wrapper=wrapper))
    assert_params_equal(load_published(tmp_path / "x.pth").params, expected_params(state))


@pytest.mark.parametrize("dialect", ["authors", "huggingface"])
def test_a_lone_safetensors_file_is_read_in_both_dialects(tmp_path, state, dialect):
    stored = state if dialect == "authors" else rename(state)
    save_file(stored, tmp_path / "x.safetensors")
    weights = load_published(tmp_path / "x.safetensors")
    assert_params_equal(weights.params, expected_params(state))
    assert weights.config == CONFIG
    assert weights.metadata["dialect"] == dialect


def write_config(folder, **changes):
    config = {"model_type": "seggpt", "hidden_size": 8, "num_hidden_layers": 4}
    blocks = {"merge_index": 1, "intermediate_hidden_state_indices": [1, 2, 3, 3]}
    (folder / "config.json").write_text(json.dumps(config | blocks | changes))


@pytest.mark.parametrize("target", ["", "model.safetensors"])
def test_a_folder_and_a_file_in_it_take_blocks_from_config_json(tmp_path, state, target):
    save_file(rename(state), tmp_path / "model.safetensors")
    write_config(tmp_path)
    weights = load_published(tmp_path / target)
    assert_params_equal(weights.params, expected_params(state))
    assert weights.config == CONFIG | {"merge_block": 1, "taps": [1, 2, 3, 3]}


def write_shards(folder, state, *, names=("a.safetensors", "b.safetensors")):
    items = list(rename(state).items())
    shards = dict(items[::2]), dict(items[1::2])
    for name, shard in zip(("a.safetensors", "b.safetensors"), shards, strict=True):
        save_file(shard, folder / name)
    weight_map = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    write_config(folder)


def test_shards_are_put_together(tmp_path, state):
    write_shards(tmp_path, state)
    assert_params_equal(load_published(tmp_path).params, expected_params(state))


@pytest.mark.parametrize(
    "name", ["../a.safetensors", "/etc/passwd", "x/a.safetensors", "a\\b.safetensors", "..", 7, []]
)
def test_shards_outside_the_folder_are_refused(tmp_path, state, name):
    write_shards(tmp_path, state, names=("a.safetensors", name))
    with pytest.raises(CheckpointError, match=r"not the name of a shard|no usable weight_map"):
        load_published(tmp_path)


def test_a_missing_shard_is_named(tmp_path, state):
    write_shards(tmp_path, state)
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"b\.safetensors: cannot be opened"):
        load_published(tmp_path)


def test_a_folder_with_a_torch_file_is_read(tmp_path, build, state):
    (tmp_path / "pytorch_model.bin").write_bytes(build.pth(rename(state), wrapper=None))
    write_config(tmp_path)
    weights = load_published(tmp_path)
    assert_params_equal(weights.params, expected_params(state))
    assert weights.config["merge_block"] == 1


def test_a_folder_without_weights_says_what_was_looked_for(tmp_path):
    with pytest.raises(CheckpointError, match=r"no weights in this folder.*model.safetensors"):
        load_published(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a":' * 20000, "\x00"])
def test_an_unreadable_config_json_is_a_checkpoint_error(tmp_path, state, text):
    save_file(rename(state), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json: not"):
        load_published(tmp_path)


def test_a_config_json_that_contradicts_the_shapes_is_refused(tmp_path, state):
    save_file(rename(state), tmp_path / "model.safetensors")
    write_config(tmp_path, hidden_size=1024)
    with pytest.raises(CheckpointError, match="hidden_size is 1024, but 8 is needed"):
        load_published(tmp_path)


def test_the_config_json_of_another_model_is_left_alone(tmp_path, state):
    save_file(state, tmp_path / "x.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "bert", "hidden_size": 7}')
    assert load_published(tmp_path / "x.safetensors").config == CONFIG


def test_torch_made_painter_is_read():
    weights = load_published(GOLDEN / "painter.pth", family="painter")
    assert weights.config["type_tokens"] is False
    assert (weights.config["image_size"], weights.config["patch_size"]) == (12, 4)
    flat, start = flatten(weights.params), 0
    # make_golden.py counts on from one tensor to the next, in this order
    for name, count in [("mask_token", 8), ("segment_token_x", 8), ("segment_token_y", 8)]:
        np.testing.assert_array_equal(flat[name], np.arange(start, start + count))
        start += count
    np.testing.assert_array_equal(
        flat["vit.pos_embed"].reshape(-1), np.arange(start + 8, start + 40)
    )
    patch = np.arange(start + 40, start + 40 + 8 * 3 * 16).reshape(8, 3, 4, 4) % 251
    kernel = flat["vit.patch_embed.kernel"].reshape(4, 4, 3, 8)
    np.testing.assert_array_equal(kernel, np.einsum("dcyx->yxcd", patch))


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.float64])
def test_other_floats_come_back_as_float32(tmp_path, state, dtype):
    stored = {name: array.astype(dtype) for name, array in state.items()}
    save_file(stored, tmp_path / "x.safetensors")
    rounded = {name: array.astype(dtype).astype(np.float32) for name, array in state.items()}
    assert_params_equal(load_published(tmp_path / "x.safetensors").params, expected_params(rounded))


def test_our_own_files_come_back_as_they_are(tmp_path, build, state):
    (tmp_path / "x.pth").write_bytes(build.pth(state))
    first = load_published(tmp_path / "x.pth")
    path = tmp_path / "own.safetensors"
    save_weights(path, first.params, config=first.config, metadata=first.metadata)
    for again in (load_published(path, family="seggpt"), load_weights(path)):
        assert_params_equal(again.params, flatten(first.params))
        assert (again.config, again.metadata) == (first.config, first.metadata)
    with pytest.raises(CheckpointError, match=r"a SegGPT checkpoint.*where Painter was asked for"):
        load_published(path, family="painter")


def test_a_painter_file_is_not_a_seggpt_file(build, tmp_path):
    with pytest.raises(CheckpointError, match=r"a Painter checkpoint.*SegGPT was asked for"):
        load_published(GOLDEN / "painter.pth", family="seggpt")
    save_file(build.state("huggingface"), tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match=r"a SegGPT checkpoint.*Painter was asked for"):
        load_published(tmp_path / "x.safetensors", family="painter")


@pytest.mark.parametrize(
    "name", ["image_encoder.pos_embed", "vision_encoder.pos_embed", "mask_decoder.iou_token.weight"]
)
def test_a_sam_file_says_so(tmp_path, name):
    save_file({name: np.zeros(3, np.float32)}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match=r"a SAM checkpoint.*Predictor"):
        load_published(tmp_path / "x.safetensors")


def test_another_model_is_shown_by_one_of_its_names(tmp_path):
    save_file({"features.0.weight": np.zeros(3, np.float32)}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match=r"not a SegGPT, Painter or SAM.*features.0.weight"):
        load_published(tmp_path / "x.safetensors")


def test_families_are_told_by_names(build, state):
    assert detect_family(state) == "seggpt"
    assert detect_family(rename(state)) == "seggpt"
    assert detect_family(build.state("authors", type_tokens=False)) == "painter"
    assert detect_family({"image_encoder.pos_embed"}) == "sam"
    assert detect_family({"a", "b"}) == "unknown"
    assert detect_family(set()) == "unknown"


def test_everything_that_is_wrong_is_said_at_once(tmp_path, state):
    changed = dict(state)
    for name in ("norm.bias", "mask_token", "blocks.2.norm1.bias", "blocks.1.attn.qkv.weight"):
        del changed[name]
    changed["blocks.0.mlp.fc2.bias"] = np.zeros(9, np.float32)
    changed["decoder_pred.3.bias"] = np.zeros(3, np.int64)
    changed["extra"] = np.zeros(1, np.float32)
    save_file(changed, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError) as caught:
        load_published(tmp_path / "x.safetensors")
    message = str(caught.value)
    assert "\n" not in message
    assert "4 missing (mask_token, blocks.1.attn.qkv.weight, blocks.2.norm1.bias, ...)" in message
    assert "1 unexpected (extra)" in message
    assert (
        "2 of a wrong shape or type (blocks.0.mlp.fc2.bias is (9,) where (8) is needed" in message
    )
    assert "decoder_pred.3.bias does not hold floats" in message


def test_one_type_token_alone_is_missing_the_other(tmp_path, state):
    changed = {name: array for name, array in state.items() if name != "type_token_ins"}
    save_file(changed, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match=r"1 missing \(type_token_ins\)"):
        load_published(tmp_path / "x.safetensors")


@pytest.mark.parametrize("number", ["999999999", "00", "x", "-1"])
def test_strange_block_numbers_are_unexpected_and_cost_nothing(tmp_path, state, number):
    name = f"blocks.{number}.norm1.bias"
    save_file(state | {name: state["norm.bias"]}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match=re.escape(f"1 unexpected ({name})")):
        load_published(tmp_path / "x.safetensors")


def test_names_cannot_write_to_the_terminal(tmp_path, state):
    name = "norm\n\x1b[2Jpwned"
    save_file(state | {name: state["norm.bias"]}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError) as caught:
        load_published(tmp_path / "x.safetensors")
    assert str(caught.value).endswith(r"1 unexpected ('norm\n\x1b[2Jpwned')")


def test_a_missing_block_is_told(tmp_path, state):
    changed = {name: array for name, array in state.items() if not name.startswith("blocks.1.")}
    save_file(changed, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match=r"14 missing \(blocks.1.attn"):
        load_published(tmp_path / "x.safetensors")


def test_tensors_that_share_bytes_are_refused(tmp_path, build):
    """Every tensor a view of one storage: a small file that would become a large model."""
    state = build.state("authors", depth=40)
    items = b""
    count = max(array.size for array in state.values())
    for name, array in state.items():
        stride = tuple(step // 4 for step in array.strides)
        items += build.text(name) + build.tensor(count=count, size=array.shape, stride=stride)
    data = build.zip(build.pickle(b"}(" + items + b"u"), {"0": bytes(4 * count)})
    (tmp_path / "x.pth").write_bytes(data)
    with pytest.raises(CheckpointError, match="share storage"):
        load_published(tmp_path / "x.pth")


def test_entries_that_are_not_tensors_are_named(tmp_path, build):
    body = b"}" + build.text("norm.bias") + b"K\x01s"
    (tmp_path / "x.pth").write_bytes(build.zip(build.pickle(body)))
    with pytest.raises(CheckpointError, match=r"1 of its 1 entries are not tensors.*norm.bias"):
        load_published(tmp_path / "x.pth")


@pytest.mark.parametrize("family", ["seggpt", "painter"])
def test_the_params_are_exactly_those_of_the_model(tmp_path, build, family):
    nnx = pytest.importorskip("flax.nnx")
    config_module = pytest.importorskip("seggpt.config")
    model_module = pytest.importorskip("seggpt.model")
    save_file(build.state("authors", type_tokens=family == "seggpt"), tmp_path / "x.safetensors")
    weights = load_published(tmp_path / "x.safetensors", family=family)
    config = config_module.SegGPTConfig.from_dict(weights.config)
    model = nnx.eval_shape(lambda: model_module.SegGPT(config, rngs=nnx.Rngs(0)))
    wanted = flatten(nnx.as_pure(nnx.state(model, nnx.Param)))
    found = flatten(weights.params)
    assert {name: array.shape for name, array in found.items()} == {
        name: array.shape for name, array in wanted.items()
    }


def test_the_large_preset_is_the_published_one():
    config_module = pytest.importorskip("seggpt.config")
    values = {"d": 1024, "p": 16, "n": 197, "k": 64, "m": 4096, "v": 111, "w": 55, "c": 64, "t": 4}
    for type_tokens, preset in ((True, "large"), (False, "painter")):
        config = infer_config(values, depth=24, type_tokens=type_tokens, published={})
        wanted = getattr(config_module.SegGPTConfig, preset)()
        assert config_module.SegGPTConfig.from_dict(config) == wanted
