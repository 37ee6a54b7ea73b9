"""SAM against transformers' on the same random weights.

The recorded answers are made by `golden/make_sam_golden.py`; where torch and transformers are
installed, the reference runs beside ours as well. The slow test does so at the published size.
"""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from seggpt.config import SAMConfig
from seggpt.prompts import make_slots
from seggpt.sam.model import SAM
from seggpt.weights import load_published
from seggpt.weights.graft import graft
from tests.jitting import jitted

GOLDEN = Path(__file__).parent / "golden"
CASES = ("point", "points", "box", "points_box", "points_mask", "box_mask")


def load_model(folder: Path) -> SAM:
    loaded = load_published(folder, family="sam")
    config = SAMConfig.from_dict(loaded.config)
    graphdef, state = nnx.split(nnx.eval_shape(lambda: SAM(config, rngs=nnx.Rngs(0))), nnx.Param)
    params = graft(nnx.as_pure(state), loaded.params)
    return nnx.merge(graphdef, jax.tree.map(jnp.asarray, params))


@pytest.fixture(scope="module")
def model() -> SAM:
    return load_model(GOLDEN / "sam")


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "sam.npz") as file:
        return {name: file[name] for name in file.files}


def answer(model: SAM, golden, case: str, index: int, *, tight: bool = False):
    """Return our four masks and scores for every prompt of one picture."""
    count = (3 if case.startswith("points") else 1) if case.startswith("point") else 0
    slots = make_slots(
        golden["points"][index, :, :count],
        golden["labels"][index, :, :count],
        golden["boxes"][index] if "box" in case else None,
        tight=tight,
    )
    mask = None
    if case.endswith("mask"):
        mask = jnp.broadcast_to(
            golden["mask"][index], (len(slots.labels), *golden["mask"][0].shape)
        )
    return decode(model, golden["embedding"][index : index + 1], slots, mask)


def decode(model: SAM, embedding, slots, mask=None):
    graphdef, params = nnx.split(model)
    return _decode(graphdef, params, embedding, slots.coords, slots.labels, mask)


@partial(jax.jit, static_argnums=0)
def _decode(graphdef, params, embedding, coords, labels, mask):
    return nnx.merge(graphdef, params).decode(embedding, coords, labels, mask=mask)


def test_the_embedding_of_pictures_equals_the_reference(model, golden):
    want = golden["embedding"]
    assert np.std(want) > 0.5  # not degenerate
    np.testing.assert_allclose(jitted(model.encode)(golden["image"]), want, atol=1e-4)


@pytest.mark.parametrize("tight", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_masks_and_scores_equal_the_reference(model, golden, case, tight):
    for index in range(len(golden["image"])):
        masks, scores = answer(model, golden, case, index, tight=tight)
        for name, pick in (("one", slice(0, 1)), ("three", slice(1, 4))):
            want = golden[f"{case}_{name}_masks"][index]
            np.testing.assert_allclose(masks[:, pick], want, atol=1e-4)
            want = golden[f"{case}_{name}_scores"][index]
            np.testing.assert_allclose(scores[:, pick], want, atol=1e-4)


def test_a_picture_for_each_prompt_gives_what_one_for_all_does(model, golden):
    """Batches of prompts on different pictures."""
    slots = make_slots(golden["points"][:, 0], golden["labels"][:, 0], golden["boxes"][:, 0])
    masks, scores = decode(model, golden["embedding"], slots)
    want = golden["points_box_three_masks"][:, 0]
    np.testing.assert_allclose(masks[:, 1:], want, atol=1e-4)
    np.testing.assert_allclose(scores[:, 1:], golden["points_box_three_scores"][:, 0], atol=1e-4)


@pytest.mark.torch
def test_the_reference_itself_still_answers_so(golden):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from tests.seggpt.golden.make_sam_golden import make_reference, run_reference

    for name, array in run_reference(make_reference(), golden).items():
        np.testing.assert_allclose(array, golden[name], atol=1e-5, err_msg=name)


@pytest.mark.torch
@pytest.mark.slow
def test_the_published_size_equals_the_reference(tmp_path):
    """ViT-B at 1024 pixels, random weights: a minute and 3.4 GB on two cores."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from tests.seggpt.golden.make_sam_golden import make_published_reference

    reference = make_published_reference()
    reference.save_pretrained(tmp_path)
    model = load_model(tmp_path)
    assert model.config == SAMConfig.sam_base()
    rng = np.random.default_rng(0)
    image = rng.normal(size=(1, 1024, 1024, 3)).astype(np.float32)
    points = rng.uniform(0, 1024, (2, 2, 2)).astype(np.float32)
    with torch.no_grad():
        output = reference(
            pixel_values=torch.tensor(image).permute(0, 3, 1, 2),
            input_points=torch.tensor(points[None]),
            input_labels=torch.tensor([[[1, 0], [1, 1]]]),
        )
        embedding = reference.get_image_embeddings(torch.tensor(image).permute(0, 3, 1, 2))
    del reference
    graphdef, params = nnx.split(model)
    encoded = jax.jit(lambda p, i: nnx.merge(graphdef, p).encode(i))(params, jnp.asarray(image))
    np.testing.assert_allclose(encoded, embedding.permute(0, 2, 3, 1).numpy(), atol=1e-4)
    for tight in (True, False):  # with folded matrices, and without
        slots = make_slots(points, np.array([[1, 0], [1, 1]]), tight=tight)
        masks, scores = decode(model, encoded, slots)
        np.testing.assert_allclose(masks[:, 1:], output.pred_masks[0].numpy(), atol=1e-4)
        np.testing.assert_allclose(scores[:, 1:], output.iou_scores[0].numpy(), atol=1e-4)
