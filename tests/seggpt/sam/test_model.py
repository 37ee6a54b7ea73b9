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
from seggpt.prompts import (
    ABSENT,
    BACKGROUND,
    FIRST_CORNER,
    FOREGROUND,
    PADDING,
    SECOND_CORNER,
    make_slots,
)
from seggpt.sam.model import SAM, Neck
from tests.tiny_models import SIDE, tiny_sam

CONFIG = tiny_sam(depth=2, window_size=3, global_blocks=(1,), prompt_width=16, mask_width=8)
POINTS = ([[3.0, 5.0], [12.0, 9.0], [0.0, 0.0]], [FOREGROUND, BACKGROUND, PADDING])
BOX = ([[2.0, 1.0], [9.0, 12.0], [0.0, 0.0]], [FIRST_CORNER, SECOND_CORNER, ABSENT])
BOTH = ([[2.0, 1.0], [9.0, 12.0], [5.0, 5.0]], [FIRST_CORNER, SECOND_CORNER, FOREGROUND])


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
    assert masks.shape == (2, 4, 16, 16)
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


@pytest.fixture(scope="module")
def decode(model):
    """Return a function that answers prompts about one picture or one each; no weight is 0."""
    graphdef, params = nnx.split(model, nnx.Param)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda a: a + 0.3 * rng.normal(size=a.shape).astype(a.dtype), params)

    @jax.jit
    def run(params, image, coords, labels, mask):
        model = nnx.merge(graphdef, params)
        return model.decode(model.encode(image), coords, labels, mask=mask)

    def decode(*prompts, mask=None, pictures=1):
        image = jax.random.normal(jax.random.key(0), (1, SIDE, SIDE, 3)).repeat(pictures, axis=0)
        coords = jnp.asarray([coords for coords, _ in prompts], jnp.float32)
        return run(params, image, coords, jnp.asarray([labels for _, labels in prompts]), mask)

    return decode


def assert_same(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


def test_absent_slots_change_nothing_wherever_they_are(decode):
    (first, second, last), labels = POINTS
    spare = decode(
        (
            [[9.0, 1.0], first, [2.0, 2.0], second, last],
            [ABSENT, labels[0], ABSENT, *labels[1:]],
        )
    )
    assert_same(spare, decode(POINTS))
    seen = decode(([first, second, last, [1.0, 14.0]], [*labels, FOREGROUND]))
    assert np.abs(seen[0] - spare[0]).max() > 0.01


def test_a_prompt_is_answered_alike_beside_others(decode):
    masks = jax.random.normal(jax.random.key(1), (3, SIDE, SIDE))
    together = decode(POINTS, BOX, BOTH, mask=masks)
    for row, prompt in enumerate((POINTS, BOX, BOTH)):
        alone = decode(prompt, mask=masks[row : row + 1])
        assert_same([part[row : row + 1] for part in together], alone)
    assert np.abs(together[0][0] - together[0][1]).max() > 0.01


def test_a_picture_may_be_there_once_for_all_prompts_or_once_for_each(decode):
    assert_same(decode(POINTS, BOX, BOTH, pictures=3), decode(POINTS, BOX, BOTH))


def test_the_order_of_points_does_not_matter(decode):
    coords, labels = POINTS
    assert_same(decode((coords[::-1], labels[::-1])), decode(POINTS))


def test_an_earlier_mask_matters(decode):
    noise = jax.random.normal(jax.random.key(1), (1, SIDE, SIDE))
    bare, masked, other = (decode(POINTS, mask=mask)[0] for mask in (None, noise, -noise))
    assert np.abs(bare - masked).max() > 0.01
    assert np.abs(masked - other).max() > 0.01


def test_a_neck_sees_the_patches_around():
    neck = nnx.jit(Neck(6, 8, rngs=nnx.Rngs(0)))
    feats = jax.random.normal(jax.random.key(0), (1, 5, 5, 6))
    before, after = neck(feats), neck(feats.at[0, 1, 3].add(1.0))
    assert before.shape == (1, 5, 5, 8)
    near = np.zeros((5, 5), bool)
    near[0:3, 2:5] = True
    np.testing.assert_array_equal(np.abs(after - before)[0].max(axis=-1) > 1e-6, near)
