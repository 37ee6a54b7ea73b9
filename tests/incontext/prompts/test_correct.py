"""Proposals corrected by a prompt: what the label gets, and what the others keep."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from incontext import Example
from incontext.examples.encoded import load_source
from incontext.prompts.answers import Answer
from incontext.prompts.correct import MOST_LOGIT, MOST_SIDE, correct
from incontext.prompts.promptable import EncodedImage, Promptable
from incontext.result import Result
from seggpt.errors import CheckpointError, PromptError
from seggpt.frame import Frame
from tests.tiny_models import SIDE, TINY_HEADS, in_context_segmenter

BOX = [2.0, 3.0, 9.0, 12.0]


class Told(Promptable):
    """A model that answers what it was told to, and remembers what it was asked."""

    def __init__(self, logits: np.ndarray) -> None:
        self.logits = logits.astype(np.float32)
        self.asked = {}

    def encode(self, image, **options):
        frame = Frame.filled(load_source(image).shape[:2], (SIDE, SIDE))
        return EncodedImage(jnp.zeros((1, 4, 4, 16)), frame, "told", 4, 4)

    def predict(self, state, **asked):
        self.asked = asked
        scores = np.ones((1, 1), np.float32)
        return Answer(low_res=self.logits[None, None], scores=scores, frame=state.frame)


def make_result(labels=(3, 7), *, size=(SIDE, SIDE), seed=0, **changes):
    rng = np.random.default_rng(seed)
    probabilities = rng.uniform(0.05, 1, (1 + len(labels), SIDE, SIDE)).astype(np.float32)
    probabilities /= probabilities.sum(axis=0)
    image = rng.integers(0, 256, (*size, 3), np.uint8)
    return Result(
        probabilities_lowres=probabilities, labels=labels, size=size, image=image, **changes
    )


def draw_logits(seed=1):
    return np.random.default_rng(seed).normal(size=(SIDE, SIDE)) * 3


def corrected(result, logits, *, about=None):
    model = Told(logits)
    assert result.image is not None
    state = model.encode(result.image)
    return correct(result, model, state, points=None, labels=None, boxes=BOX, about=about)


def logit(probabilities):
    return np.log(probabilities / (1 - probabilities))


@pytest.mark.parametrize("threshold", [0.5, 0.3])
@pytest.mark.parametrize("about", [3, 7])
def test_chances_sum_to_one_and_the_label_has_what_the_model_says(threshold, about):
    result = make_result(threshold=threshold)
    logits = draw_logits()
    channels = corrected(result, logits, about=about).probabilities_lowres
    np.testing.assert_allclose(channels.sum(axis=0), 1, atol=1e-5)
    assert channels.min() >= -1e-6
    np.testing.assert_allclose(
        channels[1 + result.labels.index(about)],
        1 / (1 + np.exp(-logits - logit(threshold))),
        atol=1e-5,
    )


@pytest.mark.parametrize("threshold", [0.5, 0.3, 0.8])
def test_one_label_is_marked_where_the_model_marks_it(threshold):
    logits = draw_logits()
    found = corrected(make_result((5,), threshold=threshold), logits)
    np.testing.assert_array_equal(found.label_map == 5, logits > 0)
    assert found.threshold == threshold


def test_the_others_share_the_rest_as_before():
    result = make_result((3, 7, 2))
    before = np.delete(result.probabilities_lowres, 2, axis=0)
    after = np.delete(corrected(result, draw_logits(), about=7).probabilities_lowres, 2, axis=0)
    np.testing.assert_allclose(
        after / after.sum(axis=0), before / before.sum(axis=0), rtol=1e-3, atol=1e-5
    )


def test_what_is_taken_from_a_label_nobody_else_loses():
    """A click on background: where the answer falls, all others rise."""
    result = make_result((3, 7))
    logits = logit(result.probabilities_lowres[1])
    logits[4:9, 4:9] = -8
    before, after = (r.probabilities_lowres for r in (result, corrected(result, logits, about=3)))
    part = np.zeros((SIDE, SIDE), bool)
    part[4:9, 4:9] = True
    assert (after[1, part] < 0.001).all()
    assert (after[0, part] > before[0, part]).all()
    assert (after[2, part] > before[2, part]).all()
    np.testing.assert_allclose(after[:, ~part], before[:, ~part], atol=1e-4)


def test_the_background_has_what_nobody_had_a_chance_of():
    probabilities = np.zeros((3, SIDE, SIDE), np.float32)
    probabilities[1] = 1
    result = dataclasses.replace(make_result(), probabilities_lowres=probabilities)
    channels = corrected(result, np.full((SIDE, SIDE), -9.0), about=3).probabilities_lowres
    assert channels[0].min() > 0.999
    np.testing.assert_allclose(channels.sum(axis=0), 1, atol=1e-5)
    np.testing.assert_array_equal(channels[2], 0)


@pytest.mark.parametrize("threshold", [0.5, 0.3])
def test_the_proposal_is_a_mask_of_what_was_found(threshold):
    model = Told(draw_logits())
    result = make_result((5,), threshold=threshold)
    result.probabilities_lowres[1, :2], result.probabilities_lowres[1, 2:4] = 0, 1
    points, labels = [[3, 4], [5, 6]], [1, 0]
    assert result.image is not None
    state = model.encode(result.image)
    correct(result, model, state, points=points, labels=labels, boxes=None, about=None)
    mask = model.asked.pop("mask")
    np.testing.assert_array_equal(mask > 0, result.probabilities_lowres[1] > threshold)
    assert np.isfinite(mask).all()
    assert np.abs(mask).max() <= MOST_LOGIT
    middle = np.s_[4:]
    want = logit(result.probabilities_lowres[1][middle]) - logit(threshold)
    np.testing.assert_allclose(mask[middle], want, atol=1e-4)
    assert model.asked == {"points": points, "labels": labels, "boxes": None, "multimask": False}


def test_the_result_that_was_corrected_stays_as_it_was():
    result = make_result(names={3: "leaf"}, source="a.png", threshold=0.4)
    before = result.probabilities_lowres.copy()
    after = corrected(result, draw_logits(), about=3)
    np.testing.assert_array_equal(result.probabilities_lowres, before)
    for field in dataclasses.fields(Result):
        if field.name != "probabilities_lowres":
            assert getattr(after, field.name) is getattr(result, field.name)


@pytest.mark.parametrize("size", [(2 * MOST_SIDE, 28), (24, MOST_SIDE + 400), (40, 30)])
def test_chances_are_as_fine_as_the_picture_up_to_a_limit(size):
    channels = corrected(make_result(size=size), draw_logits(), about=3).probabilities_lowres
    most = max(size)
    scale = min(1, MOST_SIDE / most)
    assert channels.shape == (3, *(round(extent * scale) for extent in size))
    np.testing.assert_allclose(channels.sum(axis=0), 1, atol=1e-5)


def test_a_correction_can_be_corrected():
    first = corrected(make_result(size=(40, 30)), draw_logits(), about=3)
    again = corrected(first, draw_logits(2), about=7)
    np.testing.assert_allclose(again.probabilities_lowres.sum(axis=0), 1, atol=1e-5)
    assert again.labels == first.labels


@pytest.mark.parametrize(
    ("labels", "about", "message"),
    [
        ((3, 7), None, r"one of the labels 3, 7: say which \(about=...\)"),
        ((3, 7), 5, r"label 5 is none of the context's \(3, 7\)"),
        ((3,), 7, r"label 7 is none of the context's \(3\)"),
    ],
)
def test_it_must_be_clear_which_label_is_meant(labels, about, message):
    with pytest.raises(PromptError, match=message):
        corrected(make_result(labels), draw_logits(), about=about)


# --- with a model


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    return in_context_segmenter(tmp_path_factory.mktemp("weights"), prompts=TINY_HEADS)


@pytest.fixture(scope="module")
def context(segmenter):
    return segmenter.context([Example(draw_picture(0), draw_mask(), kind="labels")])


def draw_picture(seed):
    return np.random.default_rng(seed).integers(0, 256, (40, 60, 3), np.uint8)


def draw_mask(first=4, second=6):
    mask = np.zeros((40, 60), np.uint8)
    mask[5:20, 5:30], mask[25:35, 30:55] = first, second
    return mask


def test_a_picture_is_segmented_and_corrected(segmenter, context):
    picture = draw_picture(1)
    plain = segmenter.segment(picture, context)
    after = segmenter.segment(picture, context, boxes=[10, 5, 30, 25], about=6)
    model = segmenter.promptable
    want = correct(
        plain,
        model,
        model.encode(picture),
        points=None,
        labels=None,
        boxes=[10, 5, 30, 25],
        about=6,
    )
    np.testing.assert_allclose(after.probabilities_lowres, want.probabilities_lowres, atol=1e-5)
    assert after.labels == (4, 6)
    assert after.label_map.shape == (40, 60)
    probabilities = after.probabilities()
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-4)
    assert np.abs(probabilities - plain.probabilities()).max() > 0.01
    again = segmenter.segment(picture, context)
    np.testing.assert_array_equal(again.probabilities_lowres, plain.probabilities_lowres)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ({"points": [[65, 5]]}, "point 65,5 is outside the picture of 60x40"),
        ({"labels": [1]}, "labels without points"),
        ({"points": [[6, 5]], "labels": [2]}, "point label 2 is neither"),
        ({"boxes": [9, 9, 5, 5]}, "reversed or empty"),
        ({"boxes": [[1, 1, 5, 5], [9, 9, 20, 20]]}, "different numbers of prompts: 2 for boxes"),
        ({"points": [[6, 5]], "about": 5}, r"label 5 is none of the context's \(4, 6\)"),
    ],
)
def test_prompts_that_make_no_sense_are_refused(segmenter, context, prompt, message):
    with pytest.raises(PromptError, match=message) as caught:
        segmenter.segment(draw_picture(1), context, **({"about": 4} | prompt))
    assert "\n" not in str(caught.value)


def test_a_corrected_result_is_an_example_for_the_next(segmenter, context):
    after = segmenter.segment(draw_picture(1), context, boxes=[10, 5, 30, 25], about=6)
    more = segmenter.add(context, after)
    assert more.labels == context.labels
    assert len(more.arrays.colours[0]) == 2 * len(context.arrays.colours[0])
    own = segmenter.context(
        [Example(draw_picture(1), after.label_map, kind="labels")], like=context
    )
    for one, other in zip(jax.tree.leaves(more.arrays), jax.tree.leaves(own.arrays), strict=True):
        np.testing.assert_array_equal(one, other)


def test_weights_without_heads_take_no_points(tmp_path):
    plain = in_context_segmenter(tmp_path)
    pairs = [Example(draw_picture(0), draw_mask(4, 4), kind="labels")]
    assert plain.segment(draw_picture(1), pairs).labels == (4,)
    message = "have no heads for points and boxes; leave those out"
    with pytest.raises(CheckpointError, match=message):
        plain.segment(draw_picture(1), pairs, points=[[5, 5]])
    with pytest.raises(CheckpointError, match=message):
        _ = plain.promptable
