"""The model against transformers' SegGPT on the same random weights, stage by stage."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from seggpt.attention import mutual_attention
from seggpt.config import SegGPTConfig
from seggpt.model import INSTANCE, SEMANTIC, SegGPT
from seggpt.weights import load_published

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.torch

B, H, W = 2, 24, 24


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory):
    """The reference, and ours with the weights that it wrote."""
    config = transformers.SegGptConfig(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=[2 * H, W],
        patch_size=4,
        pretrain_image_size=16,
        mlp_dim=64,
        decoder_hidden_size=8,
        merge_index=1,
        intermediate_hidden_state_indices=[1, 2, 3],
    )
    torch.manual_seed(0)
    reference = transformers.SegGptForImageSegmentation(config).eval()
    with torch.no_grad():
        for parameter in reference.parameters():  # the library starts some of them at zero
            parameter.add_(0.2 * torch.randn_like(parameter))
    folder = tmp_path_factory.mktemp("published")
    reference.save_pretrained(folder)
    loaded = load_published(folder)
    ours = SegGPTConfig.from_dict(loaded.config)
    graphdef, state = nnx.split(nnx.eval_shape(lambda: SegGPT(ours, rngs=nnx.Rngs(0))), nnx.Param)
    flat = nnx.to_flat_state(state)
    for path, variable in flat:
        value = loaded.params
        for key in path:
            value = value[key]
        variable.set_value(jnp.asarray(value))
    return reference, nnx.merge(graphdef, nnx.from_flat_state(flat))


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(0)
    return [rng.normal(size=(B, H, W, 3)).astype(np.float32) for _ in range(3)]


def channels_first(array: np.ndarray) -> Any:
    return torch.tensor(array).permute(0, 3, 1, 2)


def run_reference(reference, query, example, target, kind: str, **more):
    with torch.no_grad():
        return reference(
            pixel_values=channels_first(query),
            prompt_pixel_values=channels_first(example),
            prompt_masks=channels_first(target),
            embedding_type=kind,
            **more,
        )


@pytest.mark.parametrize(("kind", "number"), [("semantic", SEMANTIC), ("instance", INSTANCE)])
def test_painted_colours_equal_the_reference(pair, inputs, kind: str, number: int) -> None:
    reference, ours = pair
    example, target, query = inputs
    want = run_reference(reference, query, example, target, kind).pred_masks[:, :, H:]
    got = ours(
        jnp.asarray(example)[:, None],
        jnp.asarray(target)[:, None],
        jnp.asarray(query),
        kind=jnp.full(B, number),
    )
    assert np.std(want.numpy()) > 0.1  # not degenerate
    np.testing.assert_allclose(got, want.permute(0, 2, 3, 1), atol=1e-4)


def test_every_block_equals_the_reference(pair, inputs) -> None:
    reference, ours = pair
    example, target, query = inputs
    hidden = run_reference(
        reference, query, example, target, "semantic", output_hidden_states=True
    ).hidden_states
    images = jnp.stack([jnp.asarray(example), jnp.asarray(query)], axis=1)
    targets = jnp.stack([jnp.asarray(target), jnp.zeros_like(query)], axis=1)
    n = (H // 4) * (W // 4)
    masks = jnp.zeros((B, 2, n), bool).at[:, 1].set(True)
    tokens = ours._embed(images, targets, masks, kind=jnp.full(B, SEMANTIC), below=True)

    def attend(q, k, v, position):
        return mutual_attention(q, k, v, position, examples=1, shape=(H // 4, W // 4))

    for index in range(len(hidden)):
        want = hidden[index].reshape(len(tokens), 2 * n, -1)
        np.testing.assert_allclose(tokens, want, atol=3e-5 * (index + 1), err_msg=f"{index}")
        if index < ours.config.depth:
            tokens, _ = ours._block(index, tokens, attend, remat=False)


def test_a_masked_canvas_equals_the_reference(pair, inputs) -> None:
    """Training's view: patches masked anywhere, both halves decoded."""
    reference, ours = pair
    example, target, query = inputs
    gh, gw = H // 4, W // 4
    masked = np.asarray(jax.random.bernoulli(jax.random.key(0), 0.5, (B, 2 * gh * gw)))
    answer = np.random.default_rng(1).normal(size=(B, H, W, 3)).astype(np.float32)
    want = run_reference(
        reference,
        query,
        example,
        target,
        "semantic",
        labels=channels_first(answer),
        bool_masked_pos=torch.tensor(masked),
    ).pred_masks
    got = ours.paint(
        jnp.stack([jnp.asarray(example), jnp.asarray(query)], axis=1),
        jnp.stack([jnp.asarray(target), jnp.asarray(answer)], axis=1),
        jnp.asarray(masked).reshape(B, 2, -1),
        kind=jnp.full(B, SEMANTIC),
        output="canvas",
    )
    np.testing.assert_allclose(got, want.permute(0, 2, 3, 1), atol=1e-4)
