"""The heads for prompts on an in-context model, around their parts."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from seggpt.model import SegGPT
from seggpt.prompts import (
    ABSENT,
    BACKGROUND,
    FIRST_CORNER,
    FOREGROUND,
    PADDING,
    SECOND_CORNER,
)
from seggpt.sam import TRUST, Join, Neck, PromptedSegGPT
from tests.tiny_models import SIDE, random_weights, tiny_prompted

CONFIG = tiny_prompted()
POINTS = ([[3.0, 5.0], [12.0, 9.0], [0.0, 0.0]], [FOREGROUND, BACKGROUND, PADDING])
BOX = ([[2.0, 1.0], [9.0, 12.0], [0.0, 0.0]], [FIRST_CORNER, SECOND_CORNER, ABSENT])
BOTH = ([[2.0, 1.0], [9.0, 12.0], [5.0, 5.0]], [FIRST_CORNER, SECOND_CORNER, FOREGROUND])


@pytest.fixture(scope="module")
def split():
    """Return a model's structure and random weights; no array of them is zero."""
    abstract = nnx.eval_shape(lambda: PromptedSegGPT(CONFIG, rngs=nnx.Rngs(0)))
    graphdef, params = nnx.split(abstract, nnx.Param)
    given = random_weights(CONFIG)
    return graphdef, {name: jax.tree.map(jnp.asarray, given[name]) for name in nnx.as_pure(params)}


@pytest.fixture(scope="module")
def embedding(split):
    return jax.jit(lambda image: nnx.merge(*split).encode(image))(pictures())


@pytest.fixture(scope="module")
def decode(split):
    @jax.jit
    def decode(embedding, coords, labels, mask):
        return nnx.merge(*split).decode(embedding, coords, labels, mask=mask)

    def run(embedding, *prompts, mask=None):
        coords = jnp.asarray([coords for coords, _ in prompts], jnp.float32)
        return decode(embedding, coords, jnp.asarray([labels for _, labels in prompts]), mask)

    return run


def pictures(count=1):
    return jax.random.normal(jax.random.key(0), (count, SIDE, SIDE, 3))


def assert_same(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


def test_shapes(split):
    model = nnx.merge(*split)
    embedding = jax.eval_shape(model.encode, pictures(2))
    assert embedding.shape == (2, 4, 4, CONFIG.prompt_width + model.likeness.channels)
    coords, labels = jnp.zeros((2, 3, 2)), jnp.ones((2, 3), int)
    masks, scores = jax.eval_shape(model.decode, embedding, coords, labels)
    assert masks.shape == (2, 4, CONFIG.mask_size, CONFIG.mask_size)
    assert scores.shape == (2, 4)


def test_smaller_pictures_have_smaller_masks(split):
    model = nnx.merge(*split)
    embedding = jax.eval_shape(model.encode, jnp.zeros((1, 8, 12, 3)))
    assert embedding.shape == (1, 2, 3, CONFIG.prompt_width + model.likeness.channels)
    coords, labels = jnp.zeros((1, 3, 2)), jnp.ones((1, 3), int)
    assert jax.eval_shape(model.decode, embedding, coords, labels)[0].shape == (1, 4, 8, 12)


def test_what_it_shares_with_the_in_context_model_has_the_same_shapes():
    def shapes(make):
        state = nnx.as_pure(nnx.state(nnx.eval_shape(make), nnx.Param))
        return {name: jax.tree.map(lambda a: a.shape, part) for name, part in state.items()}

    plain = shapes(lambda: SegGPT(CONFIG.without_heads, rngs=nnx.Rngs(0)))
    heads = shapes(lambda: PromptedSegGPT(CONFIG, rngs=nnx.Rngs(0)))
    shared = plain.keys() & heads.keys()
    assert shared == {"vit", "segment_token_x", "lookup"}
    for name in shared:
        assert heads[name] == plain[name]


def test_absent_slots_change_nothing(embedding, decode):
    coords, labels = POINTS
    spare = decode(embedding, ([*coords, [7.0, 7.0], [1.0, 14.0]], [*labels, ABSENT, ABSENT]))
    assert_same(spare, decode(embedding, POINTS))
    seen = decode(embedding, ([*coords, [7.0, 7.0], [1.0, 14.0]], [*labels, ABSENT, FOREGROUND]))
    assert np.abs(seen[0] - spare[0]).max() > 0.01


def test_absent_slots_change_nothing_wherever_they_are(embedding, decode):
    (first, second, last), labels = POINTS
    mixed = (
        [[9.0, 1.0], first, [2.0, 2.0], second, last],
        [ABSENT, labels[0], ABSENT, *labels[1:]],
    )
    assert_same(decode(embedding, mixed), decode(embedding, POINTS))


def test_a_prompt_is_answered_alike_beside_others(embedding, decode):
    masks = jax.random.normal(jax.random.key(1), (3, SIDE, SIDE))
    together = decode(embedding, POINTS, BOX, BOTH, mask=masks)
    for row, prompt in enumerate((POINTS, BOX, BOTH)):
        alone = decode(embedding, prompt, mask=masks[row : row + 1])
        assert_same([part[row : row + 1] for part in together], alone)
    assert np.abs(together[0][0] - together[0][1]).max() > 0.01


def test_a_picture_may_be_there_once_for_all_prompts_or_once_for_each(embedding, decode):
    each = jnp.repeat(embedding, 3, axis=0)
    assert_same(decode(each, POINTS, BOX, BOTH), decode(embedding, POINTS, BOX, BOTH))


def test_the_order_of_points_does_not_matter(embedding, decode):
    coords, labels = POINTS
    assert_same(decode(embedding, (coords[::-1], labels[::-1])), decode(embedding, POINTS))


def test_an_earlier_mask_matters(embedding, decode):
    bare = decode(embedding, POINTS)[0]
    masked = decode(embedding, POINTS, mask=jnp.ones((1, SIDE, SIDE)))[0]
    other = decode(embedding, POINTS, mask=-jnp.ones((1, SIDE, SIDE)))[0]
    assert np.abs(bare - masked).max() > 0.01
    assert np.abs(masked - other).max() > 0.01


def test_every_number_of_a_weight_matters_in_its_part(split):
    """Nothing is built and then forgotten, and `encoder` names what encoding reads."""
    graphdef, params = split
    prompts = [POINTS, BOTH]
    coords = jnp.asarray([coords for coords, _ in prompts])
    labels = jnp.asarray([labels for _, labels in prompts])
    mask = jax.random.normal(jax.random.key(1), (2, SIDE, SIDE))

    def encoded(params):
        return (nnx.merge(graphdef, params).encode(pictures()) ** 3).sum()

    def decoded(params):
        model = nnx.merge(graphdef, params)
        embedding = jax.lax.stop_gradient(model.encode(pictures()))
        outputs = [
            *model.decode(embedding, coords, labels, mask=mask),
            *model.decode(embedding, coords, labels),
        ]
        return sum((output**2).sum() for output in outputs)

    def used(function):
        grads = nnx.as_pure(jax.jit(jax.grad(function))(params))
        leaves = jax.tree_util.tree_leaves_with_path(grads)
        named = {jax.tree_util.keystr(p, simple=True, separator="."): a for p, a in leaves}
        return {name for name, grad in named.items() if np.any(grad)}, named.keys()

    (by_encoder, names), (by_decoder, _) = used(encoded), used(decoded)
    unused = {"prompt_encoder.frequencies", "lookup.rarity"}  # never trained; of examples alone
    assert names - by_encoder - by_decoder == unused
    assert not by_encoder & by_decoder
    assert {name.split(".")[0] for name in by_encoder} == {*PromptedSegGPT.encoder, "lookup"}


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"prompt_blocks": 0, "fusion_blocks": 0}, {"blocks", "fusion"}),
        ({"lookup": False}, {"lookup", "likeness"}),
    ],
)
def test_parts_may_be_left_out(split, changes, parts):
    config = dataclasses.replace(CONFIG, **changes)

    def build():
        return PromptedSegGPT(config, rngs=nnx.Rngs(0))

    own = nnx.as_pure(nnx.state(nnx.eval_shape(build), nnx.Param))
    assert nnx.as_pure(split[1]).keys() - own.keys() == parts
    coords, labels = jnp.zeros((1, 3, 2)), jnp.ones((1, 3), int)

    def answer(image):
        model = build()
        return model.decode(model.encode(image), coords, labels)

    assert jax.eval_shape(answer, pictures())[0].shape == (1, 4, SIDE, SIDE)


def test_fusion_lets_patches_look_at_each_other(split, embedding):
    """What a patch becomes depends on what all of them say."""
    model = nnx.merge(*split)
    image = embedding.reshape(1, 16, -1)
    coords, labels = jnp.asarray([POINTS[0]]), jnp.asarray([POINTS[1]])
    dense = jnp.zeros((1, 1, CONFIG.prompt_width))

    @jax.jit
    @jax.grad
    def gradient(image):
        tokens, _ = model.fuse(image, dense, coords, labels, mask=None, shape=(4, 4))
        return tokens[0, -1, 0]

    assert (np.abs(gradient(image)[0, :, : CONFIG.prompt_width]).sum(axis=-1) > 0).all()


def test_open_gates_let_an_earlier_mask_through_pixel_by_pixel(split, embedding):
    model = nnx.merge(*split)
    coords, labels = jnp.asarray([POINTS[0]]), jnp.asarray([POINTS[1]])
    mask = jax.random.normal(jax.random.key(3), (1, SIDE, SIDE))

    def drawn(gate):
        model.gates.kernel[...] = jnp.zeros_like(model.gates.kernel[...])
        model.gates.bias[...] = jnp.zeros_like(model.gates.bias[...]).at[0].set(gate)
        return model.decode(embedding[:1], coords, labels, mask=mask)[0]

    added = np.asarray(drawn(2.0) - drawn(0.0))
    np.testing.assert_allclose(added, np.repeat(2 * mask[:, None] / TRUST, 4, axis=1), atol=1e-4)


def test_open_gates_tell_cells_of_one_patch_apart(split):
    model = nnx.merge(*split)
    pixels = jnp.zeros((1, SIDE, SIDE, 3)).at[:, :, 6:].set(2.0)  # the edge is inside a patch
    embedding = model.encode(pixels)
    coords, labels = jnp.asarray([[[1.0, 8.0], [0.0, 0.0]]]), jnp.asarray([[FOREGROUND, PADDING]])

    def drawn(gate):
        model.gates.kernel[...] = jnp.zeros_like(model.gates.kernel[...])
        model.gates.bias[...] = jnp.full_like(model.gates.bias[...], gate).at[0].set(0.0)
        return model.decode(embedding, coords, labels)[0]

    added = np.asarray(drawn(1.0) - drawn(0.0))[0, 0]
    cells = added.reshape(SIDE // 2, 2, SIDE // 2, 2)
    np.testing.assert_allclose(cells, cells[:, :1, :, :1].repeat(2, 1).repeat(2, 3), atol=1e-5)
    assert added[8, 4:6].mean() > added[8, 6:8].mean() + 0.1


def test_a_join_is_blind_to_scale_and_to_other_patches():
    join = nnx.jit(Join(CONFIG, rngs=nnx.Rngs(0)))
    keys = jax.random.split(jax.random.key(0), 3)
    taps = [jax.random.normal(key, (1, 4, CONFIG.width)) for key in keys[:2]]
    patches = jax.random.normal(keys[2], (1, 4, 48))
    want = join(taps, patches)
    assert want.shape == (1, 4, CONFIG.prompt_width)
    grown = join([taps[0] * 100, taps[1] * 3 + 5], patches)  # deep blocks say things louder
    np.testing.assert_allclose(grown, want, atol=1e-4)
    louder = join(taps, patches * 100)  # pixels do not
    assert np.abs(louder - want).max() > 0.1
    changed = np.abs(join(taps, patches.at[0, 2].add(1.0)) - want).max(axis=(0, 2))
    np.testing.assert_array_equal(changed > 1e-6, [False, False, True, False])


def test_a_neck_sees_the_patches_around():
    neck = nnx.jit(Neck(6, 8, rngs=nnx.Rngs(0)))
    feats = jax.random.normal(jax.random.key(0), (1, 5, 5, 6))
    before, after = neck(feats), neck(feats.at[0, 1, 3].add(1.0))
    assert before.shape == (1, 5, 5, 8)
    near = np.zeros((5, 5), bool)
    near[0:3, 2:5] = True
    np.testing.assert_array_equal(np.abs(after - before)[0].max(axis=-1) > 1e-6, near)
