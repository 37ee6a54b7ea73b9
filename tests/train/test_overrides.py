from dataclasses import asdict, replace

import pytest

from data.config import FeaturesConfig, PromptsConfig
from tests.tiny_encoder import tiny_in_context
from tests.train.tiny import tiny_config
from train.config import ClicksConfig, TrainConfig
from train.overrides import apply_overrides


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("steps=7", 7),
        (" steps = 7 ", 7),
        ("optim.lr=3e-4", 3e-4),
        ("optim.lr=1", 1.0),
        ("remat=True", True),
        ("init=out/weights.safetensors", "out/weights.safetensors"),
        ("init=''", ""),
        ("dtype=bfloat16", "bfloat16"),
        ("model.activation=gelu_tanh", "gelu_tanh"),
        ("model.taps=(1,)", (1,)),
        ("model.taps=[0, 1]", (0, 1)),
        ("optim.betas=(0, 0.5)", (0.0, 0.5)),
        ("shots=((1, 1), (3, 0.5))", ((1, 1.0), (3, 0.5))),
        ("data.names=('a', 'b')", ("a", "b")),
        ("data.pairs.weights={'a': 2}", {"a": 2.0}),
        ("data.coloring.levels=5", 5),
    ],
)
def test_a_setting_changes_one_field(setting, expected):
    config = tiny_config()
    before, after = asdict(config), asdict(apply_overrides(config, [setting]))
    *groups, name = setting.split("=")[0].strip().split(".")
    group, old = after, before
    for part in groups:
        group, old = group[part], old[part]
    assert repr(group[name]) == repr(expected)  # an int is not a float
    # Everything else is as it was, and so is the recipe itself.
    group[name] = old[name]
    assert after == before == asdict(tiny_config())


def test_later_settings_win():
    assert apply_overrides(tiny_config(), ["seed=1", "steps=9", "seed=2"]).seed == 2
    assert apply_overrides(tiny_config(), []) == tiny_config()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("steps", "write name=value"),
        ("step=3", "no field 'step'; did you mean 'steps'"),
        ("optim.learning=3", "no field 'learning'; fields are lr, warmup"),
        ("seed.value=3", "'seed' has no fields"),
        ("optim=3", "set a field of 'optim'"),
        ("steps=many", "'many' is not int"),
        ("steps=1.5", "'1.5' is not int"),
        ("steps=True", "'True' is not int"),
        ("optim.lr=True", "'True' is not float"),
        ("optim.lr=fast", "'fast' is not float"),
        ("remat=1", "'1' is not bool"),
        ("init=3", "'3' is not str"),
        ("dtype=float16", "'float16' is not one of 'float32', 'bfloat16', 'auto'"),
        ("optim.betas=(0.9,)", "is not tuple"),
        ("shots=((1,),)", "is not tuple"),
        ("model.taps=1", "is not tuple"),
        ("data.pairs.weights={1: 2}", "is not dict"),
        ("model.image_size=18", "image_size 18 is not a multiple of patch_size 4"),
        ("model.merge_block=1", "merge_block 1 is not in 0..0"),
        ("view_size=18", "view_size 18 is not a multiple of patch_size 4"),
        ("shots=((1, 0.5), (4, 0.5))", "must be from 1 to views - 1, 3"),
    ],
)
def test_a_bad_setting_is_named(setting, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011  its text is checked below
        apply_overrides(tiny_config(), [setting])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_settings_reach_into_either_kind_of_data_and_model():
    model, data = tiny_in_context(), FeaturesConfig()
    config = TrainConfig(model=model, data=data)
    settings = ["data.held_out=/some/where", "data.samples.groups=2", "model.encoder.heads=4"]
    changed = apply_overrides(config, settings)
    assert isinstance(changed.data, FeaturesConfig)
    assert changed.data.held_out == "/some/where"
    assert changed.data.samples.groups == 2
    assert changed.data.samples.queries == data.samples.queries
    assert changed.model == tiny_in_context(encoder=replace(model.encoder, heads=4))
    for setting, message in [
        ("data.pairs.views=2", "no field 'pairs'"),
        ("data.samples.groups=0", "groups and queries must be 1 or more"),
        ("data.held_out=3", "'3' is not str"),
        ("model.heads=0", "heads 0 is not above 0"),
        ("model=3", "set a field of 'model'"),
    ]:
        with pytest.raises(ValueError, match=message):
            apply_overrides(config, [setting])


def test_models_learn_from_their_own_kind_of_data():
    with pytest.raises(ValueError, match="an in-context model learns from FeaturesConfig"):
        TrainConfig(model=tiny_in_context())
    with pytest.raises(ValueError, match="others from DataConfig"):
        tiny_config(data=FeaturesConfig())
    with pytest.raises(ValueError, match="PromptsConfig and clicks: set both"):
        tiny_config(clicks=ClicksConfig())
    with pytest.raises(ValueError, match="PromptsConfig and clicks: set both"):
        TrainConfig(model=tiny_in_context(), data=PromptsConfig())
