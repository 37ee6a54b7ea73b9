import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from seggpt.config import SegGPTConfig
from seggpt.model import INSTANCE, SEMANTIC, SegGPT
from tests.tiny_models import tiny_seggpt

CONFIGS = {attention: tiny_seggpt(attention) for attention in ("mutual", "prefix")}


def make_model(name: str) -> SegGPT:
    """Build a model with every weight away from its special first value."""
    model = SegGPT(CONFIGS[name], rngs=nnx.Rngs(0))
    graphdef, state = nnx.split(model, nnx.Param)
    leaves, tree = jax.tree.flatten(nnx.as_pure(state))
    keys = jax.random.split(jax.random.key(1), len(leaves))
    moved = [a + 0.2 * jax.random.normal(k, a.shape) for a, k in zip(leaves, keys, strict=True)]
    return nnx.merge(graphdef, jax.tree.unflatten(tree, moved))


class Jitted:
    """A model whose calls are compiled, once for each shape."""

    def __init__(self, model: SegGPT) -> None:
        self.model = model
        self._call = nnx_jit(SegGPT.__call__, model)

    def __call__(self, *args, kind: jax.Array) -> jax.Array:
        return self._call(*args, kind=kind)


def nnx_jit(method, model: SegGPT, **static):
    graphdef, state = nnx.split(model, nnx.Param)
    params = nnx.as_pure(state)
    run = jax.jit(lambda p, *args, **kw: method(nnx.merge(graphdef, p), *args, **static, **kw))
    return lambda *args, **kw: run(params, *args, **kw)


@pytest.fixture(scope="module", params=["mutual", "prefix"])
def model(request: pytest.FixtureRequest) -> Jitted:
    return Jitted(make_model(request.param))


def inputs(b: int = 2, e: int = 2, h: int = 16, w: int = 16) -> tuple[jax.Array, ...]:
    keys = jax.random.split(jax.random.key(3), 3)
    examples = jax.random.normal(keys[0], (b, e, h, w, 3))
    targets = jax.random.normal(keys[1], (b, e, h, w, 3))
    return examples, targets, jax.random.normal(keys[2], (b, h, w, 3))


def kinds(b: int, value: int = SEMANTIC) -> jax.Array:
    return jnp.full(b, value)


def test_output_has_the_query_shape_for_any_multiple_of_the_patch(model: Jitted) -> None:
    for h, w in [(16, 16), (8, 20)]:
        examples, targets, query = inputs(h=h, w=w)
        assert model(examples, targets, query, kind=kinds(2)).shape == (2, h, w, 3)


def test_order_of_examples_does_not_matter_to_the_query(model: Jitted) -> None:
    examples, targets, query = inputs(e=3)
    out = model(examples, targets, query, kind=kinds(2))
    turned = model(examples[:, ::-1], targets[:, ::-1], query, kind=kinds(2))
    # Mutual attention: the seam row of pixels sees the first example through a convolution.
    np.testing.assert_allclose(out[:, 1:], turned[:, 1:], atol=2e-5)


def test_one_example_repeated_equals_one_example(model: Jitted) -> None:
    examples, targets, query = inputs(e=1)
    one = model(examples, targets, query, kind=kinds(2))
    four = model(examples.repeat(4, 1), targets.repeat(4, 1), query, kind=kinds(2))
    np.testing.assert_allclose(one, four, atol=2e-5)


def test_a_batch_equals_its_members(model: Jitted) -> None:
    examples, targets, query = inputs(b=3)
    together = model(examples, targets, query, kind=kinds(3))
    for i in range(3):
        row = slice(i, i + 1)
        alone = model(examples[row], targets[row], query[row], kind=kinds(1))
        np.testing.assert_allclose(together[row], alone, atol=2e-5)


def test_the_example_and_its_colours_and_the_kind_matter(model: Jitted) -> None:
    examples, targets, query = inputs()
    out = model(examples, targets, query, kind=kinds(2))
    for other in (
        model(examples + 1, targets, query, kind=kinds(2)),
        model(examples, targets + 1, query, kind=kinds(2)),
        model(examples, targets, query, kind=kinds(2, INSTANCE)),
    ):
        assert np.abs(out - other).max() > 1e-3


def test_remat_changes_nothing() -> None:
    examples, targets, query = inputs()
    graphdef, state = nnx.split(make_model("prefix"), nnx.Param)

    def loss(params, remat: bool):
        out = nnx.merge(graphdef, params)(examples, targets, query, kind=kinds(2), remat=remat)
        return (out**2).mean()

    params = nnx.as_pure(state)
    plain, saved = (jax.jit(jax.grad(loss), static_argnums=1)(params, r) for r in (False, True))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), plain, saved)


def test_every_weight_gets_a_gradient(model: Jitted) -> None:
    examples, targets, query = inputs()
    graphdef, state = nnx.split(model.model, nnx.Param)
    kind = jnp.asarray([SEMANTIC, INSTANCE])

    def loss(params):
        return (nnx.merge(graphdef, params)(examples, targets, query, kind=kind) ** 2).mean()

    grads = jax.jit(jax.grad(loss))(nnx.as_pure(state))
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        assert np.abs(grad).max() > 0, name


def test_an_example_does_not_see_the_query_in_prefix() -> None:
    model = make_model("prefix")
    examples, targets, query = inputs()
    encode, decode = nnx_jit(SegGPT.encode, model), nnx_jit(SegGPT.decode, model)
    cache = encode(examples, targets, kind=kinds(2))
    out = decode(cache, query, kind=kinds(2))
    np.testing.assert_allclose(
        out, Jitted(model)(examples, targets, query, kind=kinds(2)), atol=1e-6
    )
    alone = encode(examples[:, :1], targets[:, :1], kind=kinds(2))
    for (keys, values), (keys_alone, values_alone) in zip(cache, alone, strict=True):
        n = keys_alone.shape[1]
        np.testing.assert_allclose(keys[:, :n], keys_alone, atol=1e-5)
        np.testing.assert_allclose(values[:, :n], values_alone, atol=1e-5)


def test_what_is_masked_does_not_matter_in_paint() -> None:
    model = make_model("mutual")
    examples, targets, query = inputs(e=1)
    images = jnp.concatenate([examples, query[:, None]], 1)
    answers = jnp.concatenate([targets, query[:, None]], 1)
    masks = jnp.zeros((2, 2, 16), bool).at[:, 1].set(True)
    paint = nnx_jit(SegGPT.paint, model, output="canvas")
    first = paint(images, answers, masks, kind=kinds(2))
    other = paint(images, answers.at[:, 1].add(5.0), masks, kind=kinds(2))
    np.testing.assert_array_equal(first, other)
    shown = paint(images, answers, masks.at[:, 1, 3].set(False), kind=kinds(2))
    assert np.abs(first - shown).max() > 1e-3


def test_what_a_canvas_leaves_out_is_its_own() -> None:
    model = make_model("mutual")
    examples, targets, query = inputs(e=1)
    images = jnp.concatenate([examples, query[:, None]], 1)
    answers = jnp.concatenate([targets, query[:, None]], 1)
    masks = jnp.zeros((2, 2, 16), bool).at[:, 1].set(True)
    paint = nnx_jit(SegGPT.paint, model, output="query")
    whole = paint(images, answers, masks, kind=kinds(2))
    kept = jnp.ones((2, model.config.depth, 2, 2))
    after = model.config.merge_block + 1  # where the streams are one, which counts as the first
    for part, changes in {(0, 0, 1): True, (after, 1, 0): True, (after, 1, 1): False}.items():
        left = paint(images, answers, masks, kind=kinds(2), kept=kept.at[(0, *part)].set(0))
        np.testing.assert_allclose(left[1], whole[1], atol=1e-5)
        assert (np.abs(left[0] - whole[0]).max() > 1e-3) == changes


def test_the_query_alone_is_the_lower_half_of_the_canvas() -> None:
    model = make_model("mutual")
    examples, targets, query = inputs(e=1)
    images = jnp.concatenate([examples, query[:, None]], 1)
    answers = jnp.concatenate([targets, query[:, None]], 1)
    masks = jnp.zeros((2, 2, 16), bool).at[:, 1].set(True)
    canvas = nnx_jit(SegGPT.paint, model, output="canvas")(images, answers, masks, kind=kinds(2))
    assert canvas.shape == (2, 32, 16, 3)
    alone = nnx_jit(SegGPT.paint, model, output="query")(images, answers, masks, kind=kinds(2))
    np.testing.assert_allclose(alone, canvas[:, 16:], atol=1e-5)
    np.testing.assert_allclose(
        Jitted(model)(examples, targets, query, kind=kinds(2)), alone, atol=1e-5
    )


def test_painter_has_no_type_tokens() -> None:
    config = tiny_seggpt("mutual", type_tokens=False)
    model = SegGPT(config, rngs=nnx.Rngs(0))
    call = Jitted(model)
    names = {str(path[0]) for path, _ in nnx.to_flat_state(nnx.state(model, nnx.Param))}
    assert not {name for name in names if name.startswith("type_token")}
    examples, targets, query = inputs()
    semantic = call(examples, targets, query, kind=kinds(2))
    instance = call(examples, targets, query, kind=kinds(2, INSTANCE))
    np.testing.assert_array_equal(semantic, instance)


def test_large_has_the_published_number_of_weights() -> None:
    model = nnx.eval_shape(lambda: SegGPT(SegGPTConfig.large(), rngs=nnx.Rngs(0)))
    count = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
    # 370,723,203 published, less the row of the table of positions for a cls token that is unused.
    assert count == 370_723_203 - 1024
