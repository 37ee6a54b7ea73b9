"""Fine-tuning the encoder: what it changes, what it writes, and that its files go together."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from data.config import FeaturesConfig
from data.feature_samples import SamplesConfig, Shape
from data.views.photos import ViewsConfig
from incontext import Segmenter
from seggpt.encoder import Encoder
from seggpt.in_context import positions
from seggpt.weights.encoder import load_encoder
from seggpt.weights.files import load_weights
from tests.data.drawn_cache import CONFIG as PLAN
from tests.data.drawn_cache import drawn_plan
from tests.tiny_encoder import save_tiny_encoder, tiny_encoder, tiny_in_context, write_noise_cache
from tests.train.tiny import named
from train import loop
from train.config import OptimConfig, TrainConfig
from train.sharding import make_mesh
from train.tasks import make_task
from train.tasks.finetune import FinetuneTask
from train.tasks.in_context import cached_painter

PATCH, GRID, SIDE = 4, 4, 3
MODEL = tiny_in_context(encoder=tiny_encoder(patch_size=PATCH), depth=1)
SAMPLES = SamplesConfig(groups=2, queries=1, shapes=(Shape(examples=1, side=SIDE, share=1.0),))

pytestmark = pytest.mark.usefixtures("compiled_once")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Return a recipe with an encoder and a cache that it could have made."""
    root = tmp_path_factory.mktemp("finetune")
    save_tiny_encoder(root / "encoder.safetensors", patch_size=PATCH)
    plan = drawn_plan(root / "data", replace(PLAN, look=ViewsConfig(size=GRID * PATCH)))
    write_noise_cache(root / "cache", plan, load_encoder(root / "encoder.safetensors"))
    encoder = str(root / "encoder.safetensors")
    data = FeaturesConfig(path=(str(root / "cache"),), encoder=encoder, samples=SAMPLES)
    optim = OptimConfig(lr=1e-3, warmup=0, layer_decay=0.5)
    return TrainConfig(
        model=MODEL, data=data, optim=optim, steps=2, train_encoder=True, checkpoint_every=2
    )


@pytest.fixture(scope="module")
def task(config):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(positions, "BLANK_SIDE", 2 * GRID)
        yield make_task(config, make_mesh())


def test_a_batch_is_painted_as_from_the_features_that_the_encoder_gives(task):
    assert isinstance(task, FinetuneTask)
    batch, params = task.sampler.batch(0), task.init()
    encoder = Encoder(MODEL.encoder, rngs=nnx.Rngs(0))
    nnx.update(encoder, params["encoder"])

    def features(images):
        flat = jnp.asarray(images.reshape(-1, *images.shape[2:]) + 1) / 2
        return np.concatenate(jax.jit(encoder)(flat).layers, axis=-1).reshape(
            2, 1, -1, 3 * MODEL.encoder.width
        )

    own = batch._replace(
        example_features=features(batch.example_images),
        query_features=features(batch.query_images),
    )
    expected = jax.jit(cached_painter(MODEL))(params["model"], own)
    np.testing.assert_allclose(jax.jit(task.paint)(params, batch), expected, atol=1e-4)


def test_a_run_trains_both_and_writes_files_that_go_together(config, task, tmp_path):
    assert loop.run(config, tmp_path) == 0
    weights, encoder = (
        load_weights(tmp_path / "weights.safetensors"),
        load_encoder(tmp_path / "encoder.safetensors"),
    )
    assert weights.metadata["encoder_sha256"] == encoder.sha256
    assert weights.metadata["encoder"] == "encoder.safetensors"
    Segmenter.from_pretrained(tmp_path / "weights.safetensors")
    start = named(task.init())
    for name, leaf in named({"model": weights.params, "encoder": encoder.params}).items():
        read = "vit/blocks" in name and "kernel" in name
        assert not read or (leaf != start[name]).any(), name
