"""The promptable model and SAM's predictor, on small random weights."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from incontext.prompts.engine import SAMEngine, lay_in_square
from incontext.prompts.predictor import Predictor
from incontext.prompts.promptable import Promptable
from seggpt.canvas import normalize
from seggpt.errors import InputError, PromptError
from seggpt.frame import Frame
from tests.jitting import jitted

SAM = Path(__file__).parents[2] / "seggpt" / "golden" / "sam"
SIZE = (20, 30)
POINT, BOX = [[10.0, 12.0]], [3.0, 2.0, 25.0, 18.0]


@pytest.fixture(scope="module")
def model() -> Promptable:
    return Promptable.from_pretrained(SAM)


def picture(seed: int = 0, size=SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


@pytest.fixture(scope="module")
def state(model):
    return model.encode(picture())


def test_a_state_is_the_model_on_the_normalised_square(model, state):
    """Zero, not black, is what lies beside the picture."""
    frame = Frame.in_square(SIZE, 24)
    assert frame.inner == (16, 24)
    square = normalize(jnp.asarray(lay_in_square(picture(), frame) / np.float32(255)))
    square = square.at[16:].set(0.0)
    want = jitted(nnx.merge(model.engine.graphdef, model.engine.params).encode)(square[None])
    np.testing.assert_allclose(state.embedding, want, atol=1e-4)
    assert state.size == SIZE


@pytest.mark.parametrize("multimask", [True, False])
def test_one_prompt_gives_three_masks_or_one(model, state, multimask):
    answer = model.predict(state, points=POINT, multimask=multimask)
    count = 3 if multimask else 1
    assert answer.low_res.shape == (1, count, 24, 24)
    assert answer.scores.shape == (1, count)
    masks, logits = answer.masks(), answer.logits()
    assert masks.shape == logits.shape == (1, count, *SIZE)
    np.testing.assert_array_equal(masks, logits > 0)


def test_several_prompts_equal_each_by_itself(model, state):
    boxes = np.array([BOX, [0, 0, 10, 10], [5, 5, 30, 20]])
    together = model.predict(state, boxes=boxes)
    for index, box in enumerate(boxes):
        alone = model.predict(state, boxes=box)
        np.testing.assert_allclose(together.low_res[index], alone.low_res[0], atol=1e-4)
        np.testing.assert_allclose(together.scores[index], alone.scores[0], atol=1e-4)


def test_an_earlier_mask_refines(model, state):
    first = model.predict(state, points=POINT)
    again = model.predict(state, points=POINT, mask=first.low_res[0, 0])
    assert np.abs(again.low_res - first.low_res).max() > 1e-3


def test_a_state_of_another_model_is_refused(model, state):
    engine = model.engine
    changed = jax.tree.map(lambda a: np.asarray(a) + 1, engine.params)
    other = Promptable(SAMEngine(engine.config, changed, device=engine.device, dtype="float32"))
    with pytest.raises(PromptError, match=r"encoded by model .* encode it again"):
        other.predict(state, points=POINT)


def test_the_predictor_answers_in_sams_shapes(model, state):
    predictor = Predictor(model)
    assert not predictor.is_image_set
    predictor.set_image(picture())
    assert predictor.is_image_set
    masks, scores, low_res = predictor.predict(np.array(POINT), np.array([1]), box=np.array(BOX))
    assert (masks.shape, masks.dtype) == ((3, *SIZE), bool)
    assert scores.shape == (3,)
    assert low_res.shape == (3, 24, 24)
    want = model.predict(state, points=POINT, labels=[1], boxes=BOX)
    np.testing.assert_array_equal(low_res, want.low_res[0])
    one, *_ = predictor.predict(box=[BOX], multimask_output=False, return_logits=True)
    assert (one.shape, one.dtype) == ((1, *SIZE), np.float32)
    refined, *_ = predictor.predict(np.array(POINT), np.array([1]), mask_input=low_res[:1])
    assert refined.shape == (3, *SIZE)
    assert predictor.get_image_embedding().shape == (1, 16, 6, 6)
    predictor.reset_image()
    with pytest.raises(PromptError, match="call set_image"):
        predictor.predict(np.array(POINT), np.array([1]))


def test_the_predictor_takes_bgr(model):
    one, other = Predictor(model), Predictor(model)
    one.set_image(picture())
    other.set_image(picture()[..., ::-1], image_format="BGR")
    np.testing.assert_array_equal(one.get_image_embedding(), other.get_image_embedding())


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ({}, "no prompt"),
        ({"point_coords": POINT}, "come together"),
        ({"point_labels": [1]}, "come together"),
        ({"point_coords": [POINT], "point_labels": [[1]]}, r"3 axes; give \(k, 2\)"),
        ({"point_coords": [[31, 2]], "point_labels": [1]}, "point 31,2 is outside"),
        ({"box": [BOX, BOX]}, r"boxes of shape \(8,\)"),
        ({"mask_input": np.zeros((1, 256, 256))}, r"\(24, 24\)"),
    ],
)
def test_the_predictor_refuses_what_makes_no_sense(model, prompt, message):
    predictor = Predictor(model)
    predictor.set_image(picture())
    with pytest.raises(PromptError, match=message):
        predictor.predict(**prompt)


def test_an_unusable_picture_leaves_the_old_one(model):
    predictor = Predictor(model)
    predictor.set_image(picture())
    before = predictor.get_image_embedding()
    with pytest.raises(InputError):
        predictor.set_image(np.zeros((4, 4), np.float64))
    np.testing.assert_array_equal(predictor.get_image_embedding(), before)


def test_threads_get_what_one_thread_gets(model):
    """Every thread has its own picture, and the model is one."""

    def ask(seed: int) -> np.ndarray:
        state = model.encode(picture(seed))
        return model.predict(state, points=POINT, boxes=BOX).low_res

    serial = [ask(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(2):
            for one, other in zip(serial, pool.map(ask, range(4)), strict=True):
                np.testing.assert_array_equal(one, other)


def test_the_encoder_may_be_bfloat16_and_the_heads_are_not(model):
    small = Promptable.from_pretrained(SAM, dtype="bfloat16")
    assert small.engine.params["vit"]["pos_embed"].dtype == "bfloat16"
    assert small.engine.params["prompt_encoder"]["frequencies"].dtype == "float32"
    near = np.asarray(small.encode(picture()).embedding)
    assert near.dtype == np.float32
    exact = np.asarray(model.encode(picture()).embedding)
    assert 0 < np.abs(near - exact).mean() < 0.1
