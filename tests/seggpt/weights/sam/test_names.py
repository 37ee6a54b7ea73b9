"""SAM's weights: the authors' and Hugging Face's names, and what is wrong with a file."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from seggpt.config import SAMConfig
from seggpt.errors import CheckpointError
from seggpt.weights import detect_family, load_published, save_weights
from seggpt.weights.sam.names import TWINS, sam_name_table
from seggpt.weights.tree import flatten

GOLDEN = Path(__file__).parents[2] / "golden" / "sam"
DEPTH = 2


@pytest.fixture(scope="module")
def state() -> dict[str, np.ndarray]:
    """What transformers saved, in its names."""
    return load_file(GOLDEN / "model.safetensors")


@pytest.fixture(scope="module")
def authors(state) -> dict[str, np.ndarray]:
    tables = [
        sam_name_table(dialect=dialect, depth=DEPTH) for dialect in ("huggingface", "authors")
    ]
    return {new.theirs: state[old.theirs] for old, new in zip(*tables, strict=True)}


def saved(folder: Path, state: dict[str, np.ndarray], *, drop=(), **changes: np.ndarray) -> Path:
    path = folder / "x.safetensors"
    kept = {name: array for name, array in state.items() if name not in drop}
    save_file(kept | changes, path)
    return path


def test_a_hugging_face_folder_is_read():
    weights = load_published(GOLDEN, family="sam")
    config = SAMConfig.from_dict(weights.config)
    assert (config.image_size, config.patch_size, config.depth, config.heads) == (24, 4, 2, 2)
    assert (config.window_size, config.global_blocks) == (4, (1,))
    assert (config.prompt_width, config.mask_width, config.decoder_mlp) == (16, 16, 24)
    assert weights.metadata == {"family": "sam", "dialect": "huggingface", "source": "sam"}


@pytest.mark.parametrize("wrapper", ["model", None])
def test_an_authors_pth_is_the_same_model(tmp_path, build, authors, wrapper):
    (tmp_path / "sam_vit_b.pth").write_bytes(build.pth(authors, wrapper=wrapper))
    ours = load_published(tmp_path / "sam_vit_b.pth", family="sam")
    theirs = load_published(GOLDEN, family="sam")
    assert ours.config == theirs.config
    assert ours.metadata["dialect"] == "authors"
    found, wanted = flatten(ours.params), flatten(theirs.params)
    assert found.keys() == wanted.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, wanted[name], err_msg=name)
        assert array.flags.c_contiguous
        assert array.dtype == np.float32


# Written down a second time, from segment_anything/modeling: names, shapes, and what is turned.
SAMPLES = {
    "vit.blocks.1.attn.qkv.kernel": ("image_encoder.blocks.1.attn.qkv.weight", (1, 0)),
    "vit.blocks.1.attn.rel_pos_w": ("image_encoder.blocks.1.attn.rel_pos_w", None),
    "vit.blocks.0.mlp.fc1.bias": ("image_encoder.blocks.0.mlp.lin1.bias", None),
    "neck.conv2.kernel": ("image_encoder.neck.2.weight", (2, 3, 1, 0)),
    "neck.norm2.scale": ("image_encoder.neck.3.weight", None),
    "prompt_encoder.frequencies": (
        "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
        None,
    ),
    "prompt_encoder.mask_embed.norm2.bias": ("prompt_encoder.mask_downscaling.4.bias", None),
    "mask_decoder.mask_tokens": ("mask_decoder.mask_tokens.weight", None),
    "mask_decoder.transformer.layers.1.to_tokens.out.kernel": (
        "mask_decoder.transformer.layers.1.cross_attn_image_to_token.out_proj.weight",
        (1, 0),
    ),
    "mask_decoder.transformer.final_norm.scale": (
        "mask_decoder.transformer.norm_final_attn.weight",
        None,
    ),
    "mask_decoder.mask_heads.3.layers.2.kernel": (
        "mask_decoder.output_hypernetworks_mlps.3.layers.2.weight",
        (1, 0),
    ),
    "mask_decoder.iou_head.layers.0.bias": (
        "mask_decoder.iou_prediction_head.layers.0.bias",
        None,
    ),
    "mask_decoder.up2.bias": ("mask_decoder.output_upscaling.3.bias", None),
}


@pytest.mark.parametrize("ours", SAMPLES)
def test_arrays_are_those_of_the_authors(authors, ours):
    theirs, turned = SAMPLES[ours]
    found = flatten(load_published(GOLDEN, family="sam").params)[ours]
    want = authors[theirs] if turned is None else authors[theirs].transpose(turned)
    np.testing.assert_array_equal(found, want)


def test_labels_keep_their_tokens(authors):
    """0 background, 1 foreground, 2 and 3 the corners."""
    encoder = load_published(GOLDEN, family="sam").params["prompt_encoder"]
    names = ("background", "foreground", "first_corner", "second_corner")
    for index, name in enumerate(names):
        want = authors[f"prompt_encoder.point_embeddings.{index}.weight"][0]
        np.testing.assert_array_equal(encoder[name], want)


def test_a_transposed_convolution_keeps_its_pixels(authors):
    weight = authors["mask_decoder.output_upscaling.0.weight"]  # in, out, row, column
    kernel = load_published(GOLDEN, family="sam").params["mask_decoder"]["up1"]["kernel"]
    lattice = kernel.reshape(weight.shape[0], 2, 2, weight.shape[1])
    np.testing.assert_array_equal(lattice, np.einsum("ioyx->iyxo", weight))


def test_both_or_either_twin_will_do(tmp_path, state):
    matrix = state[TWINS[0]]
    for names in (TWINS, TWINS[1:]):
        path = saved(tmp_path, state, drop=TWINS, **{name: matrix for name in names})  # noqa: C420 (its type is a dict of None)
        loaded = load_published(path, family="sam").params["prompt_encoder"]["frequencies"]
        np.testing.assert_array_equal(loaded, matrix)
    path = saved(tmp_path, state, **{TWINS[1]: matrix + 1})
    with pytest.raises(CheckpointError, match=r"positional_embedding differ"):
        load_published(path, family="sam")
    with pytest.raises(CheckpointError, match=r"1 missing \(shared_image_embedding"):
        load_published(saved(tmp_path, state, drop=TWINS), family="sam")


def test_everything_that_is_wrong_is_said_at_once(tmp_path, authors):
    path = saved(
        tmp_path,
        authors,
        drop=("image_encoder.neck.0.weight", "mask_decoder.iou_token.weight"),
        **{
            "mask_decoder.further_token.weight": np.zeros((1, 16), np.float32),
            "prompt_encoder.no_mask_embed.weight": np.zeros((1, 17), np.float32),
        },
    )
    with pytest.raises(CheckpointError) as caught:
        load_published(path, family="sam")
    message = str(caught.value)
    assert "\n" not in message
    assert "not a usable SAM checkpoint" in message
    assert "2 missing (image_encoder.neck.0.weight, mask_decoder.iou_token.weight)" in message
    assert "1 unexpected (mask_decoder.further_token.weight)" in message
    assert "prompt_encoder.no_mask_embed.weight is (1, 17) where (1, 16) is needed" in message


def test_tables_of_no_window_are_refused(tmp_path, authors):
    odd = {f"image_encoder.blocks.0.attn.rel_pos_{a}": np.zeros((6, 12), np.float32) for a in "hw"}
    with pytest.raises(CheckpointError, match="relative tables of 6 rows"):
        load_published(saved(tmp_path, authors, **odd), family="sam")


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("vision_config", "hidden_act", "relu"),
        ("vision_config", "global_attn_indexes", [0]),
        ("vision_config", "num_attention_heads", 3),
        ("mask_decoder_config", "num_hidden_layers", 3),
        ("mask_decoder_config", "num_attention_heads", 3),
    ],
)
def test_a_config_json_that_contradicts_the_shapes_is_refused(
    tmp_path, state, section, field, value
):
    save_file(state, tmp_path / "model.safetensors")
    config = json.loads((GOLDEN / "config.json").read_text())
    config[section][field] = value
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"x?: .*(config\.json|does not divide)"):
        load_published(tmp_path, family="sam")


def test_families_do_not_mix(tmp_path, build, authors, state):
    assert detect_family(authors) == detect_family(state) == "sam"
    with pytest.raises(CheckpointError, match=r"a SAM checkpoint, not SegGPT.*Predictor"):
        load_published(GOLDEN)
    assert load_published(GOLDEN, family="any").metadata["family"] == "sam"
    save_file(build.state("authors"), tmp_path / "seggpt.safetensors")
    with pytest.raises(CheckpointError, match=r"a SegGPT checkpoint, not SAM"):
        load_published(tmp_path / "seggpt.safetensors", family="sam")


def test_our_own_file_of_a_sam_comes_back_as_it_is(tmp_path):
    first = load_published(GOLDEN, family="sam")
    path = tmp_path / "own.safetensors"
    save_weights(path, first.params, config=first.config, metadata=first.metadata)
    again = load_published(path, family="sam")
    assert (again.config, again.metadata) == (first.config, first.metadata)
    with pytest.raises(CheckpointError, match="a SAM checkpoint"):
        load_published(path)
