"""The task end to end on a tiny cache, through the training loop."""

import json
import signal
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from data.config import FeaturesConfig
from data.feature_samples import HELD_OUT, SamplesConfig, Shape
from data.views.photos import ViewsConfig
from seggpt.config import InContextConfig
from seggpt.errors import CheckpointError
from seggpt.in_context import positions
from seggpt.in_context.positions import DIRECTIONS, position_directions
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
from train.config import OptimConfig, TrainConfig
from train.optim import make_optimizer
from train.sharding import make_mesh
from train.state import init_state
from train.tasks import make_task
from train.tasks.in_context import (
    InContextTask,
    score_batch,
    start_in_context,
)

PATCH, GRID, SIDE = 4, 4, 3
ENCODER = tiny_encoder(patch_size=PATCH)
SAMPLES = SamplesConfig(groups=2, queries=2, shapes=(Shape(examples=2, side=SIDE, share=1.0),))
LOOK = replace(HELD_OUT, queries=1, shapes=(Shape(examples=1, side=GRID, share=1.0),))

pytestmark = pytest.mark.usefixtures("compiled_once")


@pytest.fixture(autouse=True, scope="module")
def small_blanks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(positions, "BLANK_SIDE", 2 * GRID)
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Return a folder with an encoder and a cache that it could have made."""
    root = tmp_path_factory.mktemp("in_context")
    save_tiny_encoder(root / "encoder.safetensors", patch_size=PATCH)
    plan = drawn_plan(root / "data", replace(PLAN, look=ViewsConfig(size=GRID * PATCH)))
    write_noise_cache(root / "cache", plan, load_encoder(root / "encoder.safetensors"))
    return root


@pytest.fixture(scope="module")
def config(root):
    data = FeaturesConfig(
        path=(str(root / "cache"),),
        encoder=str(root / "encoder.safetensors"),
        samples=SAMPLES,
        held_out=str(root / "cache"),
        held_out_samples=LOOK,
        held_out_count=3,
    )
    return TrainConfig(
        model=tiny_in_context(encoder=ENCODER, depth=1),
        data=data,
        optim=OptimConfig(lr=3e-3, warmup=0),
        steps=4,
        log_every=1,
        checkpoint_every=2,
    )


@pytest.fixture(scope="module")
def task(config):
    return InContextTask(config, make_mesh())


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    """Return the folder of a run of four steps without a break."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert loop.run(config, out) == 0
    return out


def rows(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


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
    losses = [[row["loss"] for row in rows(out) if "loss" in row] for out in (tmp_path, whole)]
    assert losses[0] == losses[1]
    assert len(set(losses[0])) == 4


def test_a_run_looks_at_held_out_samples(whole):
    look = rows(whole)[-1]
    assert look.keys() == {"step", "iou"}
    assert 0 < look["iou"] <= 1
    with Image.open(whole / "sheet_0000004.png") as sheet:
        assert sheet.size == (5 * GRID * PATCH, 3 * GRID * PATCH)
        assert np.asarray(sheet).std() > 10


def test_weights_name_their_encoder_and_start_another_run(config, task, whole):
    path = whole / "weights.safetensors"
    loaded = load_weights(path)
    assert InContextConfig.from_dict(loaded.config) == config.model
    assert loaded.metadata == {
        "train_sets": "regions,things",
        "step": "4",
        "encoder": "encoder.safetensors",
        "encoder_sha256": load_encoder(config.data.encoder).sha256,
    }
    assert (whole / "encoder.safetensors").samefile(config.data.encoder)
    again = InContextTask(replace(config, init=str(path)), make_mesh())
    start, saved = named(again.init()), named(loaded.params)
    assert start.keys() == saved.keys()
    for name, leaf in start.items():
        np.testing.assert_array_equal(leaf, saved[name])
    fresh = named(task.init())
    assert any((leaf != fresh[name]).any() for name, leaf in saved.items())


def test_weights_of_another_model_are_no_start(config, tmp_path):
    other, path = tiny_in_context(encoder=ENCODER, depth=2), tmp_path / "other.safetensors"
    save_weights(path, fresh_in_context(other), config=other.to_dict())
    with pytest.raises(CheckpointError, match=r"other\.safetensors: \d+ arrays are .* too many"):
        InContextTask(replace(config, init=str(path)), make_mesh()).init()


def change(config, **changes):
    return replace(config, data=replace(config.data, **changes))


@pytest.mark.parametrize("name", ["path", "held_out"])
def test_a_cache_of_another_encoder_is_refused(config, root, tmp_path, name):
    cache = tmp_path / "cache"
    cache.mkdir()
    for file in (root / "cache").iterdir():
        (cache / file.name).symlink_to(file)
    jobs = json.loads((cache / "jobs.json").read_text())
    (cache / "jobs.json").unlink()
    (cache / "jobs.json").write_text(json.dumps(jobs | {"encoder": "another"}))
    other = change(config, **{name: (str(cache),) if name == "path" else str(cache)})
    with pytest.raises(ValueError, match=r"features of the encoder with SHA-256 another") as caught:
        make_task(other, make_mesh())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", [(), ("one", "two")])
def test_one_cache_is_wanted(config, path):
    with pytest.raises(ValueError, match="--data: pass the folder of one feature cache"):
        make_task(change(config, path=path), make_mesh())


def test_an_encoder_is_the_recipes(config):
    model = replace(config.model, encoder=replace(ENCODER, taps=(0, 0, 1)))
    with pytest.raises(ValueError, match=r"data.encoder .* not the recipe's model.encoder"):
        make_task(replace(config, model=model), make_mesh())


def test_nothing_is_computed_twice_without_an_encoder_that_learns(config):
    with pytest.raises(ValueError, match="remat: only an encoder that learns"):
        make_task(replace(config, remat=True), make_mesh())


def test_held_out_pictures_that_are_too_few(config, root, caplog):
    few = change(config, held_out_samples=replace(LOOK, least_pictures=1000, same_class=1.0))
    with pytest.raises(ValueError, match=r"data\.held_out .*cache: hardly any view"):
        make_task(few, make_mesh())
    views = replace(PLAN, pasted=0, drawn=0, look=ViewsConfig(size=GRID * PATCH))
    own = change(few, path=(str(root / "data" / "things"),), views=views, held_out="")
    task = make_task(own, make_mesh())
    assert task.evaluate({}) is None
    assert "the held-out pictures cannot be scored: " in caplog.text


def test_the_loss_of_one_batch_falls(config, task):
    steady = replace(config, steps=10, loss=replace(config.loss, beta=(0.3, 0.3)))
    optimizer = make_optimizer(steady.optim, steps=10, depth=1)
    own = InContextTask(steady, make_mesh())
    batch = jax.tree.map(jnp.asarray, own.sampler.batch(0))
    state, losses = init_state(own.init(), optimizer), []
    for number in range(10):
        state, metrics = own.step(number, optimizer)(state, batch)
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.8 * losses[0]


# --- the start


def test_blind_matchings_start_without_the_directions_of_positions(root):
    encoder = load_encoder(root / "encoder.safetensors")
    config = tiny_in_context(encoder=ENCODER, depth=1, matchings=((0, True), (0, False), (2, True)))
    params = start_in_context(config, encoder, seed=0)
    directions = position_directions(encoder.config, encoder.params)
    assert [a.shape for a in directions] == [(DIRECTIONS, 32)] * 3
    for own in directions:
        np.testing.assert_allclose(own @ own.T, np.eye(DIRECTIONS), atol=1e-4)
    kernels = [params["matchings"][number]["kernel"] for number in range(3)]
    np.testing.assert_array_equal(kernels[1], np.eye(32))
    for kernel, own in ((kernels[0], directions[0]), (kernels[2], directions[2])):
        np.testing.assert_allclose(own @ kernel, 0, atol=1e-4)
        np.testing.assert_allclose(kernel @ kernel, kernel, atol=1e-4)


# --- scores


def test_scores_are_of_every_label_in_every_query(task):
    batch = task.sampler.batch(0)
    class_ids = np.zeros_like(batch.query_class_ids)
    class_ids[0, 0, :4] = 1
    class_ids[0, 1, :, :3] = 2
    class_ids[1, 0, :2] = 1
    class_ids[1, :, -1] = 255
    colours = batch.colours.copy()
    colours[:, :3] = [[-1, -1, -1], [1, 1, 1], [1, -1, 0]]
    batch = batch._replace(query_class_ids=class_ids, colours=colours)
    shown = np.where(class_ids == 255, 1, class_ids)  # what is ignored is wrong
    painted = np.stack([own[labels] for own, labels in zip(colours, shown, strict=True)])
    np.testing.assert_array_equal(score_batch(painted, batch), [1, 1, 1])
    painted[0, 0, :2] = -1
    painted[1, 0, 2] = 0.9
    np.testing.assert_allclose(score_batch(painted, batch), [1 / 2, 1, 2 / 3])
