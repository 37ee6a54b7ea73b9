"""Masked-image pretraining: what is hidden, what is learned, and where its weights go on."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seggpt.canvas import to_patches
from seggpt.errors import CheckpointError
from seggpt.weights.encoder import load_encoder
from tests.tiny_encoder import tiny_encoder
from tests.train.tiny import SIZE, named, tiny_config, tiny_model, tiny_sources
from train.config import MaskedConfig, OptimConfig
from train.optim import make_optimizer
from train.sharding import make_mesh
from train.state import init_state
from train.tasks import make_task
from train.tasks.masked import MaskedTask, draw_orders, init_masked, make_masked_painter
from train.tasks.pairs import start_params

ENCODER = tiny_encoder(patch_size=4)
MODEL = MaskedConfig(
    encoder=ENCODER, image_size=SIZE, decoder_width=16, decoder_depth=1, decoder_heads=2
)

pytestmark = pytest.mark.usefixtures("compiled_once")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    root = tmp_path_factory.mktemp("masked")
    tiny_sources(root)
    plain, optim = tiny_config(), OptimConfig(lr=1e-2, warmup=0)
    data = replace(plain.data, path=(str(root),))
    return replace(plain, model=MODEL, data=data, optim=optim, steps=10)


@pytest.fixture(scope="module")
def task(config):
    return make_task(config, make_mesh())


@pytest.fixture(scope="module")
def painter(config):
    return jax.jit(make_masked_painter(config))


def test_the_encoder_sees_a_quarter_and_nothing_of_the_rest(painter):
    params, images = init_masked(MODEL, jax.random.key(0)), jnp.ones((2, SIZE, SIZE, 3))
    images = images * jax.random.normal(jax.random.key(1), images.shape)
    order = draw_orders(jax.random.key(2), images, 4)
    found = painter(params, images, order)
    patches = (SIZE // 4) ** 2
    assert found.hidden.shape == (2, patches - patches // 4)
    assert all(len(set(row.tolist())) == len(row) for row in np.asarray(found.hidden))
    own = np.take_along_axis(
        np.asarray(to_patches(images, 4)), np.asarray(found.hidden)[..., None], axis=1
    )
    relative = (own - own.mean(-1, keepdims=True)) / own.std(-1, keepdims=True)
    np.testing.assert_allclose(found.truth, relative, atol=1e-3)
    hidden = np.zeros((2, patches), bool)
    np.put_along_axis(hidden, np.asarray(found.hidden), True, axis=1)
    pixels = hidden.reshape(2, SIZE // 4, SIZE // 4).repeat(4, axis=1).repeat(4, axis=2)
    other = painter(params, jnp.where(pixels[..., None], 0.0, images), order)
    np.testing.assert_array_equal(other.patches, found.patches)


def test_a_few_steps_lower_the_loss_and_a_model_starts_from_the_weights(config, task, tmp_path):
    assert isinstance(task, MaskedTask)
    optimizer = make_optimizer(config.optim, steps=config.steps, depth=task.depth)
    state, batch, losses = init_state(task.init(), optimizer), next(task.batches()), []
    for number in range(config.steps):
        state, metrics = task.step(number, optimizer)(state, batch)
        losses.append(float(metrics["loss"]))
    assert losses[-1] < losses[0] - 0.02
    scores, draw = task.evaluate(state.params)
    assert 0 < scores["held_out_loss"] < 2
    assert draw().size[0] == 3 * SIZE
    path = tmp_path / "weights.safetensors"
    task.save(path, state.params, {"step": "10"})
    encoder = load_encoder(path)
    assert encoder.config == ENCODER
    again = make_task(replace(config, init=str(path)), make_mesh()).init()
    expected = named(encoder.params)
    for name, leaf in named(again["encoder"]).items():
        np.testing.assert_array_equal(leaf, expected[name])
    started = start_params(tiny_config(tiny_model(), init=str(path)))
    qkv = encoder.params["vit"]["blocks"][0]["attn"]["qkv"]["kernel"]
    np.testing.assert_array_equal(started["vit"]["blocks"][0]["attn"]["qkv"]["kernel"], qkv)
    other = replace(MODEL, encoder=tiny_encoder(patch_size=4, depth=3))
    wrong = make_task(replace(config, model=other, init=str(path)), make_mesh())
    with pytest.raises(CheckpointError, match=r"weights\.safetensors: not the recipe's"):
        wrong.init()
