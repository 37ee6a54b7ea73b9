"""Matching mode behind `Segmenter`, on an encoder that knows nothing."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from incontext import Context, Example, Segmenter
from seggpt.errors import CheckpointError, PromptError
from tests.tiny_encoder import save_tiny_encoder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "encoder.safetensors"
    save_tiny_encoder(path)
    return path


@pytest.fixture(scope="module")
def segmenter(encoder: Path) -> Iterator[Segmenter]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(encoder.parent / "cache"))
        yield Segmenter.from_pretrained("matching", encoder=encoder, size=112)


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (40, 40, 3), np.uint8)


def stripes(labels: int) -> np.ndarray:
    return np.broadcast_to(np.arange(40) * (labels + 1) // 40, (40, 40)).astype(np.uint8)


def example(seed: int, labels: int = 1) -> Example:
    return Example(picture(seed), stripes(labels), kind="labels")


def test_more_labels_than_a_pass_has_are_found_in_the_example_itself(segmenter: Segmenter) -> None:
    result = segmenter.segment(picture(0), [example(0, labels=5)])
    assert result.labels == (1, 2, 3, 4, 5)
    np.testing.assert_allclose(result.probabilities().sum(axis=0), 1, atol=1e-4)
    assert (result.label_map == stripes(5)).mean() > 0.5


def test_a_saved_context_finds_the_same(segmenter: Segmenter, tmp_path: Path) -> None:
    context = segmenter.context([example(0), example(1)])
    context.save(tmp_path / "context.safetensors")
    again = Context.load(tmp_path / "context.safetensors")
    one, other = (segmenter.segment(picture(2), c).probabilities() for c in (context, again))
    np.testing.assert_array_equal(one, other)
    assert again.model == segmenter.fingerprint


def test_a_video_is_followed(segmenter: Segmenter) -> None:
    frames = [picture(0)] * 3
    assert len(list(segmenter.track(frames, [example(0)], memory=1))) == 3


def test_what_needs_training_says_so(segmenter: Segmenter) -> None:
    with pytest.raises(CheckpointError, match="matching mode has no heads for points"):
        segmenter.segment(picture(0), [example(0)], points=[[3, 3]])
    with pytest.raises(PromptError, match="matching mode learns nothing"):
        segmenter.tune([example(0), example(1), example(2)])
