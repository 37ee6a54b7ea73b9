"""Heads for prompts on our own weights: the files that hold them, and what they answer."""

from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

from incontext import Example, Predictor, Segmenter
from incontext.prompts.engine import HeadsEngine
from incontext.prompts.promptable import Promptable
from seggpt.errors import CheckpointError, PromptError
from seggpt.weights import load_weights, save_weights
from tests.tiny_models import TINY_HEADS, fresh_weights, save_in_context, tiny_seggpt

SIZE = (60, 90)
LOW = (2 * 11 * 7, 2 * 16 * 7)  # 448 x 308 pixels, at stride 2
BOX = [20.0, 30.0, 50.0, 45.0]
POINTS = [[30.0, 40.0], [45.0, 20.0]]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return a file of weights with heads, and one of those without."""
    folder = tmp_path_factory.mktemp("weights")
    return save_in_context(folder, prompts=TINY_HEADS), save_in_context(folder)


@pytest.fixture(scope="module")
def model(files):
    return Promptable.from_pretrained(files[0])


@pytest.fixture(scope="module")
def segmenter(files):
    return Segmenter.from_pretrained(files[0])


def picture(seed=0, size=SIZE):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


@pytest.fixture(scope="module")
def state(model):
    return model.encode(picture())


def draw_mask():
    mask = np.zeros(SIZE, np.uint8)
    mask[30:50, 20:60] = 5
    return mask


# --- files


def test_weights_without_heads_are_refused_in_one_line(files, tmp_path):
    seggpt = tmp_path / "seggpt.safetensors"
    config = tiny_seggpt()
    save_weights(seggpt, fresh_weights(config), config=config.to_dict())
    for cls in (Promptable, Predictor):
        for path in (files[1], seggpt):
            with pytest.raises(CheckpointError, match=f"{path.name}.* points and box") as caught:
                cls.from_pretrained(path)
            assert "\n" not in str(caught.value)


def test_heads_change_nothing_of_the_in_context_model(files, segmenter):
    without = Segmenter.from_pretrained(files[1])
    assert segmenter.fingerprint == without.fingerprint
    examples = [Example(picture(1), draw_mask(), kind="labels")]
    one, other = (s.segment(picture(2), examples) for s in (segmenter, without))
    np.testing.assert_array_equal(one.probabilities_lowres, other.probabilities_lowres)
    # A context of one is a context of the other.
    again = without.segment(picture(2), segmenter.context(examples))
    np.testing.assert_array_equal(again.probabilities_lowres, one.probabilities_lowres)


def test_a_segmenter_holds_the_heads_of_its_file(segmenter, model, state):
    assert segmenter.promptable is segmenter.promptable
    assert segmenter.promptable.fingerprint == model.fingerprint
    one, other = (m.predict(state, points=POINTS) for m in (model, segmenter.promptable))
    np.testing.assert_array_equal(one.low_res, other.low_res)


def test_other_heads_or_another_model_below_are_another_model(files, model, state, tmp_path):
    loaded = load_weights(files[0])
    for part, name in (("prompts", "norm"), ("stem", "half")):
        changed = loaded.params | {part: dict(loaded.params[part])}
        changed[part][name] = jax.tree.map(lambda a: a + 1, changed[part][name])
        path = tmp_path / f"{part}.safetensors"
        save_weights(path, changed, config=loaded.config, metadata=loaded.metadata)
        other = Promptable.from_pretrained(path, encoder=loaded.metadata["encoder"])
        assert other.fingerprint != model.fingerprint
        with pytest.raises(PromptError, match=r"encoded by model .* encode it again"):
            other.predict(state, points=POINTS)


def test_heads_stay_exact_where_the_encoder_is_cast(files):
    cast = Promptable.from_pretrained(files[0], dtype="bfloat16").engine
    assert isinstance(cast, HeadsEngine)
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(cast.params)} == {"float32"}
    below = jax.tree.leaves(cast.engine.encoder_params)
    assert {str(leaf.dtype) for leaf in below} == {"bfloat16"}


# --- pictures


def test_pictures_keep_their_aspect_and_fill_what_is_seen(state):
    assert state.size == SIZE
    assert state.frame.inner == state.frame.outer == (308, 448)
    assert state.mask_shape == LOW


def test_what_a_segmenter_has_encoded_is_not_encoded_again(segmenter, monkeypatch):
    encoded = segmenter.encode(picture())
    monkeypatch.setattr(segmenter.engine, "_encode_image", None)
    state = segmenter.promptable.encode(encoded)
    monkeypatch.undo()
    again = segmenter.promptable.encode(picture())
    pairs = zip(*(jax.tree.leaves(s.embedding) for s in (state, again)), strict=True)
    for one, other in pairs:
        np.testing.assert_allclose(one, other, atol=1e-5)


# --- prompts


@pytest.mark.parametrize("multimask", [True, False])
def test_one_prompt_gives_three_masks_or_one(model, state, multimask):
    answer = model.predict(state, points=POINTS[:1], multimask=multimask)
    count = 3 if multimask else 1
    assert answer.low_res.shape == (1, count, *LOW)
    assert answer.scores.shape == (1, count)
    masks, logits = answer.masks(), answer.logits()
    assert masks.shape == logits.shape == (1, count, *SIZE)
    np.testing.assert_array_equal(masks, logits > 0)


def test_the_best_mask_is_the_one_with_the_highest_score(model, state):
    answer = model.predict(state, points=np.array(POINTS)[:, None])
    best = answer.best()
    rows, which = np.arange(2), answer.scores.argmax(axis=1)
    np.testing.assert_array_equal(best.scores[:, 0], answer.scores.max(axis=1))
    np.testing.assert_array_equal(best.masks()[:, 0], answer.masks()[rows, which])


def test_several_prompts_equal_each_by_itself(model, state):
    boxes = np.array([BOX, [2.0, 2.0, 88.0, 58.0], [60, 30, 85, 55]])
    together = model.predict(state, boxes=boxes)
    for index, box in enumerate(boxes):
        alone = model.predict(state, boxes=box)
        np.testing.assert_allclose(together.low_res[index], alone.low_res[0], atol=1e-4)
        np.testing.assert_allclose(together.scores[index], alone.scores[0], atol=1e-4)


def test_a_mask_of_an_answer_refines_the_next(model, state):
    first = model.predict(state, boxes=BOX).best()
    again = model.predict(state, boxes=BOX, mask=first.low_res[0, 0], multimask=False)
    assert np.isfinite(again.low_res).all()
    assert np.abs(again.low_res - first.low_res).max() > 1e-3
    with pytest.raises(PromptError, match=r"shape \(60, 90\); give the low-resolution"):
        model.predict(state, boxes=BOX, mask=np.zeros(SIZE))


def test_boxes_a_hair_outside_and_padding_points_are_taken(model, state):
    inside = model.predict(state, boxes=[0.0, 0, 90, 60])
    outside = model.predict(state, boxes=[-0.4, 0, 90.3, 60])
    np.testing.assert_allclose(inside.low_res, outside.low_res, atol=0.5)
    both = [[POINTS[0], [0, 0]], POINTS]
    answer = model.predict(state, points=both, labels=[[1, -1], [1, 0]])
    assert answer.low_res.shape == (2, 3, *LOW)


def test_threads_share_a_model(model):
    states = [model.encode(picture(seed)) for seed in range(2)]
    prompts = [
        {"boxes": BOX},
        {"points": POINTS, "labels": [1, 0]},
        {"points": POINTS[:1], "mask": np.full(LOW, -1.0)},
    ]
    work = [(states[i % 2], prompts[i // 2 % 3]) for i in range(12)]

    def answer(job):
        return model.predict(job[0], **job[1])

    serial = [answer(job) for job in work]
    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(serial, pool.map(answer, work), strict=True):
            np.testing.assert_array_equal(one.low_res, other.low_res)
