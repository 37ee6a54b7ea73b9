"""PerSAM on small random weights, each step against the same step by hand."""

from pathlib import Path

import numpy as np
import pytest

import incontext
from incontext.files import rle
from incontext.prompts.persam import PerSAM
from incontext.prompts.similarity import find_extremes, measure_similarity
from seggpt.errors import InputError, PromptError

SAM = Path(__file__).parents[2] / "seggpt" / "golden" / "sam"


@pytest.fixture(scope="module")
def finder() -> PerSAM:
    return PerSAM.from_pretrained(SAM)


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (48, 48, 3), np.uint8)


@pytest.fixture(scope="module")
def mask() -> np.ndarray:
    mask = np.zeros((48, 48), np.uint8)
    mask[8:32, 16:40] = 1
    return mask


def example(picture, mask, **options) -> incontext.Example:
    return incontext.Example(picture, mask, **options)


def test_the_feature_is_the_mean_over_the_mask(finder, picture, mask):
    target = finder.learn(example(picture, mask))
    embedding = np.asarray(finder.model.encode(picture).embedding[0])
    np.testing.assert_allclose(
        target.features[0], embedding[1:4, 2:5].mean(axis=(0, 1)), rtol=1e-4, atol=1e-6
    )
    assert target.labels == (1,)
    assert target.mixing is None


@pytest.mark.parametrize("foreground", [128, 255])
def test_masks_of_128_and_of_255_mean_the_same(finder, picture, mask, foreground):
    want = finder.learn(example(picture, mask)).features
    got = finder.learn(example(picture, mask * foreground, kind="binary")).features
    np.testing.assert_array_equal(got, want)


def test_three_steps_each_start_from_the_last(finder, picture, mask):
    model = finder.model
    target = finder.learn(example(picture, mask))
    other = picture[::-1].copy()
    state = model.encode(other)
    similarity = measure_similarity(np.asarray(state.embedding[0]), target.features[0])
    most, least = find_extremes(similarity, state.frame)
    points = {"points": [most, least], "labels": [1, 0]}
    found = finder._guide(state, points, target.features[0], similarity)
    found = model.predict(state, **points, mask=found.low_res[0, 0])
    best = found.scores[0].argmax()
    box = np.array(rle.bounding_box(found.masks()[0, best]))
    found = model.predict(state, **points, mask=found.low_res[0, best], boxes=box)
    want = found.masks()[0, found.scores[0].argmax()]
    result = finder.segment(other, target)
    np.testing.assert_array_equal(result.label_map > 0, want)


def test_guidance_changes_the_first_mask(finder, picture, mask):
    model = finder.model
    state = model.encode(picture)
    feature = finder.learn(example(picture, mask)).features[0]
    similarity = measure_similarity(np.asarray(state.embedding[0]), feature)
    points = {"points": [find_extremes(similarity, state.frame)[0]], "labels": [1]}
    plain = model.predict(state, **points, multimask=False)
    drawn = finder._guide(state, points, feature, similarity)
    assert plain.low_res.shape == drawn.low_res.shape
    assert np.abs(plain.low_res - drawn.low_res).max() > 1e-3


def test_tuned_mixing_has_a_weight_for_each_of_three_masks(finder, picture, mask):
    target = finder.learn(example(picture, mask), method="persam-f")
    assert target.mixing is not None
    assert target.mixing.shape == (1, 3)
    assert target.mixing.sum() == pytest.approx(1.0, abs=1e-5)
    embedding = np.asarray(finder.model.encode(picture).embedding[0])[1:4, 2:5].reshape(9, -1)
    half = 0.5 * (embedding.mean(axis=0) + embedding.max(axis=0))
    np.testing.assert_allclose(target.features[0], half, rtol=1e-4, atol=1e-6)
    assert finder.segment(picture, target).label_map.shape == (48, 48)


def test_each_label_is_found_by_itself(finder, picture, mask):
    labels = mask * 3
    labels[36:, :12] = 7
    target = finder.learn(example(picture, labels, kind="labels"))
    assert target.labels == (3, 7)
    result = finder.segment(picture, target)
    assert result.labels == (3, 7)
    assert set(np.unique(result.label_map)) <= {0, 3, 7}


def test_an_example_of_another_model_is_refused(finder, picture, mask):
    target = finder.learn(example(picture, mask))
    other = PerSAM.from_pretrained(SAM)
    other.model.engine.fingerprint = "another"
    with pytest.raises(PromptError, match="encode it again"):
        other.segment(picture, target)


def test_an_empty_mask_shows_nothing(finder, picture, mask):
    with pytest.raises(InputError):
        finder.learn(example(picture, mask * 0))
