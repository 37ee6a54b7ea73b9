"""HQ-SAM against transformers' on the same random weights.

Masks are drawn there (5.24, `SamHQMaskDecoder.forward`) of the picture as it comes into the two-way
transformer, rows and columns swapped. HQ-SAM's authors draw them of what comes out
(mask_decoder_hq.py, `predict_masks`), like SAM, and so does the reference here: see `mend`.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from seggpt.config import SAMConfig
from seggpt.prompts import make_slots
from seggpt.sam.family import make_sam
from seggpt.sam.hq import HQSAM
from seggpt.weights import load_published
from seggpt.weights.graft import graft

pytestmark = pytest.mark.torch

SIZE, PATCH, WIDTH = 24, 4, 24  # 6 x 6 patches in windows of 4: they do not tile it
rng = np.random.default_rng(0)
IMAGE = rng.normal(size=(1, SIZE, SIZE, 3)).astype(np.float32)
POINTS = rng.uniform(0, SIZE, (2, 2, 2)).astype(np.float32)
LABELS = np.array([[1, 0], [1, 1]])
BOXES = rng.uniform(0, SIZE, (2, 4)).astype(np.float32)
MASK = (4 * rng.normal(size=(SIZE, SIZE))).astype(np.float32)


def make_reference() -> Any:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    from tests.seggpt.golden.make_sam_golden import shake

    vision = {"hidden_size": WIDTH, "output_channels": 16, "num_hidden_layers": 3}
    vision |= {"num_attention_heads": 2, "image_size": SIZE, "patch_size": PATCH}
    # The first block without windows is neither the first nor the last.
    vision |= {
        "window_size": 4,
        "global_attn_indexes": [1, 2],
        "num_pos_feats": 8,
        "mlp_ratio": 2.0,
    }
    prompts = {"hidden_size": 16, "image_size": SIZE, "patch_size": PATCH}
    decoder = {"hidden_size": 16, "mlp_dim": 24, "iou_head_hidden_dim": 16, "vit_dim": WIDTH}
    config = transformers.SamHQConfig(
        vision_config=vision,
        prompt_encoder_config=prompts | {"mask_input_channels": 16},
        mask_decoder_config=decoder | {"layer_norm_eps": 1e-5},
    )
    reference = shake(transformers.SamHQModel(config))
    decoder: Any = reference.mask_decoder
    torch = pytest.importorskip("torch")
    with torch.no_grad():  # as loud as what it is added to
        decoder.hq_token.weight.normal_()
    mend(decoder)
    return reference


def mend(decoder: Any) -> None:
    """Let a decoder draw of what its transformer gives."""
    given = {}
    decoder.transformer.register_forward_hook(lambda _, __, out: given.update(image=out[1]))

    def replace(_, arguments):
        (image,) = arguments
        return given["image"].transpose(-1, -2).reshape(image.shape)

    decoder.upscale_conv1.register_forward_pre_hook(replace)


@pytest.fixture(scope="module")
def reference() -> Any:
    return make_reference()


def build(loaded) -> HQSAM:
    config = SAMConfig.from_dict(loaded.config)
    abstract = nnx.eval_shape(lambda: make_sam(config, rngs=nnx.Rngs(0)))
    graphdef, state = nnx.split(abstract, nnx.Param)
    params = graft(nnx.as_pure(state), loaded.params)
    model = nnx.merge(graphdef, jax.tree.map(jnp.asarray, params))
    assert isinstance(model, HQSAM)
    return model


@pytest.fixture(scope="module")
def model(reference, tmp_path_factory) -> HQSAM:
    folder = tmp_path_factory.mktemp("hq")
    reference.save_pretrained(folder)
    return build(load_published(folder, family="sam"))


@pytest.fixture(scope="module")
def embedding(model):
    graphdef, params = nnx.split(model)
    return jax.jit(lambda p, i: nnx.merge(graphdef, p).encode(i))(params, jnp.asarray(IMAGE))


def prompt_of(case: str) -> dict[str, Any]:
    torch = pytest.importorskip("torch")
    prompt = {}
    if "points" in case:
        prompt["input_points"] = torch.tensor(POINTS[None])
        prompt["input_labels"] = torch.tensor(LABELS[None])
    if "box" in case:
        prompt["input_boxes"] = torch.tensor(BOXES[None])
    if "mask" in case:
        prompt["input_masks"] = torch.tensor(MASK[None, None])
    return prompt


def answer(model, embedding, case: str):
    count = 2 if "points" in case else 0
    boxes = BOXES if "box" in case else None
    slots = make_slots(POINTS[:, :count], LABELS[:, :count], boxes)
    mask = jnp.broadcast_to(MASK, (2, *MASK.shape)) if "mask" in case else None
    graphdef, params = nnx.split(model)
    return _decode(graphdef, params, embedding, slots.coords, slots.labels, mask)


@partial(jax.jit, static_argnums=0)
def _decode(graphdef, params, embedding, coords, labels, mask):
    return nnx.merge(graphdef, params).decode(embedding, coords, labels, mask=mask)


def sorted_as_theirs(masks, scores):
    """Return the three masks of a prompt best first, which is how the reference gives them."""
    masks, scores = np.asarray(masks)[:, 1:], np.asarray(scores)[:, 1:]
    order = np.argsort(-scores, axis=1)
    rows = np.arange(len(order))[:, None]
    return masks[rows, order], scores[rows, order]


def assert_near(found, want):
    """Compare at 1e-4 of the scale, which must not be nothing."""
    want = want.numpy() if hasattr(want, "numpy") else want
    scale = np.abs(want).max()
    assert np.std(want) > 0.01
    np.testing.assert_allclose(found, want, rtol=0, atol=1e-4 * scale)


def test_the_config_is_read_from_the_shapes(model):
    config = model.config
    assert (config.decoder, config.depth, config.global_blocks) == ("hq", 3, (1, 2))
    assert SAMConfig.from_dict(config.to_dict()) == config


def test_what_the_encoder_keeps_equals_the_reference(embedding, reference):
    """The embedding, and the fine features of the early block as the decoder computes them."""
    torch = pytest.importorskip("torch")
    pixels = torch.tensor(IMAGE).permute(0, 3, 1, 2)
    with torch.no_grad():
        said, early = reference.get_image_embeddings(pixels)
        decoder, gelu = reference.mask_decoder, torch.nn.functional.gelu
        fine = decoder.encoder_conv2(gelu(decoder.encoder_norm(decoder.encoder_conv1(said))))
        first = decoder.compress_vit_conv1(early[0].permute(0, 3, 1, 2))
        fine = fine + decoder.compress_vit_conv2(gelu(decoder.compress_vit_norm(first)))
    found = np.asarray(embedding)
    assert_near(found[..., :16], said.permute(0, 2, 3, 1))
    lattice = found[0, ..., 16:].reshape(6, 6, 4, 4, 2).swapaxes(1, 2).reshape(24, 24, 2)
    assert_near(lattice, fine[0].permute(1, 2, 0))


@pytest.mark.parametrize("case", ["points", "box"])
def test_the_decoder_alone_equals_the_reference(model, reference, case):
    """Both decode one random embedding and one random early feature."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(5)
    said, early = (rng.normal(size=(1, 6, 6, c)).astype(np.float32) for c in (16, WIDTH))
    with torch.no_grad():
        output = reference(
            image_embeddings=torch.tensor(said).permute(0, 3, 1, 2),
            intermediate_embeddings=[torch.tensor(early)],
            **prompt_of(case),
        )
    fine = model.fine_early(jnp.asarray(early)) + model.fine_last(jnp.asarray(said))
    found = answer(model, jnp.concatenate([said, fine], axis=-1), case)
    masks, scores = sorted_as_theirs(*found)
    assert_near(masks, output.pred_masks[0])
    assert_near(scores, output.iou_scores[0])


@pytest.mark.parametrize("case", ["points", "box", "points_box", "points_mask"])
def test_masks_equal_the_reference_end_to_end(model, embedding, reference, case):
    torch = pytest.importorskip("torch")
    pixels = torch.tensor(IMAGE).permute(0, 3, 1, 2)
    masks, scores = answer(model, embedding, case)
    found = {True: sorted_as_theirs(masks, scores), False: (masks[:, :1], scores[:, :1])}
    for multimask in (True, False):
        with torch.no_grad():
            output = reference(pixel_values=pixels, multimask_output=multimask, **prompt_of(case))
        assert_near(found[multimask][0], output.pred_masks[0])
        assert_near(found[multimask][1], output.iou_scores[0])


def test_the_fifth_mask_is_no_small_part(model, reference):
    torch = pytest.importorskip("torch")
    pixels = torch.tensor(IMAGE).permute(0, 3, 1, 2)
    with torch.no_grad():
        added = reference(pixel_values=pixels, hq_token_only=True, **prompt_of("points"))
        whole = reference(pixel_values=pixels, **prompt_of("points"))
    assert added.pred_masks.std() > 0.2 * whole.pred_masks.std()


def test_part_of_a_picture_is_drawn_as_in_the_whole(model, embedding):
    """As everything mode draws only what a picture fills; a patch more is enough."""
    slots = make_slots(POINTS, LABELS)
    graphdef, params = nnx.split(model)
    rows, cols = 3 + model.reach, 2 + model.reach

    def draw(params, coords, labels):
        model = nnx.merge(graphdef, params)
        tokens, image = model.look(embedding, coords, labels)
        part = image.reshape(2, 6, 6, -1)[:, :rows, :cols].reshape(2, rows * cols, -1)
        whole = model.draw(tokens, image, shape=(6, 6))
        return whole, model.draw(tokens, part, shape=(rows, cols))

    whole, part = jax.jit(draw)(params, jnp.asarray(slots.coords), jnp.asarray(slots.labels))
    np.testing.assert_allclose(part[..., :12, :8], whole[..., :12, :8], atol=1e-5)
    assert not np.allclose(part[..., -1, :8], whole[..., 4 * rows - 1, :8], atol=1e-3)
