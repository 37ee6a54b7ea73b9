"""The heads' task end to end on a tiny cache, through the training loop."""

import json
import signal
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from configs.prompt_heads import IN_CONTEXT, get_config
from data.config import PromptsConfig
from data.prompt_samples import HELD_OUT, PromptSamplesConfig, PromptShape
from data.views.photos import ViewsConfig
from incontext import Promptable, Segmenter
from seggpt.config import InContextConfig, PromptHeadsConfig
from seggpt.weights.encoder import load_encoder
from seggpt.weights.files import load_weights, save_weights
from tests.data.drawn_cache import CONFIG as PLAN
from tests.data.drawn_cache import drawn_plan
from tests.tiny_encoder import (
    fresh_in_context,
    save_tiny_encoder,
    tiny_encoder,
    tiny_in_context,
    write_noise_cache,
)
from tests.train.tiny import named
from train import loop
from train.config import ClicksConfig, OptimConfig, TrainConfig
from train.sharding import make_mesh
from train.tasks import make_task
from train.tasks.prompts import PromptsTask

PATCH, GRID = 14, 4
ENCODER = tiny_encoder(patch_size=PATCH)
HEADS = PromptHeadsConfig(
    image_size=8 * PATCH, prompt_width=16, mask_width=4, decoder_heads=2, decoder_mlp=8
)
SHAPES = (
    PromptShape(side=2, pictures=2, clicks=1, mask_rounds=1, share=0.5),
    PromptShape(side=4, pictures=2, clicks=0, mask_rounds=0, proposed=True, share=0.5),
)
LOOK = replace(HELD_OUT, shapes=(replace(HELD_OUT.shapes[0], side=GRID, pictures=2),))

pytestmark = pytest.mark.usefixtures("compiled_once")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Return a folder with an encoder, an in-context model and a cache."""
    root = tmp_path_factory.mktemp("prompts")
    save_tiny_encoder(root / "encoder.safetensors", patch_size=PATCH)
    plan = drawn_plan(root / "data", replace(PLAN, look=ViewsConfig(size=GRID * PATCH)))
    write_noise_cache(root / "cache", plan, load_encoder(root / "encoder.safetensors"))
    model = tiny_in_context(encoder=ENCODER, depth=1)
    save_weights(root / "plain.safetensors", fresh_in_context(model), config=model.to_dict())
    return root


@pytest.fixture(scope="module")
def config(root):
    data = PromptsConfig(
        path=(str(root / "cache"),),
        encoder=str(root / "encoder.safetensors"),
        samples=PromptSamplesConfig(shapes=SHAPES, targets=2, least_area=0.01),
        held_out=str(root / "cache"),
        held_out_samples=LOOK,
        held_out_count=2,
    )
    return TrainConfig(
        model=tiny_in_context(encoder=ENCODER, depth=1, prompts=HEADS),
        data=data,
        clicks=ClicksConfig(),
        frozen=IN_CONTEXT,
        init=str(root / "plain.safetensors"),
        optim=OptimConfig(lr=3e-3, warmup=0, weight_decay=1.0),
        steps=3,
        log_every=1,
        checkpoint_every=3,
    )


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    """Return the folder of a run."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert loop.run(config, out) == 0
    return out


def rows(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_a_run_tells_the_iou_of_its_first_and_its_last_round(whole):
    seen = [row for row in rows(whole) if "loss" in row]
    assert len(seen) == 3
    for row in seen:
        assert 0 <= row["first_iou"] <= 1
        assert 0 <= row["last_iou"] <= 1


def test_a_run_that_was_stopped_ends_at_the_same_bits(config, whole, tmp_path, monkeypatch):
    after = loop.Watch.after

    def stop(self, step, *rest):
        after(self, step, *rest)
        if step == 2:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Watch, "after", stop)
        assert loop.run(config, tmp_path) == 128 + signal.SIGTERM
    assert loop.run(config, tmp_path) == 0
    weights = [(out / "weights.safetensors").read_bytes() for out in (tmp_path, whole)]
    assert weights[0] == weights[1]


def test_a_run_looks_at_held_out_things_round_by_round(whole):
    look = rows(whole)[-1]
    assert look.keys() == {"step"} | {f"iou_{turn}" for turn in range(1, 6)}
    assert all(0 <= value <= 1 for name, value in look.items() if name != "step")
    with Image.open(whole / "sheet_0000003.png") as sheet:
        assert sheet.size == (3 * GRID * PATCH // 2, 2 * GRID * PATCH // 2)


def test_only_the_heads_change(config, root, whole):
    before = named(load_weights(root / "plain.safetensors").params)
    after = named(load_weights(whole / "weights.safetensors").params)
    assert {name for name in after if not name.startswith("prompts/")} == before.keys()
    for name, leaf in before.items():
        assert leaf.tobytes() == after[name].tobytes()
    start = named(PromptsTask(config, make_mesh()).init())
    heads = {name for name in after if name.startswith("prompts/")}
    changed = {name for name in heads if (np.asarray(start[name]) != after[name]).any()}
    assert len(changed) > 0.8 * len(heads)
    assert "prompts/prompt_encoder/frequencies" not in changed


def test_the_weights_answer_examples_and_prompts(config, whole):
    path = whole / "weights.safetensors"
    assert InContextConfig.from_dict(load_weights(path).config) == config.model
    picture = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    answer = (model := Promptable.from_pretrained(path)).predict(
        model.encode(picture), points=[[10, 10]]
    )
    assert answer.masks().shape == (1, 3, 60, 80)
    plain = Segmenter.from_pretrained(path)
    assert plain.promptable.fingerprint == model.fingerprint


def test_heads_go_on_from_weights_that_have_some(config, whole):
    path = whole / "weights.safetensors"
    again = PromptsTask(replace(config, init=str(path)), make_mesh()).init()
    for name, leaf in named(load_weights(path).params).items():
        np.testing.assert_array_equal(leaf, named(again)[name])


def test_the_recipe_trains_the_heads_alone():
    recipe = get_config()
    assert isinstance(recipe.model, InContextConfig)
    plain = fresh_in_context(tiny_in_context())
    assert set(IN_CONTEXT) == plain.keys()
    assert recipe.frozen == IN_CONTEXT


def test_the_data_of_a_recipe_say_its_task(config):
    assert isinstance(make_task(config, make_mesh()), PromptsTask)
