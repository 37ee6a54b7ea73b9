import json
import shutil
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp
from PIL import Image

from data.config import FeaturesConfig, PromptsConfig
from data.folder import open_folders
from data.pictures import open_sources
from data.views.photos import ViewsConfig
from incontext import Segmenter
from seggpt.config import InContextConfig, PromptHeadsConfig, SegGPTConfig
from seggpt.weights.encoder import load_encoder
from seggpt.weights.files import load_weights, save_weights
from tests.data.drawn import write_drawn_dataset
from tests.data.drawn_cache import CONFIG as PLAN
from tests.data.drawn_cache import drawn_plan
from tests.data.drawn_sprites import write_sprites
from tests.tiny_encoder import (
    fresh_in_context,
    save_tiny_encoder,
    tiny_encoder,
    tiny_in_context,
    write_noise_cache,
)
from tests.train.tiny import named, tiny_config, tiny_model
from train import loop
from train.__main__ import load_recipe, main
from train.optim import make_optimizer
from train.running import checkpoint
from train.running.checkpoint import Checkpoints, abstract_state
from train.sharding import make_mesh, shard_params
from train.state import init_params, init_state
from train.tasks import pairs
from train.tasks.pairs import draw_shots, start_params
from train.tasks.probe import make_probe

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
RECIPES = sorted(path for path in CONFIGS.glob("*.py") if "-> TrainConfig:" in path.read_text())
LOGGED = {"step", "loss", "grad_norm", "lr", "seconds_per_step"}
TINY = """
from tests.train.tiny import tiny_config, tiny_model

def get_config():
    model = tiny_model("mutual")
    return tiny_config(model, drop_path=0.3, shots=((1, 1.0),), log_every=1, checkpoint_every=2)
"""

pytestmark = pytest.mark.usefixtures("compiled_once")


def shrink(config):
    """Return settings that leave of a recipe's model and data little but their kind."""
    settings = {"steps": 1, "log_every": 1}
    if isinstance(config.model, InContextConfig):
        settings |= {"model.width": 32, "model.depth": 1, "model.heads": 2}
        # In an order that leaves a model that fits after each.
        encoder = {"taps": (0, 1, 1), "depth": 2, "heads": 2, "width": 32, "patch_size": 2}
        settings |= {f"model.encoder.{name}": value for name, value in encoder.items()}
        settings |= {"model.encoder.pos_grid": (4, 4), "data.held_out_count": 2}
        if config.model.prompts:
            heads = {"image_size": 64, "prompt_width": 16, "mask_width": 8}
            heads |= {"decoder_heads": 2, "decoder_mlp": 16}
            settings |= {f"model.prompts.{name}": value for name, value in heads.items()}
        if isinstance(config.data, FeaturesConfig):
            settings |= {"data.samples.groups": 2, "data.samples.queries": 1}
    else:
        patch = config.model.patch_size
        model = {"merge_block": 0, "taps": (0, 1), "depth": 2, "heads": 2, "width": 32}
        model |= {"decoder_width": 4, "pos_grid": (8, 4), "image_size": 4 * patch}
        settings |= {f"model.{name}": value for name, value in model.items()}
        settings |= {"data.pack_size": 5 * patch, "data.sprites": 3}
        settings |= {"view_size": 2 * patch if config.view_size else 0, "batch_size": 2}
    return [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with a recipe and a data set."""
    root = tmp_path_factory.mktemp("loop")
    write_drawn_dataset(root / "data", name="drawn", pictures=8, size=32)
    write_sprites(root / "data", names=["cat", "cat", "dog"])
    (root / "recipe.py").write_text(TINY)
    return root


@pytest.fixture(scope="module")
def train(place):
    """Return a function that runs a recipe as the command line would."""

    def train(out, *more, config=place / "recipe.py", data=place / "data"):
        given = ["--data", str(data)] if data else []
        return main(["--config", str(config), "--out", str(out), *given, *map(str, more)])

    return train


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """Return a folder with an encoder, a model on it, and a cache with the recipes' windows."""
    root = tmp_path_factory.mktemp("features")
    save_tiny_encoder(root / "encoder.safetensors", patch_size=2)
    model = tiny_in_context(encoder=tiny_encoder(patch_size=2), depth=1, heads=2)
    heads = {"image_size": 64, "prompt_width": 16, "mask_width": 8, "decoder_mlp": 16}
    prompted = replace(model, prompts=PromptHeadsConfig(**heads, decoder_heads=2))
    for name, config in (("model", model), ("prompted", prompted)):
        save_weights(
            root / f"{name}.safetensors", fresh_in_context(config), config=config.to_dict()
        )
    plan = drawn_plan(root / "data", replace(PLAN, look=ViewsConfig(size=48)))
    write_noise_cache(root / "cache", plan, load_encoder(root / "encoder.safetensors"))
    return root


SEGMENTING = [path for path in RECIPES if path.stem != "mae_small"]  # see tasks/test_masked.py


@pytest.fixture(scope="module", params=SEGMENTING, ids=lambda p: p.stem)
def shrunk(request, train, tmp_path_factory):
    """Return what a shipped recipe is and what a step of it leaves when shrunk."""
    recipe = load_recipe(request.param)
    out = tmp_path_factory.mktemp(request.param.stem) / "run"
    more = {}
    settings = shrink(recipe)
    if isinstance(recipe.model, InContextConfig):
        root = request.getfixturevalue("features")
        more = {"data": root / "cache"}
        settings += ["--set", f"data.held_out={root / 'cache'}"]
        settings += ["--set", f"data.encoder={root / 'encoder.safetensors'}"]
        if recipe.model.prompts:
            name = "model" if isinstance(recipe.data, PromptsConfig) else "prompted"
            settings += ["--init", str(root / f"{name}.safetensors")]
    assert train(out, *settings, config=request.param, **more) == 0
    return recipe, out


def rows(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def read_config(out):
    return json.loads((out / "config.json").read_text())


def test_a_recipe_logs_finite_numbers(shrunk):
    recipe, out = shrunk
    *start, step, look = rows(out)
    assert [row.keys() for row in start] == [{"step", "iou"}] * (recipe.release == "best")
    if isinstance(recipe.data, PromptsConfig):
        assert step.keys() == LOGGED | {"first_iou", "last_iou"}
        assert look.keys() == {"step", *(f"iou_{number}" for number in range(1, 6))}
    elif isinstance(recipe.model, InContextConfig):
        assert step.keys() == LOGGED
        assert look.keys() == {"step", "iou"}
    else:
        assert step.keys() == LOGGED | {"patch_std"}
        assert look.keys() == {"step", "iou", "copy_iou"}
    assert step["step"] == look["step"] == 1
    assert np.isfinite([*step.values(), *look.values()]).all()
    assert step["loss"] > 0


def test_a_recipe_leaves_what_it_was(shrunk):
    recipe, out = shrunk
    before, after = loop.describe(recipe), read_config(out)
    assert after["model"]["width"] == 32 < before["model"]["width"]
    for part in ("optim", "loss", "clicks", "shots", "frozen", "seed"):
        assert after[part] == before[part]
    for part in {"attention", "patch_size", "matchings"} & before["model"].keys():
        assert after["model"][part] == before["model"][part]


def test_a_recipe_draws_a_sheet(shrunk):
    recipe, out = shrunk
    with Image.open(out / "sheet_0000001.png") as sheet:
        if isinstance(recipe.data, PromptsConfig):
            assert sheet.size == (3 * 24, 2 * 24)
        elif isinstance(recipe.model, InContextConfig):
            assert sheet.size == (5 * 48, 2 * 48)
        else:
            side = 4 * recipe.model.patch_size
            assert sheet.size == (5 * side, 12 * side)
        assert np.asarray(sheet).std() > 10


def test_a_recipe_releases_weights_that_say_what_they_saw(shrunk):
    recipe, out = shrunk
    loaded = load_weights(out / "weights.safetensors")
    if isinstance(recipe.model, InContextConfig):
        assert loaded.metadata["train_sets"] == "regions,things"
        config = InContextConfig.from_dict(loaded.config)
        assert config.encoder.width == 32
        assert (config.prompts is None) == (recipe.model.prompts is None)
        return
    assert loaded.metadata == {"train_sets": "drawn,pasted_sprites", "step": "1"}
    config = SegGPTConfig.from_dict(read_config(out)["model"])
    assert SegGPTConfig.from_dict(loaded.config) == config
    assert Segmenter.from_pretrained(out / "weights.safetensors").metadata == loaded.metadata


def test_the_recipe_of_heads_trains_nothing_else():
    config = load_recipe(CONFIGS / "prompt_heads.py")
    assert isinstance(config.model, InContextConfig)
    parts = jax.eval_shape(partial(fresh_in_context, config.model)).keys()
    assert parts - set(config.frozen) == {"prompts"}
    assert set(config.frozen) < parts


@pytest.fixture(scope="module")
def whole(train, tmp_path_factory):
    """Return the folder of a run of four steps without a break."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert train(out) == 0
    return out


def signal_at(patch, *, step, number):
    """Send this process a signal once a step is done."""
    after = loop.Watch.after

    def watch(self, done, *rest):
        after(self, done, *rest)
        if done == step:
            signal.raise_signal(number)

    patch.setattr(loop.Watch, "after", watch)


@pytest.fixture(scope="module")
def resumed(train, tmp_path_factory):
    """Return the folder of a run that was stopped after three steps and went on."""
    out = tmp_path_factory.mktemp("resumed") / "run"
    with pytest.MonkeyPatch.context() as patch:
        signal_at(patch, step=3, number=signal.SIGTERM)
        assert train(out) == 128 + signal.SIGTERM
    assert Checkpoints(out / "checkpoints", keep=2).steps() == [2, 3]
    assert train(out) == 0
    return out


def test_a_resumed_run_ends_at_the_same_bits(whole, resumed):
    config = tiny_config()
    optimizer = make_optimizer(config.optim, steps=4, depth=config.model.depth)
    wanted = init_state(start_params(config), optimizer)
    wanted = jax.device_put(wanted, shard_params(wanted, make_mesh()))
    ours, theirs = (
        named(Checkpoints(out / "checkpoints", keep=2).restore(4, abstract_state(wanted)))
        for out in (resumed, whole)
    )
    assert ours.keys() == theirs.keys() == named(wanted).keys()
    for name, leaf in ours.items():
        assert leaf.tobytes() == theirs[name].tobytes(), name
    weights = [(out / "weights.safetensors").read_bytes() for out in (resumed, whole)]
    assert weights[0] == weights[1]


def test_a_resumed_run_goes_on_where_it_stopped(whole, resumed):
    logs = [[row for row in rows(out) if "loss" in row] for out in (resumed, whole)]
    for log in logs:
        assert [row["step"] for row in log] == [1, 2, 3, 4]
        for row in log:
            row.pop("seconds_per_step")
    assert logs[0] == logs[1]
    assert len({row["loss"] for row in logs[0]}) == 4


@pytest.fixture(scope="module")
def probe(place):
    held_out = open_sources(open_folders(place / "data"), split="val")
    return make_probe(held_out, tiny_config())


@pytest.fixture
def quick(monkeypatch, probe):
    """Return numbers that steps are to log, by step; steps do nothing else, and looks cheat."""
    logged = {}

    def make_step(config, optimizer, *, examples):
        def count(state, *_):
            number = state.step + 1
            metrics = {"loss": jnp.ones(()), "grad_norm": jnp.ones(())}
            for step, changes in logged.items():
                for name, value in changes.items():
                    metrics[name] = jnp.where(number == step, value, metrics[name])
            return replace(state, step=number), metrics

        return count

    monkeypatch.setattr(pairs, "make_train_step", make_step)
    monkeypatch.setattr(pairs, "make_probe", lambda *_: probe)
    monkeypatch.setattr(
        pairs, "make_painter", lambda _: lambda _, probe: np.asarray(probe.views.targets[:, 1])
    )
    return logged


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_step_in_hand_and_stops(train, quick, tmp_path, monkeypatch, number):
    out = tmp_path / "run"
    before = signal.getsignal(number)
    signal_at(monkeypatch, step=1, number=number)
    assert train(out) == 128 + number
    assert signal.getsignal(number) == before
    checkpoints = Checkpoints(out / "checkpoints", keep=2)
    assert checkpoints.steps() == [1]
    assert checkpoints.read_run(1)["config"] == read_config(out)
    assert load_weights(out / "weights.safetensors").metadata["step"] == "1"
    assert [row["step"] for row in rows(out)] == [1]


def test_a_second_signal_stops_at_once():
    with loop.StopSignal() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.received == signal.SIGTERM
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize("name", ["loss", "grad_norm"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_step_that_is_not_finite_is_told_and_counted(train, quick, tmp_path, caplog, name, value):
    quick[3] = {name: value}
    assert train(tmp_path, "--set", "log_every=2") == 0
    told = f"step 3 skipped: {name} is {value}; its samples: drawn ["
    assert any(message.startswith(told) for message in caplog.messages)
    assert "1 updates were not finite" in caplog.messages[-1]
    skipped = [row for row in rows(tmp_path) if "skipped" in row]
    assert [row["step"] for row in skipped] == [3]
    assert len(skipped[0]["batch"]) == 4
    assert [row["loss"] for row in rows(tmp_path) if "loss" in row] == [1, 1]
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
    assert checkpoints.read_run(4)["skipped"] == 1
    assert checkpoints.read_run(2)["skipped"] == 0


def test_too_many_in_a_row_stop_the_run(train, quick, tmp_path, capsys):
    for step in (1, 3, 4):
        quick[step] = {"loss": np.nan}
    assert train(tmp_path, "--set", "most_skipped=2", "--set", "steps=9") == 1
    said = capsys.readouterr().err
    assert said.startswith("train: error: loss is nan at step 4, and 2 updates in a row were")
    assert "its samples: drawn [" in said
    assert said.count("\n") == 1
    assert Checkpoints(tmp_path / "checkpoints", keep=2).steps() == [2]


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--resume", "never"), "holds a run up to step 4; go on from there with --resume auto"),
        (("--set", "optim.lr=1"), "cannot resume: optim changed"),
        (
            ("--set", "seed=1", "--set", "model.decoder_width=8"),
            "cannot resume: model, seed changed",
        ),
    ],
)
def test_a_run_is_neither_overwritten_nor_mixed(train, whole, capsys, options, message):
    before = contents(whole)
    assert train(whole, *options) == 2
    assert_one_line(capsys, message)
    assert contents(whole) == before


def assert_one_line(capsys, message):
    """Expect an error to be the only line on stderr."""
    said = capsys.readouterr().err
    assert said.startswith("train: error: ")
    assert message in said
    assert said.count("\n") == 1


def damage(out, step):
    (out / "checkpoints" / str(step) / "run.json").write_text("{}")


def newest(out):
    """Return the step of the newest whole checkpoint."""
    found = Checkpoints(out / "checkpoints", keep=2).newest()
    return found and found[0]


def test_a_damaged_checkpoint_is_passed_over(train, quick, tmp_path, caplog):
    assert train(tmp_path) == 0
    log = (tmp_path / "log.jsonl").read_text()
    damage(tmp_path, 4)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 9, "los')
    assert train(tmp_path) == 0
    said = "1 files changed since they were saved, e.g. run.json; trying the one before"
    assert any(said in message for message in caplog.messages)
    assert newest(tmp_path) == 4
    assert len(rows(tmp_path)) == log.count("\n")  # steps 3 and 4 are there once


def test_nothing_is_started_where_all_checkpoints_are_damaged(train, whole, tmp_path, capsys):
    shutil.copytree(whole, tmp_path / "run")
    for step in (2, 4):
        damage(tmp_path / "run", step)
    assert train(tmp_path / "run") == 2
    assert_one_line(capsys, "every checkpoint is damaged; use another --out to start again")


def test_a_run_starts_from_the_checkpoint_of_another(train, quick, whole, tmp_path, capsys):
    before = contents(whole)
    one = ("--resume", whole / "checkpoints" / "2", "--set", "steps=6")
    assert train(tmp_path / "a", *one) == 0
    assert [row["step"] for row in rows(tmp_path / "a") if "loss" in row] == [3, 4, 5, 6]
    assert train(tmp_path / "b", "--resume", whole, "--set", "steps=6") == 0
    assert [row["step"] for row in rows(tmp_path / "b") if "loss" in row] == [5, 6]
    assert contents(whole) == before
    # The same command once more: the run has a checkpoint of its own by now.
    assert train(tmp_path / "a", *one) == 0
    assert train(tmp_path / "c", "--resume", tmp_path) == 2
    assert_one_line(capsys, "no checkpoint; pass auto, never, the folder of a run")
    assert train(tmp_path / "c", "--resume", whole, "--set", "seed=1") == 2
    assert_one_line(capsys, "cannot resume: seed changed")


def test_a_full_disk_leaves_the_last_checkpoint_whole(train, quick, tmp_path, capsys, monkeypatch):
    save = ocp.save

    def fill(path, state):
        if "/4.partial/" in path:
            Path(path).mkdir()
            (Path(path) / "half").write_text("h")
            raise ValueError("RESOURCE_EXHAUSTED: No space left on device")
        return save(path, state)

    monkeypatch.setattr(checkpoint.ocp, "save", fill)
    assert train(tmp_path) == 1
    assert_one_line(capsys, "No space left on device); the checkpoint of step 2 is whole")
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["2"]
    monkeypatch.undo()
    assert newest(tmp_path) == 2


def test_a_finished_run_has_nothing_to_go_on_with(train, quick, whole):
    before = contents(whole)
    assert train(whole) == 0
    assert contents(whole) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--set", "stepz=3"), "--set stepz=3: no field 'stepz'; did you mean 'steps'"),
        (("--set", "data.names=('drawn', 'nope')"), "no data set named ['nope']"),
        (("--set", "batch_size=3"), "batch_size 3 is not a multiple of the 2 devices"),
        (("--init", "nowhere.safetensors"), "nowhere.safetensors: no such file"),
    ],
)
def test_bad_options_are_one_line(train, quick, tmp_path, capsys, options, message):
    assert train(tmp_path, *options) == 2
    assert_one_line(capsys, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": "nowhere.py"}, "nowhere.py: no such recipe"),
        ({"config": Path(loop.__file__)}, "loop.py: a recipe has a function get_config()"),
        ({"data": None}, "no data: pass folders or zips of data sets with --data"),
        ({"data": "nowhere"}, "nowhere: no such folder or zip"),
        ({"data": CONFIGS}, "configs: no data set here"),
        ({"out": Path(__file__)}, f"File exists: {__file__!r}"),
    ],
)
def test_bad_paths_are_one_line(train, tmp_path, capsys, change, message):
    assert train(**({"out": tmp_path} | change)) == 2
    assert_one_line(capsys, message)


@pytest.fixture(scope="module")
def start():
    """Return weights that no seed draws."""
    shapes = jax.eval_shape(lambda: init_params(tiny_model(), jax.random.key(0)))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda a: rng.normal(size=a.shape).astype(a.dtype), shapes)


def test_a_run_starts_from_given_weights(train, quick, start, tmp_path):
    path = tmp_path / "start.safetensors"
    save_weights(path, start, config=tiny_model().to_dict(), metadata={"threshold": "0.4"})
    assert train(tmp_path / "run", "--init", path, "--set", "steps=1") == 0
    # Steps do nothing here, so the weights are still those of the start.
    released = named(load_weights(tmp_path / "run" / "weights.safetensors").params)
    assert released.keys() == named(start).keys()
    for name, leaf in released.items():
        np.testing.assert_array_equal(leaf, named(start)[name])
    assert read_config(tmp_path / "run")["init"] == str(path)


def test_weights_of_another_model_are_no_start(train, quick, start, tmp_path, capsys):
    path = tmp_path / "start.safetensors"
    save_weights(path, start, config=tiny_model().to_dict())
    assert train(tmp_path, "--init", path, "--set", "model.type_tokens=False") == 2
    assert_one_line(capsys, "start.safetensors: 2 arrays are not those of the recipe's model")


def test_steps_draw_their_shots_by_their_shares():
    config = tiny_config(shots=((1, 3.0), (2, 0.0), (3, 1.0)))
    drawn = [draw_shots(config, step) for step in range(300)]
    assert drawn == [draw_shots(config, step) for step in range(300)]
    assert set(drawn) == {1, 3}
    assert drawn.count(1) / 300 == pytest.approx(0.75, abs=0.08)
    assert drawn != [draw_shots(replace(config, seed=1), step) for step in range(300)]


def test_a_recipe_of_a_prompt_is_refused(tmp_path, capsys):
    recipe = str(CONFIGS / "tune_ade20k.py")
    assert main(["--config", recipe, "--out", str(tmp_path / "run")]) == 2
    assert "seggpt tune --config" in capsys.readouterr().err
