import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from incontext import painter
from incontext.painter.levels import float_levels, grey_levels
from seggpt.palette import palette

SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 6))
FAR = 1e9


def flat(*colors):
    return np.array([colors], np.uint8)


def squares(*corners, size=8, shape=(64, 64)):
    """Number square objects 1, 2, ... by their upper left corners."""
    ids = np.zeros(shape, np.int32)
    for label, (y, x) in enumerate(corners, 1):
        ids[y : y + size, x : x + size] = label
    return ids


def boxes(*spans, width=10):
    """Make masks of one row, each from a span of columns."""
    masks = np.zeros((len(spans), 1, width), bool)
    for mask, (start, stop) in zip(masks, spans, strict=True):
        mask[0, start:stop] = True
    return masks


# Painted pictures


def test_floats_are_clipped_and_cut_to_the_levels_below():
    rgb = np.array([[[-0.5, 1.5, 0.5], [0.0, 1.0, 100.9 / 255]]])
    np.testing.assert_array_equal(grey_levels(rgb), [[[0, 255, 127], [0, 255, 100]]])


@pytest.mark.parametrize(
    ("rgb", "words"),
    [
        (np.zeros((4, 4), np.uint8), r"rgb has shape \(4, 4\)"),
        (np.zeros((4, 4, 4), np.uint8), r"rgb has shape \(4, 4, 4\)"),
        (np.zeros((4, 4, 3), np.int32), "rgb is int32; pass uint8"),
        (np.full((2, 2, 3), np.nan, np.float32), "NaN in 4 pixels"),
    ],
)
def test_what_is_no_painted_picture_is_refused(rgb, words):
    with pytest.raises(ValueError, match=words):
        float_levels(rgb)


# Depth


@pytest.mark.parametrize(
    ("depth_mm", "level"),
    [(0, 0), (39, 0), (40, 1), (2000, 51), (5000, 127), (9999, 254), (10_000, 255), (65_535, 255)],
)
def test_depth_is_cut_to_a_255th_of_ten_metres_and_clipped(depth_mm, level):
    painted = painter.encode_depth(np.array([[depth_mm]]))
    np.testing.assert_array_equal(painted, np.full((1, 1, 3), level))


@given(hnp.arrays(np.int32, SHAPES, elements=st.integers(0, 10_000)))
def test_depth_comes_back_less_than_a_level_too_near(depth_mm):
    lost = depth_mm - painter.decode_depth(painter.encode_depth(depth_mm))
    # A level is 39.2 mm, and decoding cuts to whole millimetres.
    assert ((lost >= 0) & (lost <= 40)).all()


def test_every_level_of_depth_survives_a_round_trip():
    # A float between the levels' borders must not fall to the level below.
    middle = (np.arange(256)[None] + 0.5) / 255 * 10_000
    painted = painter.encode_depth(middle)
    np.testing.assert_array_equal(painted[0, :, 1], np.arange(256))
    expected = np.arange(256)[None] * 10_000 // 255
    np.testing.assert_array_equal(painter.decode_depth(painted), expected)


def test_depth_is_the_mean_of_the_channels_of_a_float_picture_after_clipping():
    rgb = np.array([[[0.1, 0.2, 0.36], [1.5, 0.5, -1.0], [2.0, 2.0, 2.0]]])
    np.testing.assert_allclose(painter.decode_depth(rgb), [[2200, 5000, 10_000]], rtol=0, atol=1)


@pytest.mark.parametrize("wrong", [-1.0, np.nan])
def test_impossible_depth_is_refused(wrong):
    with pytest.raises(ValueError, match=r"depth_mm holds (-1|nan)"):
        painter.encode_depth(np.array([[5.0, wrong]]))


# Denoising, deraining, low light


def test_a_restored_picture_is_clipped_but_not_quantised():
    rgb = np.array([[[-0.2, 0.1234, 1.7]]], np.float32)
    np.testing.assert_allclose(painter.decode_restored(rgb), [[[0, 0.1234, 1]]], rtol=1e-6)


@given(hnp.arrays(np.uint8, (3, 4, 3)))
def test_a_clean_picture_is_its_own_code(clean):
    restored = painter.decode_restored(clean)
    np.testing.assert_array_equal(np.round(restored * 255), clean)
    np.testing.assert_allclose(painter.decode_restored(restored), restored, rtol=1e-6)


# Semantic segmentation


def test_palettes_are_the_published_ones():
    ade, coco = painter.ADE20K_COLORS, painter.COCO_COLORS
    np.testing.assert_array_equal(ade[[0, 1, 6, 36, 149]], ADE_ROWS)
    np.testing.assert_array_equal(coco[[0, 1, 7, 49, 132]], COCO_ROWS)
    assert (len(ade), ade.min(), ade.max()) == (150, 45, 255)
    assert (len(coco), coco.min(), coco.max()) == (133, 39, 255)
    # ADE20K's rule is also that of our own palette, which puts black before it.
    np.testing.assert_array_equal(np.round(palette(150)[1:] * 255), ade)


ADE_ROWS = [(255, 255, 255), (255, 255, 213), (255, 213, 255), (213, 255, 255), (87, 255, 45)]
COCO_ROWS = [(255, 255, 255), (255, 255, 219), (255, 219, 255), (219, 255, 255), (183, 111, 39)]
PALETTES = [painter.ADE20K_COLORS, painter.COCO_COLORS]


def test_palettes_cannot_be_changed_by_accident():
    for colors in (*PALETTES, painter.INSTANCE_COLORS, painter.KEYPOINT_CODES):
        assert len(np.unique(colors, axis=0)) == len(colors)
        with pytest.raises(ValueError, match="read-only"):
            colors[0] = 0


@pytest.mark.parametrize("colors", PALETTES)
def test_every_class_comes_back_even_with_errors_below_half_a_step(colors):
    labels = np.arange(len(colors))[None]
    painted = painter.encode_semantic(labels, colors)
    np.testing.assert_array_equal(painter.decode_semantic(painted, colors), labels)
    # The nearest two colours are 36 or 42 apart in one channel, and L1 is summed over three.
    rng = np.random.default_rng(0)
    noisy = (painted + rng.uniform(-5.9, 5.9, painted.shape)) / 255
    np.testing.assert_array_equal(painter.decode_semantic(noisy, colors), labels)


def test_ignored_pixels_are_black_and_black_decodes_to_the_darkest_class():
    painted = painter.encode_semantic(np.array([[painter.IGNORE, 3]]), painter.COCO_COLORS)
    np.testing.assert_array_equal(painted[0, 0], 0)
    darkest = painter.COCO_COLORS.astype(int).sum(axis=1).argmin()
    np.testing.assert_array_equal(
        painter.decode_semantic(painted, painter.COCO_COLORS), [[darkest, 3]]
    )


def test_the_nearest_colour_is_by_l1_and_the_first_of_equals():
    # From (60, 60, 60): L1 to the first is 120, L2 is 120; to the second 135 and 78.
    colors = np.array([(180, 60, 60), (105, 105, 105)], np.uint8)
    grey = flat((60, 60, 60))
    np.testing.assert_array_equal(painter.semantic_distances(grey, colors), [[[120, 135]]])
    np.testing.assert_array_equal(painter.decode_semantic(grey, colors), [[0]])
    twice = np.array([(50, 60, 60), (70, 60, 60)], np.uint8)
    np.testing.assert_array_equal(painter.decode_semantic(grey, twice), [[0]])


@pytest.mark.parametrize("wrong", [-1, 150, 256])
def test_a_label_without_a_colour_is_refused(wrong):
    with pytest.raises(ValueError, match=rf"labels holds {wrong}; labels are 0\.\.149"):
        painter.encode_semantic(np.array([[0, wrong]]), painter.ADE20K_COLORS)


def test_decoding_without_colours_is_refused():
    with pytest.raises(ValueError, match="colors is empty"):
        painter.decode_semantic(flat((0, 0, 0)), np.zeros((0, 3), np.uint8))


# Instances


@pytest.mark.parametrize(
    ("ix", "iy", "color"),
    [
        (0, 0, (255, 255, 255)),
        (1, 0, (255, 255, 242)),
        (0, 1, (255, 242, 255)),
        (20, 0, (240, 255, 255)),
        (0, 20, (195, 255, 255)),
        (45, 67, (45, 164, 190)),
        (79, 79, (30, 8, 8)),
    ],
)
def test_a_cell_has_the_colour_of_the_formula(ix, iy, color):
    np.testing.assert_array_equal(painter.INSTANCE_COLORS[80 * iy + ix], color)


def test_an_object_is_painted_by_its_centre_of_mass():
    ids = np.zeros((100, 200), np.int64)
    ids[10:21, 100:141] = 7  # the centre is column 120, row 15: int(47.4), int(11.85)
    ids[99, 199] = 9  # int(78.605), int(78.21): cells of the last row and column are never painted
    painted = painter.encode_instances(ids)
    np.testing.assert_array_equal(painted[15, 120], painter.INSTANCE_COLORS[80 * 11 + 47])
    np.testing.assert_array_equal(painted[99, 199], painter.INSTANCE_COLORS[80 * 78 + 78])
    np.testing.assert_array_equal(painted.any(axis=-1), ids > 0)


@given(st.integers(0, 40), st.integers(0, 40))
def test_two_objects_in_different_blocks_come_back(x, y):
    # 21 rows of cells apart: red differs by 60 and green by 13, so that neither is near the other.
    ids = squares((y // 4, x), (y // 4 + 40, x))
    found = painter.decode_instances(painter.encode_instances(ids))
    sure = found.masks[found.scores > 0.55]
    assert len(sure) == 2
    assert {mask.tobytes() for mask in sure} == {(ids == k).tobytes() for k in (1, 2)}
    np.testing.assert_array_equal(found.scores[:2], 1)


def test_duplicates_and_the_background_have_low_scores_and_scores_fall():
    found = painter.decode_instances(painter.encode_instances(squares((2, 2), (40, 40))))
    assert len(found.masks) > 2
    assert (np.diff(found.scores) <= 0).all()
    assert (found.scores[2:] < 0.55).all()
    assert ((found.scores >= 0) & (found.scores <= 1)).all()


def test_at_most_the_asked_number_of_instances_is_kept():
    painted = painter.encode_instances(squares((2, 2), (40, 40)))
    many = painter.decode_instances(painted)
    assert 3 < len(many.scores) <= 100
    few = painter.decode_instances(painted, max_instances=3)
    np.testing.assert_array_equal(few.scores, many.scores[:3])
    np.testing.assert_array_equal(few.masks, many.masks[:3])


def test_an_all_black_picture_is_one_object_of_score_zero_or_none_with_a_tighter_limit():
    black = np.zeros((4, 5, 3), np.uint8)
    found = painter.decode_instances(black)  # (30 + 8 + 8) / 3 = 15.3 from the last cell's colour
    np.testing.assert_array_equal(found.scores, [0])
    assert found.masks.all()
    none = painter.decode_instances(black, max_distance=15.0)
    assert none.masks.shape == (0, 4, 5)
    assert none.scores.shape == (0,)


def test_the_limit_of_distance_is_exclusive():
    # The last cell's own colour, and one step (13 levels) in green or blue: 13 / 3 on average.
    painted = flat((30, 8, 8))
    nearest = [80 * 79 + 79]
    distance = np.abs(painter.INSTANCE_COLORS.astype(int) - painted[0]).sum(axis=1)
    for limit, within in ((13 / 3, nearest), (13 / 3 + 0.01, np.flatnonzero(distance <= 13))):
        assert len(painter.decode_instances(painted, max_distance=limit).scores) == len(within)


def test_scores_are_relative_to_the_worst_mask_before_suppression():
    found = painter.decode_instances(flat((30, 8, 8)), max_distance=5.0)
    # Distances 0, 13/3, 13/3 (greater than 1): scores 1, 0, 0, and suppression leaves the first.
    np.testing.assert_allclose(found.scores, [1, 0, 0], atol=1e-7)


def test_the_greatest_difference_counts_as_one_level_at_least():
    found = painter.decode_instances(flat((30, 8, 9)), max_distance=4.0)
    np.testing.assert_allclose(found.scores, [1 - 1 / 3], rtol=1e-6)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"max_distance": 0.0}, "max_distance is 0.0"),
        ({"max_distance": float("nan")}, "max_distance is nan"),
        ({"max_instances": 0}, "max_instances is 0"),
    ],
)
def test_limits_of_instances_must_be_positive(limits, words):
    with pytest.raises(ValueError, match=words):
        painter.decode_instances(np.zeros((2, 2, 3), np.uint8), **limits)


def test_negative_ids_are_refused():
    with pytest.raises(ValueError, match="ids holds -1"):
        painter.encode_instances(np.array([[-1, 0]]))


def test_a_picture_without_objects_is_black():
    assert not painter.encode_instances(np.zeros((3, 3), np.int32)).any()


# Matrix NMS


def test_matrix_nms_of_three_masks_is_the_one_by_hand():
    # IoU: a-b 2/4, a-c 2/4, b-c 1/3; b is covered by a as much as c is, so that a decides on c.
    masks = boxes((0, 4), (0, 2), (1, 3))
    scores = np.array([0.9, 0.8, 0.7], np.float32)
    iou_ac = 2 / 4
    b = 0.8 * np.exp(-2 * 0.5**2)
    c = 0.7 * min(np.exp(-2 * iou_ac**2), np.exp(-2 * (1 / 3) ** 2) / np.exp(-2 * 0.5**2))
    np.testing.assert_allclose(painter.matrix_nms(masks, scores), [0.9, b, c], rtol=1e-6)


def test_suppression_is_weaker_by_a_mask_that_is_suppressed_itself():
    # a-b 4/6, b-c 4/6, a-c 3/7: without the compensation c would fall by exp(-2 (4/6)^2).
    masks = boxes((0, 5), (1, 6), (2, 7))
    kept = painter.matrix_nms(masks, np.array([1, 1, 1], np.float32))
    iou_ac = 3 / 7
    np.testing.assert_allclose(
        kept, [1, np.exp(-2 * (4 / 6) ** 2), np.exp(-2 * iou_ac**2)], rtol=1e-6
    )


@given(
    hnp.arrays(bool, (5, 3, 4)),
    st.permutations(range(5)),
    st.lists(st.floats(0, 1, width=32), min_size=5, max_size=5, unique=True),
)
def test_matrix_nms_only_lowers_scores_and_does_not_mind_the_order(masks, order, scores):
    values = np.array(scores, np.float32)
    kept = painter.matrix_nms(masks, values)
    assert (kept <= values).all()
    assert kept[values.argmax()] == values.max()
    moved = painter.matrix_nms(masks[order], values[order])
    np.testing.assert_allclose(moved, kept[order], rtol=1e-6)


def test_disjoint_and_empty_masks_keep_their_scores():
    masks = boxes((0, 3), (3, 6), (0, 0), (0, 0))
    scores = np.array([0.2, 0.9, 0.5, 0.4], np.float32)
    np.testing.assert_array_equal(painter.matrix_nms(masks, scores), scores)
    assert painter.matrix_nms(masks[:0], scores[:0]).shape == (0,)


def test_matrix_nms_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="scores has 1 for 2 masks"):
        painter.matrix_nms(boxes((0, 1), (1, 2)), np.ones(1, np.float32))
    with pytest.raises(ValueError, match="sigma is 0"):
        painter.matrix_nms(boxes((0, 1)), np.ones(1, np.float32), sigma=0.0)


# Panoptic


def instances(masks, *scores):
    return painter.Instances(masks=masks, scores=np.array(scores, np.float32))


def test_a_mask_is_named_by_the_least_distance_over_its_pixels_among_things():
    distances = np.full((1, 10, 4), 100, np.int16)
    distances[0, :3] = [10, 90, 90, 0]  # class 3 is stuff and does not count
    distances[0, 3:6] = [90, 40, 80, 0]
    masks = boxes((0, 3), (3, 6), (0, 6), (0, 0))
    named = painter.classify_instances(masks, distances, things=3)
    np.testing.assert_array_equal(named, [0, 1, 0, 0])
    by_votes = (1 - distances[..., :3] / distances[..., :3].max())[0]
    np.testing.assert_array_equal(named, [by_votes[mask[0]].sum(axis=0).argmax() for mask in masks])


def test_there_must_be_as_many_classes_as_things():
    with pytest.raises(ValueError, match=r"things is 80; distances has 1\.\.4"):
        painter.classify_instances(boxes((0, 1)), np.zeros((1, 10, 4), np.int16))


def test_better_instances_lie_on_top_and_stuff_fills_what_is_free():
    found = instances(boxes((0, 4), (3, 6), (9, 10)), 0.6, 0.9, 0.7)
    semantic = np.full((1, 10), 100)
    semantic[0, 8] = 3  # a thing that no instance covers stays empty
    merged = painter.merge_panoptic(found, semantic, classes=np.array([5, 6, 7]), min_stuff_px=2)
    np.testing.assert_array_equal(merged.ids, [[3, 3, 3, 1, 1, 1, 4, 4, 0, 2]])
    assert [(s.id, s.label, s.is_thing, s.area_px) for s in merged.segments] == [
        (1, 6, True, 3),
        (2, 7, True, 1),
        (3, 5, True, 3),
        (4, 100, False, 2),
    ]
    assert merged.segments[0].score == pytest.approx(0.9)
    assert merged.segments[3].score is None


@pytest.mark.parametrize(
    ("span", "score", "is_kept"),
    [
        ((2, 6), 0.8, True),  # half of it is taken, which is not more than half
        ((2, 5), 0.8, False),  # two thirds are
        ((4, 8), 0.5, False),
        ((4, 8), 0.56, True),
        ((4, 4), 0.8, False),
    ],
)
def test_taken_weak_and_empty_instances_are_left_out(span, score, is_kept):
    found = instances(boxes((0, 4), span), 0.9, score)
    merged = painter.merge_panoptic(found, np.zeros((1, 10), int), classes=np.array([1, 2]))
    assert [s.label for s in merged.segments] == [1, 2][: 1 + is_kept]
    assert merged.ids.max() == 1 + is_kept


@pytest.mark.parametrize(("size", "is_kept"), [(8191, False), (8192, True)])
def test_stuff_needs_8192_free_pixels(size, is_kept):
    semantic = np.zeros((1, 9000), np.int32)
    semantic[0, :size] = 80
    semantic[0, size:] = 79  # a thing
    merged = painter.merge_panoptic(
        instances(np.zeros((0, 1, 9000), bool)), semantic, classes=np.zeros(0, np.int32)
    )
    assert len(merged.segments) == is_kept
    assert (merged.ids > 0).sum() == (size if is_kept else 0)


def test_a_merge_of_what_does_not_fit_is_refused():
    found = instances(boxes((0, 4)), 0.9)
    with pytest.raises(ValueError, match="classes has 2 for 1 masks"):
        painter.merge_panoptic(found, np.zeros((1, 10), int), classes=np.array([1, 2]))
    with pytest.raises(ValueError, match=r"semantic has shape \(2, 10\)"):
        painter.merge_panoptic(found, np.zeros((2, 10), int), classes=np.array([1]))


def test_panoptic_comes_back_from_its_two_pictures():
    ids = squares((10, 10), (80, 80), size=24, shape=(128, 128))
    semantic = np.where(ids == 1, 17, np.where(ids == 2, 62, 119))
    merged = painter.decode_panoptic(
        painter.encode_instances(ids), painter.encode_semantic(semantic, painter.COCO_COLORS)
    )
    labels = np.array([0, *(segment.label for segment in merged.segments)])
    np.testing.assert_array_equal(labels[merged.ids], semantic)
    assert [s.is_thing for s in merged.segments] == [True, True, False]
    assert sum(s.area_px for s in merged.segments) == ids.size


def test_the_two_pictures_of_panoptic_must_be_of_one_size():
    with pytest.raises(ValueError, match=r"semantic_rgb has shape \(5, 4, 3\)"):
        painter.decode_panoptic(np.zeros((4, 4, 3), np.uint8), np.zeros((5, 4, 3), np.uint8))


# Keypoints

NONE = np.zeros(17, bool)


def one(k, x, y):
    xy, visible = np.full((17, 2), np.nan), NONE.copy()
    xy[k], visible[k] = (x, y), True
    return xy, visible


def apart():
    """Put the keypoints on a lattice wide enough for their codes not to meet."""
    k = np.arange(17)
    return np.stack([15 + 20.3 * (k % 6), 15 + 30.6 * (k // 6)], axis=1)


def test_codes_of_keypoints_are_a_lattice_of_step_51():
    np.testing.assert_array_equal(
        painter.KEYPOINT_CODES[[0, 1, 4, 5, 16]],
        [(255, 255), (255, 204), (255, 51), (204, 255), (102, 204)],
    )
    assert painter.KEYPOINT_CODES.min() == 51


def test_keypoints_come_back_to_the_whole_pixel():
    xy = apart()
    painted = painter.encode_keypoints(xy, ~NONE)
    found = painter.decode_keypoints(painter.keypoint_heatmaps(painted))
    np.testing.assert_array_equal(found.xy, np.floor(xy + 0.5))
    np.testing.assert_array_equal(found.scores, 1)
    again = painter.decode_keypoints(painter.keypoint_heatmaps(painted / 255))
    np.testing.assert_array_equal(again.xy, found.xy)


@given(st.integers(0, 16), st.integers(0, 29), st.integers(0, 39))
def test_one_keypoint_comes_back_from_anywhere_in_the_crop(k, x, y):
    painted = painter.encode_keypoints(*one(k, x, y), shape=(40, 30))
    found = painter.decode_keypoints(painter.keypoint_heatmaps(painted))
    np.testing.assert_array_equal(found.xy[k], [x, y])
    assert (np.delete(found.xy, k, axis=0) == -1).all()
    assert (np.delete(found.scores, k) == 0).all()


def test_the_bump_and_the_code_have_the_published_extent_and_values():
    painted = painter.encode_keypoints(*one(7, 100, 120)).astype(int)
    rows, cols = np.nonzero(painted[..., 1])
    assert (rows.min(), rows.max(), cols.min(), cols.max()) == (115, 124, 95, 104)
    np.testing.assert_array_equal(painted[rows, cols, 1:], [(204, 153)] * 100)
    # exp(-1/18), exp(-2/18), exp(-16/18) times 255, cut; exp(-81/18) is the last of a row.
    np.testing.assert_array_equal(
        painted[[120, 119, 121, 120], [100, 100, 101, 104], 0], [255, 241, 228, 104]
    )
    np.testing.assert_array_equal(painted[120, [90, 91, 109, 110], 0], [0, 2, 2, 0])


def test_where_codes_meet_the_nearer_keypoint_owns_the_pixel():
    xy, visible = one(3, 50, 50)
    xy[12], visible[12] = (56, 50), True
    painted = painter.encode_keypoints(xy, visible)
    three, twelve = painter.KEYPOINT_CODES[[3, 12]]
    np.testing.assert_array_equal(painted[50, 52, 1:], three)
    np.testing.assert_array_equal(painted[50, 53, 1:], three)  # as near to both: the first
    np.testing.assert_array_equal(painted[50, 54, 1:], twelve)
    np.testing.assert_array_equal(painted[50, 57, 1:], twelve)
    found = painter.decode_keypoints(painter.keypoint_heatmaps(painted))
    np.testing.assert_array_equal(found.xy[[3, 12]], [[50, 50], [56, 50]])


def test_invisible_and_far_keypoints_leave_the_crop_black():
    assert not painter.encode_keypoints(apart(), NONE).any()
    for x, y in ((-FAR, 5), (5, FAR), (5, -11), (202, 5)):
        assert not painter.encode_keypoints(*one(0, x, y)).any()
    nowhere = painter.decode_keypoints(painter.keypoint_heatmaps(np.zeros((8, 8, 3), np.uint8)))
    np.testing.assert_array_equal(nowhere.xy, -1)
    np.testing.assert_array_equal(nowhere.scores, 0)


def test_red_without_a_code_belongs_to_no_keypoint():
    # (25, 25) is nearer to (0, 0) than to the darkest codes, (51, 255) and (102, 204) included.
    rgb = flat((200, 25, 25), (200, 250, 210), (0, 255, 255))
    heatmaps = painter.keypoint_heatmaps(rgb)
    np.testing.assert_allclose(heatmaps[1], [[0, 200 / 255, 0]], rtol=1e-6)
    assert heatmaps.sum() == heatmaps[1].sum()


def test_a_peak_moves_a_quarter_pixel_towards_the_higher_neighbour_but_not_at_borders():
    heatmaps = np.zeros((17, 6, 8), np.float32)
    heatmaps[0, 3, 4], heatmaps[0, 3, 5], heatmaps[0, 2, 4] = 1, 0.5, 0.25
    heatmaps[1, 3, 1], heatmaps[1, 3, 2] = 0.5, 0.4
    heatmaps[2, 4, 6], heatmaps[2, 4, 5] = 0.5, 0.4
    heatmaps[3, 4, 7], heatmaps[3, 4, 6] = 0.5, 0.4
    found = painter.decode_keypoints(heatmaps)
    np.testing.assert_array_equal(found.xy[:4], [(4.25, 2.75), (1, 3), (5.75, 4), (7, 4)])
    np.testing.assert_array_equal(found.scores[:4], [1, 0.5, 0.5, 0.5])


@given(hnp.arrays(np.float32, (17, 3, 5), elements=st.floats(0, 1, width=16)))
def test_flipping_back_undoes_a_mirror_image_up_to_the_shift(heatmaps):
    mirrored = heatmaps[:, :, ::-1].copy()
    for left, right in painter.FLIP_PAIRS:
        mirrored[[left, right]] = mirrored[[right, left]]
    averaged = painter.average_flipped(heatmaps, mirrored)
    shifted = heatmaps[:, :, [0, 0, 1, 2, 3]]
    np.testing.assert_allclose(averaged, (heatmaps + shifted) / 2, rtol=1e-6)


def test_left_and_right_change_places_in_a_mirrored_crop():
    flipped = np.zeros((17, 1, 4), np.float32)
    flipped[9, 0, 3] = 1  # the left wrist of the mirror image, at its right border
    averaged = painter.average_flipped(np.zeros_like(flipped), flipped)
    np.testing.assert_array_equal(averaged[10], [[0.5, 0.5, 0, 0]])
    assert averaged[9].sum() == 0


def test_keypoints_that_cannot_be_painted_or_read_are_refused():
    xy = apart()
    xy[6] = np.nan
    with pytest.raises(ValueError, match=r"xy of keypoint 6 is \[nan nan\]"):
        painter.encode_keypoints(xy, ~NONE)
    with pytest.raises(ValueError, match=r"shape is \(0, 4\)"):
        painter.encode_keypoints(apart(), ~NONE, shape=(0, 4))
    with pytest.raises(ValueError, match="heatmaps holds NaN"):
        painter.decode_keypoints(np.full((17, 2, 2), np.nan, np.float32))
