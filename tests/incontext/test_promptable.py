"""Heads for prompts on our own weights: the files that hold them, and looks from nearer."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from incontext import Example, Predictor, Segmenter
from incontext.answers import Answer, Closer
from incontext.promptable import Promptable
from incontext.snap import FINE
from incontext.zoom import OUTSIDE, Look
from seggpt.errors import CheckpointError, PromptError
from seggpt.frame import Frame
from seggpt.model import SegGPT
from seggpt.sam import PromptedSegGPT
from seggpt.weights import save_weights
from tests.tiny_models import SIDE, random_weights, tiny_prompted

SAM = Path(__file__).parents[1] / "seggpt" / "golden" / "sam"
CONFIG = tiny_prompted()
SIZE = (120, 90)
BOX, WIDE_BOX = [20.0, 30.0, 50.0, 65.0], [2.0, 2.0, 88.0, 118.0]
POINTS = [[30.0, 40.0], [45.0, 70.0]]


@pytest.fixture(scope="module")
def weights():
    return random_weights(CONFIG)


@pytest.fixture(scope="module")
def model(weights):
    return Promptable(CONFIG, weights)


def picture(seed=0, size=SIZE):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


@pytest.fixture(scope="module")
def state(model):
    return model.encode(picture())


def assert_same(one, other, *, tolerance=1e-3):
    np.testing.assert_allclose(one.low_res, other.low_res, rtol=1e-3, atol=tolerance)
    np.testing.assert_allclose(one.scores, other.scores, rtol=1e-3, atol=tolerance)


# --- files


@pytest.fixture(scope="module")
def files(weights, tmp_path_factory):
    """Return a file of the weights with heads, and one of those without."""
    folder = tmp_path_factory.mktemp("weights")
    with_heads, without = folder / "heads.safetensors", folder / "plain.safetensors"
    save_weights(with_heads, weights, config=CONFIG.to_dict(), metadata={"threshold": "0.4"})
    shapes = nnx.state(
        nnx.eval_shape(lambda: SegGPT(CONFIG.without_heads, rngs=nnx.Rngs(0))), nnx.Param
    )
    plain = {name: weights[name] for name in nnx.as_pure(shapes)}
    config = CONFIG.without_heads.to_dict()
    save_weights(without, plain, config=config, metadata={"threshold": "0.4"})
    return with_heads, without


def test_heads_load_from_a_file(files, model, state):
    loaded = Promptable.from_pretrained(files[0])
    assert loaded.fingerprint == model.fingerprint
    assert loaded.config == CONFIG
    assert loaded.metadata == {"threshold": "0.4"}
    one, other = (m.predict(state, boxes=BOX, multimask=False) for m in (model, loaded))
    np.testing.assert_array_equal(one.low_res, other.low_res)


def test_weights_without_heads_are_refused_in_one_line(files):
    for cls in (Promptable, Predictor):
        with pytest.raises(CheckpointError, match=r"plain.*: no heads for points") as caught:
            cls.from_pretrained(files[1])
        assert "\n" not in str(caught.value)


def test_heads_change_nothing_of_the_in_context_model(files):
    with_heads, without = (Segmenter.from_pretrained(path) for path in files)
    assert with_heads.fingerprint == without.fingerprint
    assert with_heads.config == without.config == CONFIG.without_heads
    assert with_heads.threshold == without.threshold == 0.4
    mask = np.zeros(SIZE, np.uint8)
    mask[30:70, 20:60] = 5
    examples = [Example(picture(1), mask, kind="labels")]
    one, other = (s.segment(picture(2), examples) for s in (with_heads, without))
    np.testing.assert_array_equal(one.probabilities_lowres, other.probabilities_lowres)
    # A context of one is a context of the other.
    context = with_heads.context(examples)
    again = without.segment(picture(2), context)
    np.testing.assert_array_equal(again.probabilities_lowres, one.probabilities_lowres)


def test_a_segmenter_holds_the_heads_of_its_file(files, model, state):
    segmenter = Segmenter.from_pretrained(files[0])
    assert segmenter.promptable is segmenter.promptable
    assert segmenter.promptable.fingerprint == model.fingerprint
    one, other = (m.predict(state, points=POINTS) for m in (model, segmenter.promptable))
    np.testing.assert_array_equal(one.low_res, other.low_res)


def test_other_heads_are_another_model(weights, model, state):
    changed = weights | {"neck": jax.tree.map(lambda a: a + 1, weights["neck"])}
    other = Promptable(CONFIG, changed)
    assert other.fingerprint != model.fingerprint
    with pytest.raises(PromptError, match=r"encoded by model .* encode it again"):
        other.predict(state, points=POINTS)


def test_only_the_encoder_is_cast(weights):
    model = Promptable(CONFIG, weights, dtype="bfloat16")
    for name, part in model.params.items():
        wanted = "bfloat16" if name in PromptedSegGPT.encoder else "float32"
        assert {str(leaf.dtype) for leaf in jax.tree.leaves(part)} == {wanted}, name


# --- pictures and looks from nearer


def test_small_models_of_our_own_look_closer(model, state):
    assert model.zooms
    np.testing.assert_array_equal(state.picture, picture())
    assert state.frame == Frame(SIZE, SIDE, squeeze=True)
    sam = Promptable.from_pretrained(SAM)
    assert not sam.zooms
    other = sam.encode(picture())
    assert other.picture is None
    assert other.frame == Frame(SIZE, sam.config.image_size)
    assert sam.predict(other, boxes=BOX).closer == ()


@pytest.mark.parametrize("multimask", [True, False])
def test_a_box_is_looked_at_by_itself(model, state, multimask):
    answer = model.predict(state, boxes=BOX, multimask=multimask)
    count = 3 if multimask else 1
    (looks,) = answer.closer
    x0, y0, x1, y1 = looks[0].look.box
    assert x0 < BOX[0] < BOX[2] < x1
    assert y0 < BOX[1] < BOX[3] < y1
    assert {closer.look for closer in looks} == {looks[0].look}
    near = np.stack([closer.low_res for closer in looks])
    assert near.shape == (count, FINE, FINE)
    assert answer.low_res.shape == (1, count, SIDE, SIDE)
    shown = looks[0].look.out_of(np.zeros((SIDE, SIDE), np.float32)) > OUTSIDE
    np.testing.assert_array_equal(answer.low_res[0][:, ~shown], OUTSIDE)
    masks, logits = answer.masks(), answer.logits()
    assert masks.shape == logits.shape == (1, count, *SIZE)
    np.testing.assert_array_equal(masks, logits > 0)
    beside = np.ones(SIZE, bool)
    beside[y0:y1, x0:x1] = False
    np.testing.assert_array_equal(logits[..., beside], OUTSIDE)
    assert np.ptp(logits[..., y0:y1, x0:x1]) > 0.1


def test_a_closer_look_is_what_the_part_by_itself_would_say(model, state):
    answer = model.predict(state, boxes=BOX)
    (looks,) = answer.closer
    x0, y0, x1, y1 = looks[0].look.box
    near = np.stack([closer.low_res for closer in looks])
    part = model.encode(np.ascontiguousarray(picture()[y0:y1, x0:x1]))
    alone = model.predict(part, boxes=np.array(BOX) - (x0, y0, x0, y0))
    again = np.stack([closer.low_res for closer in alone.closer[0]])
    np.testing.assert_allclose(again, near, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(alone.scores, answer.scores, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(
        answer.logits()[0, :, y0:y1, x0:x1], alone.logits()[0], rtol=1e-3, atol=1e-3
    )


def test_most_of_a_picture_is_looked_at_as_a_whole(model, state):
    answer = model.predict(state, boxes=WIDE_BOX)
    assert {closer.look.box for closer in answer.closer[0]} == {(0, 0, SIZE[1], SIZE[0])}
    bare = dataclasses.replace(state, picture=None)  # as if the model did not look closer
    assert_same(answer, model.predict(bare, boxes=WIDE_BOX), tolerance=1e-5)
    np.testing.assert_array_equal(answer.masks(), answer.logits() > 0)


def test_points_alone_are_looked_at_from_far_and_near(model, state):
    answer = model.predict(state, points=POINTS[:1])
    assert answer.low_res.shape == (1, 3, SIDE, SIDE)
    assert (np.diff(answer.scores[0]) <= 0).all()  # the best comes first
    single = model.predict(state, points=POINTS[:1], multimask=False)
    assert_same(single, answer.best())
    x, y = POINTS[0]
    for closer in answer.closer[0] if answer.closer else ():
        if closer is not None:
            x0, y0, x1, y1 = closer.look.box
            assert x0 <= x < x1
            assert y0 <= y < y1


def test_several_points_are_looked_at_together(model, state):
    for points in (POINTS, [[5.0, 5.0], [25.0, 20.0]]):
        for row in model.predict(state, points=points).closer:
            for closer in filter(None, row):
                x0, y0, x1, y1 = closer.look.box
                for x, y in points:
                    assert x0 <= x < x1
                    assert y0 <= y < y1


def blob(rows=(4, 8), cols=(3, 9)):
    mask = np.full((SIDE, SIDE), -5.0, np.float32)
    mask[slice(*rows), slice(*cols)] = 5
    return mask


def test_a_mask_says_where_to_look(model, state):
    ((closer, *_),) = model.predict(state, points=POINTS[:1], mask=blob()).closer
    x0, y0, x1, y1 = closer.look.box
    height, width = SIZE
    assert x0 < 3 * width / SIDE < 9 * width / SIDE < x1
    assert y0 < 4 * height / SIDE < 8 * height / SIDE < y1


def test_a_box_says_more_than_a_mask(model, state):
    one, other = (model.predict(state, boxes=BOX, **how) for how in ({}, {"mask": blob()}))
    assert one.closer[0][0].look == other.closer[0][0].look
    assert np.abs(one.low_res - other.low_res).max() > 1e-3


def test_background_points_beside_a_look_are_not_seen(model, state):
    far, near = [[85.0, 115.0]], [[48.0, 60.0]]
    bare = model.predict(state, boxes=BOX)
    with_far = model.predict(state, boxes=BOX, points=far, labels=[0])
    with_near = model.predict(state, boxes=BOX, points=near, labels=[0])
    assert_same(with_far, bare)
    assert np.abs(with_near.closer[0][0].low_res - bare.closer[0][0].low_res).max() > 1e-3


def test_several_prompts_equal_each_by_itself(model, state):
    boxes = np.array([BOX, WIDE_BOX, [60, 80, 85, 110]])
    together = model.predict(state, boxes=boxes)
    whole = (0, 0, SIZE[1], SIZE[0])
    assert [row[0].look.box == whole for row in together.closer] == [False, True, False]
    for index, box in enumerate(boxes):
        alone = model.predict(state, boxes=box)
        np.testing.assert_allclose(together.low_res[index], alone.low_res[0], rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(
            together.logits()[index], alone.logits()[0], rtol=1e-3, atol=1e-3
        )
        np.testing.assert_allclose(together.scores[index], alone.scores[0], rtol=1e-3, atol=1e-3)


def test_the_best_mask_of_each_prompt_keeps_its_closer_look():
    rng = np.random.default_rng(0)
    low_res, near = rng.normal(size=(2, 2, 3, SIDE, SIDE)).astype(np.float32)
    look = Look((10, 20, 60, 80), SIZE)
    frame = Frame(look.shape, SIDE, squeeze=True)
    answer = Answer(
        low_res=low_res,
        scores=np.array([[0.1, 0.2, 0.9], [0.3, 0.8, 0.4]], np.float32),
        frame=Frame(SIZE, SIDE, squeeze=True),
        closer=(
            (None, None, None),
            tuple(Closer(look=look, frame=frame, low_res=mask) for mask in near[1]),
        ),
    )
    best = answer.best()
    np.testing.assert_array_equal(best.scores, np.array([[0.9], [0.8]], np.float32))
    want = answer.logits()[[0, 1], [2, 1]][:, None]
    np.testing.assert_array_equal(best.logits(), want)
    np.testing.assert_array_equal(best.masks(), want > 0)
    np.testing.assert_array_equal(best.low_res, low_res[[0, 1], [2, 1]][:, None])
    bare = dataclasses.replace(answer, closer=())
    assert bare.best().closer == ()


def test_a_mask_of_an_answer_refines_the_next(model, state):
    first = model.predict(state, boxes=BOX).best()
    again = model.predict(state, boxes=BOX, mask=first.low_res[0, 0], multimask=False)
    assert again.closer[0][0].look == first.closer[0][0].look
    assert np.isfinite(again.low_res).all()
    assert np.abs(again.low_res - first.low_res).max() > 1e-3


def test_threads_share_a_model(model):
    states = [model.encode(picture(seed)) for seed in range(2)]
    prompts = [
        {"boxes": BOX},
        {"points": POINTS, "labels": [1, 0]},
        {"boxes": WIDE_BOX, "multimask": False},
        {"points": POINTS[:1], "mask": blob()},
    ]
    work = [(states[i % 2], prompts[i // 2 % 4]) for i in range(24)]

    def answer(job):
        return model.predict(job[0], **job[1])

    serial = [answer(job) for job in work]
    with ThreadPoolExecutor(8) as pool:
        threaded = list(pool.map(answer, work))
    for one, other in zip(serial, threaded, strict=True):
        np.testing.assert_array_equal(one.low_res, other.low_res)
        np.testing.assert_array_equal(one.masks(), other.masks())
