"""The model against transformers' SegGPT on the same random weights, stage by stage.

The recorded answers are made by `golden/make_golden.py`; where torch and transformers are
installed, the reference runs beside ours as well.
"""

from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jaxtyping import Array

from seggpt.attention import mutual_attention
from seggpt.config import SegGPTConfig
from seggpt.losses import smooth_l1
from seggpt.model import INSTANCE, SEMANTIC, SegGPT
from seggpt.weights import load_published
from tests.jitting import jitted

GOLDEN = Path(__file__).parent / "golden"
BETA = 0.01  # of the published loss
KINDS = [("semantic", SEMANTIC), ("instance", INSTANCE)]


def load_model(folder: Path) -> SegGPT:
    loaded = load_published(folder)
    config = SegGPTConfig.from_dict(loaded.config)
    graphdef, state = nnx.split(nnx.eval_shape(lambda: SegGPT(config, rngs=nnx.Rngs(0))), nnx.Param)
    flat = nnx.to_flat_state(state)
    for path, variable in flat:
        value = loaded.params
        for key in path:
            value = value[key]
        variable.set_value(jnp.asarray(value))
    return nnx.merge(graphdef, nnx.from_flat_state(flat))


@pytest.fixture(scope="module")
def model() -> SegGPT:
    return load_model(GOLDEN / "seggpt")


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "seggpt.npz") as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="module")
def call(model: SegGPT) -> Callable[..., Array]:
    return jitted(model)


def pairs(upper: np.ndarray | Array, lower: np.ndarray | Array) -> Array:
    return jnp.stack([jnp.asarray(upper), jnp.asarray(lower)], axis=1)


def paint(call: Callable[..., Array], arrays: dict[str, np.ndarray], number: int) -> Array:
    query = jnp.asarray(arrays["query"])
    example, target = (jnp.asarray(arrays[name])[:, None] for name in ("example", "target"))
    return call(example, target, query, kind=jnp.full(len(query), number))


@pytest.mark.parametrize(("kind", "number"), KINDS)
def test_painted_colours_equal_the_reference(call, golden, kind, number):
    want = golden[f"{kind}_painted"]
    assert np.std(want) > 0.1  # not degenerate
    np.testing.assert_allclose(paint(call, golden, number), want, atol=1e-4)


def test_pictures_of_another_size_equal_the_reference(call, golden):
    """Both tables of positions are resized: the absolute one bicubic, the relative ones linear."""
    query, example, target = (
        jnp.asarray(golden[f"wide_{name}"]) for name in ("query", "example", "target")
    )
    assert query.shape[1] != query.shape[2]
    painted = call(example[:, None], target[:, None], query, kind=jnp.full(1, INSTANCE))
    np.testing.assert_allclose(painted, golden["wide_painted"], atol=1e-4)


def test_the_feature_ensemble_equals_canvases_whose_queries_are_averaged(model, call, golden):
    """The authors' rule, canvas by canvas: after every attention, each stream by itself."""
    count = 3
    rng = np.random.default_rng(1)
    examples, targets = jnp.asarray(rng.normal(size=(2, 1, count, 16, 16, 3)), jnp.float32)
    query = jnp.asarray(golden["query"][:1])
    got = call(examples, targets, query, kind=jnp.full(1, SEMANTIC))

    gh = gw = 16 // model.config.patch_size
    n = gh * gw

    def attend(q, k, v, position):
        out = mutual_attention(q, k, v, position, examples=1, shape=(gh, gw))
        streams = out.reshape(-1, count, 2, n, *out.shape[2:])
        mean = streams[:, :, 1].mean(axis=1, keepdims=True)
        return (
            streams.at[:, :, 1]
            .set(jnp.broadcast_to(mean, streams[:, :, 1].shape))
            .reshape(out.shape)
        )

    def paint_canvases(examples, targets, query):
        masks = jnp.zeros((count, 2, n), bool).at[:, 1].set(True)
        queries = jnp.repeat(query, count, axis=0)
        tokens = model._embed(
            pairs(examples[0], queries),
            pairs(targets[0], jnp.zeros_like(queries)),
            masks,
            kind=jnp.full(count, SEMANTIC),
            below=True,
        )
        taps = model._run(tokens, [attend] * model.config.depth, remat=False)
        return model.decoder(taps, shape=(2 * gh, gw))[:, 16:]

    painted = jitted(paint_canvases)(examples, targets, query)
    # Only the row at the seam differs between canvases: a convolution sees each one's example.
    # A few layers magnify the rounding of single tokens, by either way, to some 2e-5.
    np.testing.assert_allclose(painted[:1], got, rtol=1e-4, atol=1e-5)
    for other in painted[1:]:
        np.testing.assert_allclose(other[1:], got[0, 1:], rtol=1e-4, atol=1e-5)


def test_every_block_equals_the_reference(model, golden):
    query = golden["query"]
    patch = model.config.patch_size
    shape = (query.shape[1] // patch, query.shape[2] // patch)
    n = shape[0] * shape[1]
    masks = jnp.zeros((len(query), 2, n), bool).at[:, 1].set(True)
    tokens = jitted(model._embed)(
        pairs(golden["example"], query),
        pairs(golden["target"], np.zeros_like(query)),
        masks,
        kind=jnp.full(len(query), INSTANCE),
        below=True,
    )

    def attend(q, k, v, position):
        return mutual_attention(q, k, v, position, examples=1, shape=shape)

    depth = model.config.depth
    block = jitted(model._block)
    for index in range(depth + 1):
        want = golden[f"instance_block_{index}"]
        np.testing.assert_allclose(tokens, want, atol=3e-5 * (index + 1), err_msg=f"{index}")
        if index < depth:
            tokens, _ = block(index, tokens, attend, remat=False)


def test_a_masked_canvas_and_its_loss_equal_the_reference(model, golden):
    """Training's view: patches masked anywhere, both halves decoded."""
    query, answer, masked = golden["query"], golden["answer"], golden["masked"]
    painted = jitted(model.paint)(
        pairs(golden["example"], query),
        pairs(golden["target"], answer),
        jnp.asarray(masked).reshape(len(query), 2, -1),
        kind=jnp.full(len(query), SEMANTIC),
        output="canvas",
    )
    np.testing.assert_allclose(painted, golden["masked_painted"], atol=1e-4)
    patch = model.config.patch_size
    gw = query.shape[2] // patch
    pixels = masked.reshape(len(query), -1, gw).repeat(patch, axis=1).repeat(patch, axis=2)
    canvas = np.concatenate([golden["target"], answer], axis=1)
    loss = smooth_l1(painted, jnp.asarray(canvas), jnp.asarray(pixels, jnp.float32), beta=BETA)
    np.testing.assert_allclose(loss, golden["masked_loss"], rtol=1e-5)


@pytest.mark.torch
@pytest.mark.parametrize(("kind", "number"), KINDS)
def test_the_reference_itself_still_answers_so(tmp_path, golden, kind, number):
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from tests.seggpt.golden.make_golden import channels_first, channels_last, make_reference

    reference = make_reference()
    reference.save_pretrained(tmp_path)
    with torch.no_grad():
        painted = reference(
            pixel_values=channels_first(golden["query"]),
            prompt_pixel_values=channels_first(golden["example"]),
            prompt_masks=channels_first(golden["target"]),
            embedding_type=kind,
        ).pred_masks
    want = channels_last(painted)[:, golden["query"].shape[1] :]
    np.testing.assert_allclose(want, golden[f"{kind}_painted"], atol=1e-5)
    np.testing.assert_allclose(paint(jitted(load_model(tmp_path)), golden, number), want, atol=1e-4)
