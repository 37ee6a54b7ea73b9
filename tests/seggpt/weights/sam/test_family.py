"""SAM's relatives: whose file it is, what is wrong with it, and whose files are not read."""

import math

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from seggpt.config import SAMConfig
from seggpt.errors import CheckpointError
from seggpt.weights import load_published, save_weights
from seggpt.weights.names import Dialect
from seggpt.weights.sam.family import recognise_relative
from seggpt.weights.sam.family_names import (
    efficient_name_table,
    hq_name_table,
    stage_widths,
    tiny_vit_name_table,
)
from seggpt.weights.sam.names import heads_name_table, sam_name_table
from seggpt.weights.shapes import spell_shape
from seggpt.weights.tree import flatten
from tests.seggpt.weights.sam.test_names import GOLDEN

# Of small models; those of the heads are the recorded SAM's.
LETTERS = {"d": 24, "z": 2, "i": 4, "u": 24, "p": 4, "g": 6, "k": 12, "m": 48, "e": 4, "n": 10}
LETTERS |= {"w1": 12, "w2": 16, "h1": 2, "h2": 2, "h3": 3, "v1": 9, "v2": 16, "v3": 9}
LETTERS |= {"r0": 7, "r1": 11}
DEPTHS = (1, 1, 2, 1)


def fill(table, values=LETTERS):
    """Make random tensors, positive so that they may be a norm's spread."""
    rng = np.random.default_rng(0)
    shapes = {name.theirs: spell_shape(name.shape, values=values)[1:-1] for name in table}
    return {
        name: rng.uniform(0.5, 1.5, [int(n) for n in shape.split(", ")]).astype(np.float32)
        for name, shape in shapes.items()
    }


def hq_state(dialect: Dialect = "authors"):
    table = sam_name_table(dialect=dialect, depth=2) + hq_name_table(dialect=dialect, early="d")
    return fill(table)


def mobile_state(*, hq=False):
    table = tiny_vit_name_table(DEPTHS) + heads_name_table(dialect="authors")
    if hq:
        early = stage_widths(len(DEPTHS))[2]
        table = table + hq_name_table(dialect="authors", early=early)
    return fill(table)


def efficient_state():
    return fill(efficient_name_table(2))


STATES = {
    "HQ-SAM": hq_state,
    "MobileSAM": mobile_state,
    "Light HQ-SAM": lambda: mobile_state(hq=True),
    "EfficientSAM": efficient_state,
}


@pytest.mark.parametrize("title", STATES)
def test_a_relative_is_recognised_and_read(tmp_path, build, title):
    state = STATES[title]()
    assert recognise_relative(state).title == title
    (tmp_path / "x.pt").write_bytes(build.pth(state, wrapper=None))
    loaded = load_published(tmp_path / "x.pt", family="sam")
    assert loaded.metadata == {"family": "sam", "dialect": "authors", "source": "x.pt"}
    config = SAMConfig.from_dict(loaded.config)
    assert SAMConfig.from_dict(config.to_dict()) == config
    for name, array in flatten(loaded.params).items():
        assert array.dtype == np.float32, name
        assert array.flags.c_contiguous, name
    own = tmp_path / "own.safetensors"
    save_weights(own, loaded.params, config=loaded.config, metadata=loaded.metadata)
    assert load_published(own, family="sam").config == loaded.config
    with pytest.raises(CheckpointError, match=r"a SAM checkpoint, not SegGPT"):
        load_published(own)


def test_the_published_sizes_are_those_of_the_tables():
    """Counts of the files: 94,806,832 with HQ-SAM's ViT-B, 93,735,728 without; 10 M of 10.2."""
    published = LETTERS | {"d": 768, "z": 32}
    assert count(hq_name_table(dialect="authors", early="d"), published) == 94_806_832 - 93_735_728
    published |= {"d": 192, "p": 16, "n": 197, "m": 768, "u": 2048}
    assert round(count(efficient_name_table(12), published), -5) == 10_200_000


def count(table, values):
    shapes = (spell_shape(name.shape, values=values)[1:-1].split(", ") for name in table)
    return sum(math.prod(map(int, shape)) for shape in shapes)


# Written down a second time, from the authors' files.
HQ_SAMPLES = {
    "mask_decoder.hf_token.weight": ("mask_decoder.hq_token", (1, 16)),
    "mask_decoder.hf_mlp.layers.2.weight": ("mask_decoder.hq_head.layers.2.kernel", (2, 16)),
    "mask_decoder.compress_vit_feat.0.weight": ("fine_early.up1.kernel", (24, 16, 2, 2)),
    "mask_decoder.compress_vit_feat.1.bias": ("fine_early.norm.bias", (16,)),
    "mask_decoder.compress_vit_feat.3.bias": ("fine_early.up2.bias", (2,)),
    "mask_decoder.embedding_encoder.0.weight": ("fine_last.up1.kernel", (16, 4, 2, 2)),
    "mask_decoder.embedding_encoder.3.weight": ("fine_last.up2.kernel", (4, 2, 2, 2)),
    "mask_decoder.embedding_maskfeature.0.weight": ("mask_decoder.hq_conv1.kernel", (4, 2, 3, 3)),
    "mask_decoder.embedding_maskfeature.1.weight": ("mask_decoder.hq_norm.scale", (4,)),
    "mask_decoder.embedding_maskfeature.3.bias": ("mask_decoder.hq_conv2.bias", (2,)),
}


@pytest.mark.parametrize("theirs", HQ_SAMPLES)
def test_tensors_of_hq_sam_go_where_they_belong(tmp_path, theirs):
    ours, shape = HQ_SAMPLES[theirs]
    state = hq_state()
    assert state[theirs].shape == shape
    save_file(state, tmp_path / "x.safetensors")
    found = flatten(load_published(tmp_path / "x.safetensors", family="sam").params)[ours]
    array = state[theirs]
    match theirs.rpartition(".")[2], array.ndim:
        case "weight", 4 if "maskfeature" in theirs:
            array = array.transpose(2, 3, 1, 0)
        case "weight", 4:
            array = array.transpose(0, 2, 3, 1)
        case "weight", 2:
            array = array.T
    np.testing.assert_array_equal(found.reshape(-1), array.reshape(-1))


def test_both_dialects_of_hq_sam_are_one_model(tmp_path):
    theirs = hq_state("huggingface")
    tables = [
        sam_name_table(dialect=dialect, depth=2) + hq_name_table(dialect=dialect, early="d")
        for dialect in ("huggingface", "authors")
    ]
    renamed = {b.theirs: theirs[a.theirs] for a, b in zip(*tables, strict=True)}
    found = []
    for name, state in (("a", theirs), ("b", renamed)):
        (tmp_path / name).mkdir()
        save_file(state, tmp_path / name / "model.safetensors")
        found.append(load_published(tmp_path / name, family="sam"))
    assert [weights.metadata["dialect"] for weights in found] == ["huggingface", "authors"]
    one, other = (flatten(weights.params) for weights in found)
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_what_mobile_sam_does_not_use_may_be_there(tmp_path, build):
    state = mobile_state()
    spare = {"image_encoder.head.weight": (5, 24), "image_encoder.norm_head.bias": (24,)}
    spare |= {"image_encoder.patch_embed.seq.0.bn.num_batches_tracked": ()}
    save_file(
        state | {n: np.zeros(s, np.float32) for n, s in spare.items()}, tmp_path / "x.safetensors"
    )
    load_published(tmp_path / "x.safetensors", family="sam")


def test_everything_that_is_wrong_with_a_relative_is_said(tmp_path):
    state = mobile_state()
    del state["image_encoder.layers.1.blocks.0.attn.attention_biases"]
    state["image_encoder.layers.3.blocks.0.local_conv.bn.running_var"] = np.ones(7, np.float32)
    save_file(state | {"image_encoder.x": np.zeros(1, np.float32)}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError) as caught:
        load_published(tmp_path / "x.safetensors", family="sam")
    message = str(caught.value)
    assert "not a usable MobileSAM checkpoint" in message
    assert "1 missing (image_encoder.layers.1.blocks.0.attn.attention_biases)" in message
    assert "1 unexpected (image_encoder.x)" in message
    assert "running_var is (7,) where (24) is needed" in message


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"v2": 15}, "a table of 15 biases is of no square window"),
        ({"h3": 5}, "a width of 24 does not divide into heads of 5"),
        ({"z": 3}, "a mask decoder of width 24 does not divide into 8"),
    ],
)
def test_shapes_of_no_mobile_sam_are_refused(tmp_path, change, said):
    table = tiny_vit_name_table(DEPTHS) + heads_name_table(dialect="authors")
    save_file(fill(table, LETTERS | change), tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match=said):
        load_published(tmp_path / "x.safetensors", family="sam")


def test_batch_norms_become_part_of_the_convolutions(tmp_path):
    state = mobile_state()
    save_file(state, tmp_path / "x.safetensors")
    found = flatten(load_published(tmp_path / "x.safetensors", family="sam").params)
    base = "image_encoder.layers.2.blocks.1.local_conv."
    norm = {part: state[f"{base}bn.{part}"] for part in ("weight", "bias")}
    mean, spread = state[f"{base}bn.running_mean"], state[f"{base}bn.running_var"]
    factor = norm["weight"] / np.sqrt(spread + 1e-5)
    kernel = state[f"{base}c.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_allclose(found["vit.stages.2.1.local.kernel"], kernel * factor, rtol=1e-6)
    bias = norm["bias"] - mean * factor
    np.testing.assert_allclose(found["vit.stages.2.1.local.bias"], bias, rtol=1e-5)
    assert not [name for name in found if "norm_" in name]


UNREAD = {
    "SAM 2": ("image_encoder.trunk.blocks.0.attn.qkv.weight", "sam_mask_decoder.iou_token.weight"),
    "SAM 2 ": ("vision_encoder.backbone.blocks.0.attn.qkv.weight", "no_memory_embedding"),
    "SAM 3": ("detector.backbone.vision_backbone.trunk.pos_embed", "tracker.maskmem_tpos_enc"),
    "SAM 3 ": ("vision_encoder.backbone.layers.0.layer_norm1.weight", "geometry_encoder.x"),
    "SAM 3  ": ("vision_encoder.backbone.layers.0.norm.weight", "mask_decoder.obj_score_token.x"),
    "EdgeTAM": ("image_encoder.trunk.body.stem.weight", "spatial_perceiver.latents"),
    "EfficientViT-SAM": ("image_encoder.backbone.input_stem.op_list.0.conv.weight",),
    "FastSAM": ("model.0.conv.weight", "model.22.cv4.0.0.conv.weight"),
}


@pytest.mark.parametrize("title", UNREAD)
def test_relatives_that_are_not_read_are_named(tmp_path, title):
    path = tmp_path / "x.safetensors"
    save_file({name: np.zeros(1, np.float32) for name in UNREAD[title]}, path)
    said = rf"a {title.strip()} checkpoint, which is not read; .*HQ-SAM, MobileSAM and EfficientSAM"
    for family in ("sam", None):
        with pytest.raises(CheckpointError, match=said):
            load_published(path, family=family)


def test_sam_itself_is_no_relative():
    assert recognise_relative(load_file(GOLDEN / "model.safetensors")).title == "SAM"
    fields = load_published(GOLDEN, family="sam").config
    assert not {"decoder", "stages", "pos_side"} & fields.keys()
    assert not {"decoder", "stages", "pos_side"} & SAMConfig.from_dict(fields).to_dict().keys()
