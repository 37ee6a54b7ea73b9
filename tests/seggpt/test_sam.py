"""The promptable model around its parts."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from seggpt.config import SAMConfig, SegGPTConfig
from seggpt.errors import CheckpointError
from seggpt.prompts import make_slots
from seggpt.sam import SAM
from tests.tiny_models import tiny_sam

CONFIG = tiny_sam(depth=2, window_size=3, global_blocks=(1,), prompt_width=16, mask_width=8)


@pytest.fixture(scope="module")
def model() -> SAM:
    return SAM(CONFIG, rngs=nnx.Rngs(0))


FOURIER = 256  # numbers that the authors do not count, as they are not trained
# Trained numbers and tensors of the published files.
PUBLISHED = [
    (SAMConfig.sam_base, 93_735_472, 314),
    pytest.param(SAMConfig.sam_large, 312_342_832, 482, marks=pytest.mark.slow),
    pytest.param(SAMConfig.sam_huge, 641_090_608, 594, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("preset", "parameters", "tensors"), PUBLISHED)
def test_presets_have_the_published_sizes(preset, parameters, tensors):
    config = preset()
    abstract = nnx.eval_shape(lambda: SAM(config, rngs=nnx.Rngs(0)))
    leaves = jax.tree.leaves(nnx.state(abstract, nnx.Param))
    assert len(leaves) == tensors
    assert sum(int(np.prod(leaf.shape)) for leaf in leaves) == parameters + FOURIER
    blocks = nnx.as_pure(nnx.state(abstract, nnx.Param))["vit"]["blocks"]
    rows = [blocks[index]["attn"]["rel_pos_h"].shape[0] for index in range(config.depth)]
    assert [index for index, count in enumerate(rows) if count == 127] == [*config.global_blocks]
    assert set(rows) == {27, 127}


def test_presets_survive_json():
    config = SAMConfig.sam_base()
    assert SAMConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_the_two_models_do_not_take_each_others_fields():
    with pytest.raises(CheckpointError, match=r"SAM's, not SegGPT's.*Predictor"):
        SegGPTConfig.from_dict(SAMConfig.sam_base().to_dict())
    with pytest.raises(CheckpointError, match="not the fields of a SAM"):
        SAMConfig.from_dict(SegGPTConfig.tiny().to_dict())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 50}, "multiple of patch_size"),
        ({"prompt_width": 20}, "prompt_width"),
        ({"decoder_heads": 3}, "decoder_heads"),
        ({"mask_width": 6}, "mask_width"),
        ({"global_blocks": (2,)}, "global_blocks"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **change)


def test_shapes(model):
    embedding = jax.eval_shape(model.encode, jnp.zeros((2, 16, 16, 3)))
    assert embedding.shape == (2, 4, 4, 16)
    slots = make_slots(np.ones((2, 1, 2), np.float32), np.ones((2, 1), np.int32))
    masks, scores = jax.eval_shape(
        model.decode, embedding, jnp.asarray(slots.coords), jnp.asarray(slots.labels)
    )
    assert masks.shape == (2, 4, CONFIG.mask_size, CONFIG.mask_size)
    assert scores.shape == (2, 4)


def test_every_number_of_a_weight_matters(model):
    """Nothing is built and then forgotten: each array has a gradient."""
    graphdef, params = nnx.split(model)
    slots = make_slots(
        np.ones((1, 2, 2), np.float32), np.array([[0, 1]]), np.array([[1, 2, 9, 12]], np.float32)
    )
    bare = make_slots(np.ones((1, 1, 2), np.float32), np.ones((1, 1), np.int32))

    @jax.jit
    def total(params):
        model = nnx.merge(graphdef, params)
        image = jax.random.normal(jax.random.key(0), (1, 16, 16, 3))
        embedding = model.encode(image)
        coords, labels = jnp.asarray(slots.coords), jnp.asarray(slots.labels)
        mask = jax.random.normal(jax.random.key(1), (1, 16, 16))
        outputs = [
            *model.decode(embedding, coords, labels, mask=mask),
            *model.decode(embedding, jnp.asarray(bare.coords), jnp.asarray(bare.labels)),
        ]
        return sum((output**2).sum() for output in outputs)

    grads = jax.jit(jax.grad(total))(params)
    silent = [
        jax.tree_util.keystr(path, simple=True, separator=".")
        for path, grad in jax.tree_util.tree_leaves_with_path(nnx.as_pure(grads))
        if not np.any(grad)
    ]
    assert silent == ["prompt_encoder.frequencies"]
