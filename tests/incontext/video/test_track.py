"""Following, on tiny random weights: what must hold whatever the weights are."""

import jax.numpy as jnp
import numpy as np
import pytest

from incontext import Example, Segmenter
from incontext.examples.in_context_engine import InContextEngine
from incontext.video import followers
from incontext.video.followers import is_confident
from seggpt.errors import PromptError
from seggpt.in_context.model import join_caches
from tests.tiny_models import in_context_segmenter, tiny_segmenter


def frames(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    first = rng.integers(0, 256, (20, 30, 3), np.uint8)
    return [np.roll(first, shift, axis=1) for shift in range(count)]


MASK = np.zeros((20, 30), np.uint8)
MASK[5:12, 4:16] = 3
MASK[14:18, 20:28] = 8


@pytest.fixture(scope="module")
def in_context(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    return in_context_segmenter(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def believing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every frame may be an example; random weights are sure of nothing."""
    monkeypatch.setattr(followers, "is_confident", lambda found: True)


def test_seggpt_is_its_own_ensemble_of_the_first_frame_and_the_last_ones():
    segmenter, clip, memory = tiny_segmenter("mutual"), frames(5), 2
    first = Example(clip[0], MASK, kind="labels")
    past: list[Example] = []
    followed = segmenter.track(clip, [first], memory=memory)
    for picture, result in zip(clip, followed, strict=True):
        alone = segmenter.segment(picture, [first, *past[-memory:]])
        np.testing.assert_allclose(
            result.probabilities_lowres, alone.probabilities_lowres, atol=1e-5
        )
        labels = np.array([0, 3, 8])[alone.probabilities_lowres.argmax(axis=0)]
        past.append(Example(picture, enlarge(labels, MASK.shape), kind="labels"))


def enlarge(labels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    rows, columns = (
        np.minimum((np.arange(n) + 0.5) * m / n, m - 1).astype(int)
        for n, m in zip(shape, labels.shape, strict=True)
    )
    return labels[rows][:, columns].astype(np.int32)


def test_without_memory_frames_are_segmented_one_by_one(in_context):
    clip, first = frames(4), [Example(frames(1)[0], MASK, kind="labels")]
    followed = in_context.track(clip, first, memory=0)
    alone = in_context.segment_many(clip, first)
    for one, other in zip(followed, alone, strict=True):
        np.testing.assert_array_equal(one.probabilities_lowres, other.probabilities_lowres)


@pytest.mark.usefixtures("believing")
def test_the_last_frames_are_examples_as_they_were_found(in_context):
    clip, memory = frames(6), 2
    context = in_context.context([Example(clip[0], MASK, kind="labels")])
    engine = in_context.engine
    assert isinstance(engine, InContextEngine)
    assert context.passes == ((3, 8),)
    past = []
    for picture, result in zip(clip, in_context.track(clip, context, memory=memory), strict=True):
        known = [engine.cache_of(context.arrays, context.passes)]
        # The first one to be remembered fills the memory until others come.
        last = past[-memory:] + past[:1] * (memory - len(past[-memory:]))
        embedding = engine.embed(picture)
        cache = join_caches([*known, *last]) if past else known[0]
        [expected] = engine.find_embedded(embedding, cache, context.passes)
        np.testing.assert_allclose(result.probabilities_lowres, expected, atol=1e-4)
        past.append(engine.encode_probabilities(embedding, expected, context.passes))


def test_what_is_certain_is_encoded_as_a_mask_is(in_context):
    engine, picture = in_context.engine, frames(1)[0]
    embedding, passes = engine.embed(picture), ((3, 8), (9,))
    height, width = embedding.image.shape[1:3]
    labels = np.zeros((height, width), np.int32)
    labels[10:40, 20:70], labels[60:, :30], labels[60:, 40:80] = 3, 8, 9
    planes = np.stack([labels == label for label in (0, 3, 8, 9)]).astype(np.float32)
    soft = engine.encode_probabilities(embedding, planes, passes)
    hard = engine.encode_embedding(embedding, labels, passes)
    for one, other in zip(soft[1:-1], hard[1:-1], strict=True):
        np.testing.assert_allclose(jnp.asarray(one), jnp.asarray(other), atol=1e-5)


def test_a_marked_frame_is_what_its_mask_says_and_corrects_what_follows(in_context):
    clip = frames(4)
    first = [Example(clip[0], MASK, kind="labels")]
    plain = list(in_context.track(clip, first, memory=0))
    marked = list(in_context.track(clip, first, memory=0, marks={2: np.flipud(MASK)}))
    np.testing.assert_array_equal(marked[2].label_map, np.flipud(MASK))
    for number, same in ((0, True), (1, True), (3, False)):
        one, other = plain[number], marked[number]
        assert np.array_equal(one.probabilities_lowres, other.probabilities_lowres) == same


def test_frames_with_a_label_missing_or_unsure_are_no_examples():
    sure = np.zeros((3, 4, 4), np.float32)
    sure[0] = 1
    sure[:, 0, 0], sure[:, 1, 1] = (0, 0.9, 0.1), (0, 0.1, 0.9)
    assert is_confident(sure)
    lost = sure.copy()
    lost[:, 1, 1] = (1, 0, 0)
    assert not is_confident(lost)
    unsure = sure.copy()
    unsure[:, 1, 1] = (0.2, 0.2, 0.6)
    assert not is_confident(unsure)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"marks": {7: MASK}}, "no frame 7; the video has 2, from 0"),
        ({"memory": -1}, "memory -1 is not a number of frames"),
        ({"marks": {1: MASK + 40}}, "label 40 is not one of"),
    ],
)
def test_nonsense_is_refused(in_context, options, message):
    with pytest.raises(PromptError, match=message):
        list(in_context.track(frames(2), [Example(frames(1)[0], MASK, kind="labels")], **options))
