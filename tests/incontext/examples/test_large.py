"""Pictures that are found and written in parts."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from incontext import Example
from incontext.examples.large import count_tiles, find_in_bands
from incontext.examples.tiles import resize_channels, spread
from incontext.files.regions import Regions, open_large
from incontext.result import Result
from tests.tiny_models import SIDE, tiny_segmenter

PIXELS = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)


@pytest.fixture
def picture(tmp_path: Path) -> Iterator[Regions]:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS, tile=(16, 16), photometric="rgb")
    picture = open_large(path, max_pixels=100)
    assert picture is not None
    yield picture
    picture.close()


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(4, 64))
def test_spans_overlap_and_their_weights_sum_to_one(length: int, side: int) -> None:
    spans = spread(length, side)
    total = np.zeros(length)
    for span, weights in spans:
        assert span.stop - span.start == min(length, side)
        total[span] += weights
    np.testing.assert_allclose(total, 1, atol=1e-5)
    stops, starts = [s.stop for s, _ in spans][:-1], [s.start for s, _ in spans][1:]
    assert all(stop - start >= side // 4 - 1 for stop, start in zip(stops, starts, strict=True))


def bright(crops):
    for crop in crops:
        level = crop.mean(axis=2, dtype=np.float32) / 255
        yield np.stack([1 - level, level])


@pytest.mark.parametrize("side", [16, 33, 80, 200])
def test_what_each_pixel_alone_decides_is_as_in_the_whole_picture(side, picture):
    bands = [band.copy() for band in find_in_bands(picture, bright, channels=2, side=side)]
    (whole,) = bright([PIXELS])
    np.testing.assert_allclose(np.concatenate(bands, axis=1), whole, atol=1e-5)
    assert (count_tiles(picture, side) == 1) == (side == 200)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_files_and_scores_are_those_of_a_loop_over_tiles_in_memory(batch_size, picture, tmp_path):
    segmenter, seen = tiny_segmenter(), []
    labels = np.zeros((30, 40), np.uint8)
    labels[:15], labels[:, 20:] = 3, 7
    context = segmenter.context([Example(PIXELS[:30, :40], labels)])
    paths = {"mask": tmp_path / "a.png", "labels": tmp_path / "a.labels.png"}
    scores = segmenter.segment_large(
        picture, context, paths, batch_size=batch_size, advance=lambda: seen.append(1)
    )
    assert len(seen) == count_tiles(picture, SIDE)

    total = np.zeros((3, *PIXELS.shape[:2]), np.float32)
    for rows, down in spread(70, SIDE):
        for columns, across in spread(90, SIDE):
            tile = segmenter.segment(PIXELS[rows, columns], context).probabilities_lowres
            weights = np.outer(down, across)
            total[:, rows, columns] += weights * resize_channels(tile, weights.shape)
    expected = Result(
        probabilities_lowres=total, labels=(3, 7), size=(70, 90), threshold=segmenter.threshold
    )
    differs = np.asarray(Image.open(paths["mask"])) != expected.label_map
    assert differs.mean() <= (0 if batch_size == 1 else 0.001)
    np.testing.assert_array_equal(Image.open(paths["labels"]), Image.open(paths["mask"]))
    assert scores == pytest.approx(expected.scores, rel=1e-4)
