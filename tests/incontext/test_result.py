import itertools
import os
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import map_coordinates

from incontext.files.masks import VOC_PALETTE, load_mask
from incontext.outputs.formats import OUTPUT_SUFFIXES
from incontext.result import Result
from seggpt.errors import InputError

SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))


def probabilities(channels, height, width, seed=0):
    """Random channels that sum to 1 everywhere."""
    logits = np.random.default_rng(seed).normal(size=(channels, height, width)) * 3
    exponents = np.exp(logits)
    return (exponents / exponents.sum(axis=0)).astype(np.float32)


def make(channels=3, grid=(5, 6), size=(23, 31), seed=0, **fields):
    fields.setdefault("labels", tuple(range(1, channels)))
    return Result(
        probabilities_lowres=probabilities(channels, *grid, seed=seed), size=size, **fields
    )


def picture(size=(23, 31)):
    return np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)


# ---- full-size arrays ----


@settings(deadline=None)
@given(st.integers(2, 5), SIZES, SIZES, st.integers(0, 9))
def test_probabilities_sum_to_one_at_every_size(channels, grid, size, seed):
    full = make(channels, grid, size, seed).probabilities()
    assert full.shape == (channels, *size)
    assert full.dtype == np.float32
    np.testing.assert_allclose(full.sum(axis=0), 1, atol=1e-5)
    assert full.min() >= 0


@settings(deadline=None)
@given(SIZES, st.integers(1, 5), st.integers(1, 5))
def test_enlarging_is_bilinear_with_half_pixel_centres(grid, scale_y, scale_x):
    size = (grid[0] * scale_y, grid[1] * scale_x)
    result = make(2, grid, size)
    rows = (np.arange(size[0]) + 0.5) / scale_y - 0.5
    columns = (np.arange(size[1]) + 0.5) / scale_x - 0.5
    coordinates = np.meshgrid(rows, columns, indexing="ij")
    for channel, full in zip(result.probabilities_lowres, result.probabilities(), strict=True):
        expected = map_coordinates(channel, coordinates, order=1, mode="nearest")
        np.testing.assert_allclose(full, expected, atol=1e-5)


def test_shrinking_averages_and_skips_no_input():
    grid = np.zeros((2, 64, 64), np.float32)
    grid[1, ::2] = 1  # every other row: a point sample would see only one of the two
    grid[0] = 1 - grid[1]
    result = Result(probabilities_lowres=grid, labels=(1,), size=(9, 8))
    np.testing.assert_allclose(result.probabilities()[1], 0.5, atol=0.05)


def test_a_grid_of_the_same_size_is_not_changed():
    result = make(3, (7, 9), (7, 9))
    np.testing.assert_allclose(result.probabilities(), result.probabilities_lowres, atol=1e-6)


@settings(deadline=None)
@given(st.integers(3, 5), SIZES, st.integers(0, 9))
def test_the_label_map_is_the_argmax_of_the_probabilities(channels, size, seed):
    result = make(channels, (4, 5), size, seed)
    np.testing.assert_array_equal(result.label_map, result.probabilities().argmax(axis=0))
    assert result.label_map.dtype == np.int32


def test_bands_do_not_show(monkeypatch):
    whole = make(size=(97, 31))
    monkeypatch.setattr("incontext.result._BAND_VALUES", 1)
    banded = make(size=(97, 31))
    np.testing.assert_array_equal(banded.label_map, whole.label_map)
    np.testing.assert_allclose(banded.probabilities(), whole.probabilities(), atol=1e-6)
    assert banded.scores == pytest.approx(whole.scores, abs=1e-6)


# ---- the rule ----


@settings(deadline=None)
@given(st.floats(0, 1, width=32), st.integers(0, 9))
def test_one_label_wins_above_the_threshold(threshold, seed):
    result = make(2, seed=seed, threshold=threshold)
    np.testing.assert_array_equal(result.label_map, result.probabilities()[1] > threshold)


@settings(deadline=None)
@given(st.floats(0.01, 0.99), st.integers(0, 9))
def test_several_labels_follow_the_same_rule_as_one(threshold, seed):
    one = make(2, seed=seed, threshold=threshold)
    split = one.probabilities_lowres[[0, 1, 1]] * np.array([1, 1, 0], np.float32)[:, None, None]
    two = Result(
        probabilities_lowres=split, labels=(1, 2), size=one.size, threshold=threshold
    )  # the second label never has any probability
    near = abs(one.probabilities()[1] - threshold) < 1e-5
    assert ((one.label_map == two.label_map) | near).all()


def test_a_higher_threshold_only_takes_pixels_away():
    areas = [(make(4, threshold=t).label_map > 0) for t in (0.0, 0.2, 0.5, 0.8, 1.0)]
    for larger, smaller in itertools.pairwise(areas):
        assert not (smaller & ~larger).any()
    assert areas[0].all()
    assert not areas[-1].any()


def test_ties_go_to_the_background():
    half = np.full((2, 3, 3), 0.5, np.float32)
    assert not Result(probabilities_lowres=half, labels=(4,), size=(6, 6)).label_map.any()


def test_labels_name_the_planes_and_masks_follow_their_order():
    result = make(3, labels=(9, 4))
    winner = result.probabilities().argmax(axis=0)
    np.testing.assert_array_equal(result.label_map, np.array([0, 9, 4])[winner])
    np.testing.assert_array_equal(result.masks, [winner == 1, winner == 2])


def test_a_score_is_the_mean_probability_inside_the_region():
    result = make(4, labels=(1, 5, 7))
    full = result.probabilities()
    for channel, label in enumerate(result.labels, 1):
        expected = full[channel][result.label_map == label].mean()
        assert result.scores[label] == pytest.approx(float(expected), abs=1e-5)


def test_a_label_that_is_nowhere_scores_zero():
    grid = np.zeros((3, 4, 4), np.float32)
    grid[1] = 1
    result = Result(probabilities_lowres=grid, labels=(3, 8), size=(9, 9))
    assert result.scores == {3: 1.0, 8: 0.0}


def test_a_result_cannot_be_changed():
    result = make()
    with pytest.raises(ValueError, match="read-only"):
        result.label_map[0, 0] = 1
    result.scores[1] = -1
    assert result.scores[1] >= 0
    with pytest.raises(AttributeError):
        result.threshold = 0.1  # pyright: ignore[reportAttributeAccessIssue]  # must fail


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"labels": (1,)}, "3 channels"),
        ({"labels": (1, 1)}, "distinct"),
        ({"labels": (0, 1)}, "positive"),
        ({"image": picture((23, 30))}, "does not have the size"),
        ({"threshold": 1.5}, "not in 0..1"),
    ],
)
def test_fields_that_do_not_fit_together_are_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        make(**fields)


def test_the_label_map_of_a_large_picture_needs_little_more_than_itself():
    size = (1500, 2000)
    result = make(9, (28, 28), size)
    tracemalloc.start()
    label_map = result.label_map
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    one_plane = 4 * size[0] * size[1]
    assert label_map.nbytes == one_plane
    # All 9 channels take 108 MB; a band takes 16 MiB, and what is made from it about as much.
    assert peak < one_plane + 80e6


def test_repr_is_short_and_computes_nothing():
    result = make(source="a.jpg")
    assert repr(result) == "Result(31x23, labels=(1, 2), source='a.jpg')"
    assert "_solution" not in vars(result)


# ---- files ----


@pytest.mark.parametrize("labels", [(1,), (2,), (3, 9), (1, 254)])
def test_a_saved_mask_is_read_back_as_the_label_map(tmp_path, labels):
    result = make(len(labels) + 1, labels=labels, source="in/a.b.jpg")
    (path,) = result.save(tmp_path)
    assert path == tmp_path / "a.b.png"
    mask = load_mask(path)
    np.testing.assert_array_equal(mask.labels, result.label_map)
    assert mask.kind == "indexed"
    assert mask.colors == {label: tuple(VOC_PALETTE[label]) for label in mask.classes}
    with Image.open(path) as image:
        assert image.mode == "P"


def test_every_format_is_written_in_the_order_asked(tmp_path):
    result = make(image=picture(), source="a.jpg")
    paths = result.save(tmp_path / "new", ["mask", "overlay", "cutout"])
    assert [path.name for path in paths] == ["a.png", "a.overlay.png", "a.cutout.png"]
    assert sorted(os.listdir(tmp_path / "new")) == sorted(path.name for path in paths)
    with Image.open(paths[2]) as cutout:
        np.testing.assert_array_equal(np.asarray(cutout)[..., 3] > 0, result.label_map > 0)
    with Image.open(paths[1]) as overlay:
        assert overlay.mode == "RGB"
        assert overlay.size == (31, 23)


def test_a_single_format_may_be_a_string(tmp_path):
    assert [path.name for path in make(source="a.jpg").save(tmp_path, "mask")] == ["a.png"]


@pytest.mark.parametrize(
    ("source", "name", "expected"),
    [
        (None, None, "result.png"),
        ("<bytes>", None, "result.png"),
        ("x/y.jpg", None, "y.png"),
        ("x/y.jpg", "sub/z.v2", "sub/z.v2.png"),
    ],
)
def test_names_of_files(tmp_path, source, name, expected):
    (path,) = make(source=source).save(tmp_path, name=name)
    assert path.relative_to(tmp_path).as_posix() == expected


@pytest.mark.parametrize("name", ["../a", "/etc/a", "", ".", "a/../../b"])
def test_a_name_may_not_leave_the_folder(tmp_path, name):
    with pytest.raises(InputError, match="below the output folder"):
        make().save(tmp_path, name=name)


def read_all(path):
    return [p.read_bytes() for p in sorted(path.iterdir())] if path.is_dir() else path.read_bytes()


def test_the_same_result_gives_the_same_bytes(tmp_path):
    formats = list(OUTPUT_SUFFIXES)
    first = make(image=picture()).save(tmp_path / "1", formats)
    second = make(image=picture()).save(tmp_path / "2", formats)
    assert [read_all(path) for path in first] == [read_all(path) for path in second]


def test_colours_of_the_result_reach_the_files(tmp_path):
    result = make(2, image=np.zeros((23, 31, 3), np.uint8), colors={1: (10, 200, 30)})
    mask, overlay = result.save(tmp_path, ["mask", "overlay"])
    assert load_mask(mask).colors == {1: (10, 200, 30)}
    with Image.open(overlay) as image:
        assert (np.asarray(image) == (5, 100, 15)).all(axis=2).any()


@pytest.mark.parametrize(
    ("fields", "formats", "words"),
    [
        ({}, ["mask", "gif"], "unknown format 'gif'; choose from mask, overlay, cutout"),
        ({}, ["mask", "overlay"], "overlay needs the picture"),
        ({"labels": (1, 256)}, ["mask"], "label 256 does not fit"),
    ],
)
def test_nothing_is_written_when_one_format_is_impossible(tmp_path, fields, formats, words):
    with pytest.raises(InputError, match=words):
        make(**fields).save(tmp_path, formats)
    assert not os.listdir(tmp_path)


def test_of_logits_a_label_wins_where_its_own_is_the_highest_and_above_zero() -> None:
    logits = np.random.default_rng(0).normal(size=(3, 8, 9)).astype(np.float32)
    result = Result.from_logits(logits, (2, 5, 9), np.zeros((8, 9, 3), np.uint8))
    want = np.where(logits.max(axis=0) > 0, np.array([2, 5, 9])[logits.argmax(axis=0)], 0)
    np.testing.assert_array_equal(result.label_map, want)
    large = Result.from_logits(20 * logits, (2, 5, 9), np.zeros((8, 9, 3), np.uint8))
    np.testing.assert_allclose(large.probabilities_lowres.sum(axis=0), 1.0, rtol=1e-6)


def test_results_without_a_file_name_are_numbered_and_not_replaced(tmp_path):
    def make(value):
        low = np.stack([np.full((2, 2), 1 - value), np.full((2, 2), value)]).astype(np.float32)
        return Result(probabilities_lowres=low, labels=(1,), size=(4, 4))

    paths = [make(value).save(tmp_path)[0].name for value in (0.1, 0.9, 0.2)]
    assert paths == ["result.png", "result-2.png", "result-3.png"]
    marked = [np.asarray(Image.open(tmp_path / name)).any() for name in paths]
    assert marked == [False, True, False]
    assert make(0.9).save(tmp_path, name="result")[0].name == "result.png"
