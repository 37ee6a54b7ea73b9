"""The two-way transformer, rule by rule."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from seggpt.prompts.transformer import (
    Attention,
    Guidance,
    Mlp,
    TwoWayBlock,
    TwoWayTransformer,
)
from tests.jitting import jitted
from tests.tiny_models import tiny_sam

WIDTH, PROMPTS, TOKENS, PATCHES = 8, 2, 3, 5
CONFIG = tiny_sam()
EVERYONE = jnp.ones((PROMPTS, TOKENS), bool)


def shaken(module):
    """Give a module weights far from their first values."""
    params = nnx.state(module)
    keys = iter(jax.random.split(jax.random.key(7), len(jax.tree.leaves(params))))
    nnx.update(
        module, jax.tree.map(lambda a: a + 0.5 * jax.random.normal(next(keys), a.shape), params)
    )
    return module


def noise(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


TOKEN, IMAGE = noise(0, PROMPTS, TOKENS, WIDTH), noise(1, 1, PATCHES, WIDTH)
PLACES = noise(2, PROMPTS, TOKENS, WIDTH), noise(3, 1, PATCHES, WIDTH)


def silence(attention):
    attention.out.kernel[...] = jnp.zeros_like(attention.out.kernel[...])
    attention.out.bias[...] = jnp.zeros_like(attention.out.bias[...])


def test_the_first_layers_self_attention_replaces_the_tokens():
    """No residual: when it finds nothing, nothing is left of the tokens."""
    block = shaken(TwoWayBlock(CONFIG, first=True, rngs=nnx.Rngs(0)))
    silence(block.self_attn)
    block = jitted(block)
    once, _ = block(TOKEN, IMAGE, places=PLACES, present=EVERYONE)
    other, _ = block(TOKEN + 1.0, IMAGE, places=PLACES, present=EVERYONE)
    np.testing.assert_allclose(once, other, atol=1e-6)


def test_later_layers_keep_the_tokens():
    block = shaken(TwoWayBlock(CONFIG, first=False, rngs=nnx.Rngs(0)))
    silence(block.self_attn)
    block = jitted(block)
    once, _ = block(TOKEN, IMAGE, places=PLACES, present=EVERYONE)
    other, _ = block(TOKEN.at[:, :, 0].add(1.0), IMAGE, places=PLACES, present=EVERYONE)
    assert np.abs(np.asarray(once - other)).max() > 0.05


@pytest.mark.parametrize("first", [True, False])
def test_only_later_layers_go_by_places_in_self_attention(first):
    block = shaken(TwoWayBlock(CONFIG, first=first, rngs=nnx.Rngs(0)))
    silence(block.to_image)
    block = jitted(block)
    none = (jnp.zeros_like(PLACES[0]), PLACES[1])
    once, _ = block(TOKEN, IMAGE, places=PLACES, present=EVERYONE)
    other, _ = block(TOKEN, IMAGE, places=none, present=EVERYONE)
    same = np.allclose(once, other, atol=1e-6)
    assert same == first


def test_norms_have_the_authors_epsilon():
    block = TwoWayBlock(CONFIG, first=True, rngs=nnx.Rngs(0))
    norms = (block.norm1, block.norm2, block.norm3, block.norm4)
    assert {norm.epsilon for norm in norms} == {1e-5}
    assert TwoWayTransformer(CONFIG, rngs=nnx.Rngs(0)).final_norm.epsilon == 1e-5


def test_absent_tokens_change_nothing():
    """Exactly as if they were not there, whatever they hold."""
    model = jitted(shaken(TwoWayTransformer(CONFIG, rngs=nnx.Rngs(0))))
    tokens, image = model(TOKEN, IMAGE, image_places=PLACES[1], present=EVERYONE)
    more = jnp.concatenate([TOKEN, noise(9, PROMPTS, 4, WIDTH)], axis=1)
    present = jnp.concatenate([EVERYONE, jnp.zeros((PROMPTS, 4), bool)], axis=1)
    tokens2, image2 = model(more, IMAGE, image_places=PLACES[1], present=present)
    np.testing.assert_allclose(tokens2[:, :TOKENS], tokens, atol=1e-5)
    np.testing.assert_allclose(image2, image, atol=1e-5)


def test_a_shared_picture_equals_one_for_each_prompt():
    model = jitted(shaken(TwoWayTransformer(CONFIG, rngs=nnx.Rngs(0))))
    shared = model(TOKEN, IMAGE, image_places=PLACES[1], present=EVERYONE)
    copies = jnp.broadcast_to(IMAGE, (PROMPTS, *IMAGE.shape[1:]))
    own = model(TOKEN, copies, image_places=PLACES[1], present=EVERYONE)
    for one, other in zip(shared, own, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def formula(attention, q, k, v, present):
    """Multi-head attention as the books have it, one head after the other."""
    q, k, v = (
        np.asarray(layer(a)) for layer, a in ((attention.q, q), (attention.k, k), (attention.v, v))
    )
    heads = []
    for head in np.split(np.arange(q.shape[-1]), attention.heads):
        logits = q[..., head] @ k[..., head].swapaxes(1, 2) / np.sqrt(len(head))
        weights = np.exp(logits) * present[:, None]
        heads.append(weights / weights.sum(-1, keepdims=True) @ v[..., head])
    return attention.out(jnp.asarray(np.concatenate(heads, axis=-1)))


# 2 heads of 3 tokens are fewer than 16, so matrices are folded where pictures differ, and not 4.
@pytest.mark.parametrize("inner", [4, 16])
@pytest.mark.parametrize("pictures", [1, PROMPTS])
def test_both_ways_of_looking_equal_the_formula(inner, pictures):
    attention = shaken(Attention(WIDTH, inner=inner, heads=2, rngs=nnx.Rngs(0)))
    image, other = noise(4, pictures, PATCHES, WIDTH), noise(5, pictures, PATCHES, WIDTH)
    everything = np.ones((PROMPTS, PATCHES))
    want = formula(attention, TOKEN, image, other, everything)
    np.testing.assert_allclose(jitted(attention)(TOKEN, image, other), want, atol=1e-5)
    some = np.array([[True, False, True], [True, True, True]])
    want = formula(attention, image, TOKEN, PLACES[0], some)
    found = jitted(attention.spread)(image, TOKEN, PLACES[0], present=jnp.asarray(some))
    np.testing.assert_allclose(found, want, atol=1e-5)


def test_tokens_that_look_at_themselves_skip_the_absent():
    attention = shaken(Attention(WIDTH, inner=8, heads=2, rngs=nnx.Rngs(0)))
    some = np.array([[True, False, True], [True, True, False]])
    want = formula(attention, TOKEN, TOKEN, TOKEN, some)
    found = jitted(attention)(TOKEN, TOKEN, TOKEN, present=jnp.asarray(some))
    np.testing.assert_allclose(found, want, atol=1e-5)


def test_an_mlp_ends_without_a_relu():
    mlp = shaken(Mlp(WIDTH, 4, 3, rngs=nnx.Rngs(0)))
    assert mlp(noise(0, 50, WIDTH)).min() < 0


def test_what_draws_tokens_is_added_to_their_weights_before_a_second_softmax():
    attention = shaken(Attention(WIDTH, inner=4, heads=1, rngs=nnx.Rngs(0)))
    tokens, image, drawn = (
        noise(1, 1, TOKENS, WIDTH),
        noise(2, 1, PATCHES, WIDTH),
        noise(3, 1, PATCHES),
    )
    found = jitted(attention)(tokens, image, image, drawn=drawn)
    logits = attention.q(tokens)[0] @ attention.k(image)[0].T / 2  # the root of 4
    weights = jax.nn.softmax(jax.nn.softmax(logits) + drawn)
    want = attention.out(weights @ attention.v(image)[0])
    np.testing.assert_allclose(found[0], want, atol=1e-5)


def test_a_feature_joins_the_tokens_at_every_layer_and_at_the_last_look():
    """Written out: places have it once, later layers and the last query once more."""
    model = shaken(TwoWayTransformer(CONFIG, rngs=nnx.Rngs(0)))
    tokens, image = noise(1, PROMPTS, TOKENS, WIDTH), noise(2, 1, PATCHES, WIDTH)
    places, feature, drawn = noise(3, 1, PATCHES, WIDTH), noise(4, 1, WIDTH), noise(5, 1, PATCHES)
    found, _ = jitted(model)(
        tokens,
        image,
        image_places=places,
        present=EVERYONE,
        guidance=Guidance(drawn, feature),
    )

    def by_hand(tokens, image, places, feature, drawn):
        start = tokens + feature
        both = {"places": (start, places), "present": EVERYONE, "drawn": drawn}
        first, seen = model.layers[0](start, image, **both)
        second, seen = model.layers[1](first + feature, seen, **both)
        last = model.final_attn(second + start + feature, seen + places, seen)
        return model.final_norm(second + last)

    want = jitted(by_hand)(tokens, image, places, feature, drawn)
    np.testing.assert_allclose(found, want, atol=1e-5)
