import dataclasses
import json
import random

import pytest
from hypothesis import given, settings

from seggpt.config import (
    ENCODERS,
    EncoderConfig,
    InContextConfig,
    PromptHeadsConfig,
    SAMConfig,
    SegGPTConfig,
    ViTConfig,
    choose_taps,
)
from seggpt.errors import CheckpointError
from tests.damage import SEEDS, change_json, refusal

PRESETS = [
    SegGPTConfig.tiny,
    SegGPTConfig.small,
    SegGPTConfig.base,
    SegGPTConfig.large,
    SegGPTConfig.painter,
]


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_survive_json(preset) -> None:
    config = preset()
    assert SegGPTConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert config.vit.grid == (2 * config.grid, config.grid)


def test_unknown_fields_are_named() -> None:
    fields = SegGPTConfig.tiny().to_dict() | {"windows": 3}
    with pytest.raises(ValueError, match="windows"):
        SegGPTConfig.from_dict(fields)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 50}, "multiple of patch_size"),
        ({"taps": (1, 99)}, "taps"),
        ({"merge_block": 5}, "merge_block"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SegGPTConfig.tiny(), **change)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="heads"):
        ViTConfig(patch_size=8, width=100, depth=1, heads=3, grid=(4, 4), pos_grid=(4, 4))


HEADS = [SAMConfig.sam_base(), PromptHeadsConfig()]


@pytest.mark.parametrize("config", HEADS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt_width": 20}, "prompt_width 20 is not a multiple of 8"),
        ({"decoder_heads": 3}, "its half not of decoder_heads 3"),
        ({"decoder_heads": 0}, "decoder_heads 0 is not above 0"),
        ({"decoder_heads": -1}, "decoder_heads '-1' is not a model's"),
        ({"decoder_mlp": 0}, "decoder_mlp 0 is not above 0"),
        ({"mask_width": 6}, "mask_width 6 is not a multiple of 4"),
    ],
)
def test_heads_that_do_not_fit_are_refused(config, change, message) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        type(config).from_dict(config.to_dict() | change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("config", [SegGPTConfig.tiny(), SAMConfig.sam_base()])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 0}, "heads 0 is not above 0"),
        ({"patch_size": 0}, "patch_size 0 is not above 0"),
        ({"patch_size": -1}, "patch_size '-1' is not a model's"),
        ({"heads": 7}, "not a multiple of heads 7"),
        ({"heads": "4"}, "heads '4' is not a model's"),
        ({"heads": True}, "heads 'True' is not a model's"),
        ({"width": 1.5}, "width '1.5' is not a model's"),
        ({"depth": 10**9}, "depth '1000000000' is not a model's"),
        ({"depth": 10**4}, "depth 10000 is not in 1..512"),
        ({"mlp_ratio": float("nan")}, "mlp_ratio 'nan' is not a model's"),
        ({"image_size": None}, "image_size 'None' is not a model's"),
        ({"image_size": [96]}, "is not a model's"),
    ],
)
def test_fields_that_no_model_has_are_refused(config, change, message) -> None:
    fields = json.loads(json.dumps(config.to_dict())) | change
    with pytest.raises(ValueError, match=message) as caught:
        type(config).from_dict(fields)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pos_grid": 5}, "pos_grid '5' is not a model's"),
        ({"pos_grid": [5, 5, 5]}, "pos_grid"),
        ({"taps": ["1"]}, "taps"),
        ({"attention": "some"}, "attention 'some' is not a model's"),
        ({"rel_pos": 1}, "rel_pos '1' is not a model's"),
    ],
)
def test_fields_of_another_kind_are_refused(change, message) -> None:
    with pytest.raises(ValueError, match=message):
        SegGPTConfig.from_dict(SegGPTConfig.tiny().to_dict() | change)


@pytest.mark.parametrize(
    "config", [SegGPTConfig.tiny(), SAMConfig.sam_base(), ENCODERS["dinov2-small"]]
)
def test_a_missing_field_is_named(config) -> None:
    fields = config.to_dict()
    del fields["depth"]
    with pytest.raises(ValueError, match="no field depth"):
        type(config).from_dict(fields)


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_survive_json(name) -> None:
    config = ENCODERS[name]
    assert EncoderConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert config.width // config.heads == 64


@pytest.mark.parametrize(("depth", "taps"), [(12, (6, 9, 11)), (24, (12, 18, 22)), (3, (2, 3, 3))])
def test_the_same_shares_of_any_depth_are_read(depth, taps) -> None:
    assert tuple(tap + 1 for tap in choose_taps(depth)) == taps


def test_the_giant_has_the_gated_mlp_of_its_authors() -> None:
    giant = ENCODERS["dinov2-giant"].vit
    assert (giant.activation, round(giant.width * giant.mlp_ratio)) == ("swiglu", 4096)


def test_what_contexts_know_of_the_shipped_encoder_stays() -> None:
    assert ENCODERS["dinov2-small"].to_dict() == {
        "model": "encoder",
        "patch_size": 14,
        "width": 384,
        "depth": 12,
        "heads": 6,
        "pos_grid": [37, 37],
        "registers": 0,
        "taps": [5, 8, 10],
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 0}, "heads 0 is not above 0"),
        ({"heads": 5}, "width 384 is not a multiple of heads 5"),
        ({"depth": 513}, "depth 513 is not in 1..512"),
        ({"taps": [12]}, "taps"),
        ({"taps": []}, "taps"),
        ({"taps": [[1]]}, "taps"),
        ({"taps": [True]}, "taps"),
        ({"registers": -1}, "registers '-1' is not a model's"),
        ({"pos_grid": [0, 37]}, "pos_grid"),
        ({"pos_grid": [[37], 37]}, "pos_grid"),
        ({"positions": "rotary", "heads": 64}, "heads of 6 are not a multiple of 4"),
        ({"positions": "none"}, "positions 'none' is not a model's"),
        ({"activation": "relu"}, "activation 'relu' is not a model's"),
        ({"mlp_ratio": 0}, "mlp_ratio 0.0 leaves nothing of 384"),
        ({"mlp_ratio": -1.0}, "mlp_ratio '-1.0' is not a model's"),
        ({"norm_epsilon": "1e-5"}, "norm_epsilon '1e-5' is not a model's"),
    ],
)
def test_fields_that_no_encoder_has_are_refused(change, message) -> None:
    with pytest.raises(ValueError, match=message):
        EncoderConfig.from_dict(ENCODERS["dinov2-small"].to_dict() | change)


def test_an_encoder_is_told_from_a_model() -> None:
    fields = ENCODERS["dinov2-small"].to_dict()
    with pytest.raises(CheckpointError, match="an image encoder's"):
        SegGPTConfig.from_dict(fields)
    with pytest.raises(CheckpointError, match="not the fields of an encoder"):
        EncoderConfig.from_dict(SAMConfig.sam_base().to_dict())
    with pytest.raises(CheckpointError, match=r"knows \(windows\)"):
        EncoderConfig.from_dict(fields | {"windows": 3})


def in_context_fields(**changes) -> dict:
    return json.loads(json.dumps(InContextConfig.small().to_dict())) | changes


def test_in_context_models_survive_json() -> None:
    assert InContextConfig.from_dict(in_context_fields()) == InContextConfig.small()
    other = InContextConfig(
        encoder=ENCODERS["dinov2-base-registers"],
        depth=0,
        matchings=((2, False),),
        prompts=PromptHeadsConfig(depth=0, mask_width=8),
    )
    assert InContextConfig.from_dict(json.loads(json.dumps(other.to_dict()))) == other


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 0}, "heads 0 is not above 0"),
        ({"width": 0}, "width 0 is not above 0"),
        ({"heads": 7}, "width 256 is not a multiple of heads 7 and of 4"),
        ({"width": 6, "heads": 2}, "width 6 is not a multiple of heads 2 and of 4"),
        ({"depth": 513}, "depth 513 is not in 0..512"),
        ({"depth": True}, "depth 'True' is not a model's"),
        ({"width": -8}, "width '-8' is not a model's"),
        ({"width": 1e3}, "width '1000.0' is not a model's"),
        ({"matchings": []}, "0 matchings are not 1..512"),
        ({"matchings": [[0, True]] * 513}, "513 matchings are not 1..512"),
        ({"matchings": [[3, True]]}, "are not of the encoder's 3 layers"),
        ({"matchings": [[-1, True]]}, "matchings .* is not a model's"),
        ({"matchings": [[0, 1]]}, "matchings .* is not a model's"),
        ({"matchings": [[True, True]]}, "matchings .* is not a model's"),
        ({"matchings": [[0]]}, "matchings .* is not a model's"),
        ({"matchings": [[[0], True]]}, "matchings .* is not a model's"),
        ({"matchings": [0, True]}, "matchings .* is not a model's"),
        ({"matchings": {"0": True}}, "matchings .* is not a model's"),
        ({"encoder": "dinov2"}, "not the fields of a part"),
        ({"encoder": [1]}, "not the fields of a part"),
        ({"encoder": ENCODERS["dinov2-small"].to_dict() | {"heads": 0}}, "heads 0"),
        ({"prompts": 3}, "not the fields of a part"),
        ({"prompts": PromptHeadsConfig().to_dict() | {"depth": 513}}, "depth 513 is not in 0..512"),
    ],
)
def test_fields_that_no_in_context_model_has_are_refused(change, message) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        InContextConfig.from_dict(in_context_fields(**change))
    assert "\n" not in str(caught.value)


def test_an_in_context_model_is_told_from_others() -> None:
    with pytest.raises(CheckpointError, match="not the fields of an in-context model"):
        InContextConfig.from_dict(SegGPTConfig.tiny().to_dict())
    with pytest.raises(CheckpointError, match=r"knows \(windows\)"):
        InContextConfig.from_dict(in_context_fields(windows=3))
    with pytest.raises(CheckpointError, match="not the fields of an encoder"):
        InContextConfig.from_dict(in_context_fields(encoder=SAMConfig.sam_base().to_dict()))
    fields = in_context_fields()
    del fields["encoder"]
    with pytest.raises(ValueError, match="not the fields of a part"):
        InContextConfig.from_dict(fields)


OWN = [
    SegGPTConfig.tiny(),
    InContextConfig(encoder=ENCODERS["dinov2-small"], prompts=PromptHeadsConfig()),
    SAMConfig.sam_base(),
]


def assert_refused_or_read(config, seed):
    fields = json.loads(change_json(json.dumps(config.to_dict()).encode(), random.Random(seed)))
    if isinstance(fields, dict):
        refusal(lambda: type(config).from_dict(fields), ValueError, CheckpointError)


@settings(deadline=None, max_examples=60)
@given(SEEDS)
@pytest.mark.parametrize("config", OWN)
def test_damaged_fields_are_refused_or_read(config, seed):
    assert_refused_or_read(config, seed)


@pytest.mark.slow
@pytest.mark.parametrize("config", OWN)
def test_many_damaged_fields_are_refused_or_read(config):
    for seed in range(3_400):  # 10,000 in all
        assert_refused_or_read(config, seed)
