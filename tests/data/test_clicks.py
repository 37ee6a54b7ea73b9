import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.ndimage import distance_transform_edt

from data.clicks import (
    MAX_AREA,
    MIN_AREA,
    OBJECTS_PER_PICTURE,
    Reply,
    draw_targets,
    first_click,
    iou,
    next_click,
    play,
    tight_box,
)
from data.folder import open_folders
from tests.data.drawn import write_drawn_dataset


@st.composite
def two_masks(draw):
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    return tuple(draw(arrays.arrays(bool, shape)) for _ in range(2))


def mask_of(*rows):
    return np.array([[pixel == "#" for pixel in row] for row in rows])


def nothing(truth):
    return np.zeros_like(truth)


def found(truth, mask):
    click = next_click(truth, mask)
    assert click is not None
    return click


@given(two_masks())
def test_a_click_lies_in_an_error_and_says_which(masks):
    truth, mask = masks
    click = next_click(truth, mask)
    if (truth == mask).all():
        assert click is None
    else:
        assert click is not None
        assert truth[click.y, click.x] != mask[click.y, click.x]
        assert click.label == truth[click.y, click.x]


@given(two_masks())
def test_the_first_click_lies_in_the_thickest_part(masks):
    truth, _ = masks
    click = first_click(truth)
    if not truth.any():
        assert click is None
    else:
        assert click is not None
        depth = np.asarray(distance_transform_edt(np.pad(truth, 1)))[1:-1, 1:-1]
        assert click.label == 1
        assert depth[click.y, click.x] == depth.max()


@given(two_masks())
def test_exchanging_truth_and_mask_exchanges_the_label(masks):
    truth, mask = masks
    one, other = next_click(truth, mask), next_click(mask, truth)
    if one is not None and other is not None and (one.x, one.y) == (other.x, other.y):
        assert one.label != other.label


def test_the_largest_connected_error_is_clicked_on():
    truth = mask_of("##....###", "##....###", "......###")
    assert next_click(truth, nothing(truth)) == (7, 1, 1)
    mask = mask_of("##.....##", "##.....##", ".......##")
    assert found(truth, mask).label == 1
    mask = mask_of("######.##", "######.##", "####...##")  # 12 too many, 3 missing
    assert found(truth, mask) == (3, 1, 0)


def test_parts_that_touch_at_a_corner_are_one():
    truth = mask_of("#....##", ".#...#.", "..#....", "...#...")
    assert found(truth, nothing(truth)).x < 4


def test_missing_goes_before_surplus():
    truth, mask = mask_of("##..", "##.."), mask_of("..##", "..##")
    assert found(truth, mask).label == 1


def test_the_border_is_an_edge():
    """A picture full of an object is clicked on in the middle, the first of its middle pixels."""
    assert first_click(np.ones((5, 7), bool)) == (2, 2, 1)
    assert first_click(np.ones((5, 5), bool)) == (2, 2, 1)


def test_one_pixel():
    truth = np.zeros((4, 6), bool)
    truth[3, 5] = True
    assert first_click(truth) == next_click(truth, nothing(truth)) == (5, 3, 1)
    assert next_click(truth, truth) is None
    assert next_click(nothing(truth), truth) == (5, 3, 0)
    assert tight_box(truth) == (5, 3, 6, 4)


@given(two_masks())
def test_a_box_holds_the_mask_and_touches_it_on_every_side(masks):
    mask, _ = masks
    if not mask.any():
        with pytest.raises(ValueError, match="empty mask"):
            tight_box(mask)
        return
    x0, y0, x1, y1 = tight_box(mask)
    inside = mask[y0:y1, x0:x1]
    assert inside.sum() == mask.sum()
    assert inside[0].any()
    assert inside[-1].any()
    assert inside[:, 0].any()
    assert inside[:, -1].any()


def test_clicks_pile_up_and_memory_comes_back():
    truth = np.zeros((20, 20), bool)
    truth[4:16, 4:16] = True
    seen = []

    def dab(prompt, memory):
        seen.append((len(prompt.clicks), memory))
        mask = nothing(truth)
        for x, y, label in prompt.clicks:
            mask[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3] = label
        return Reply(mask, f"after {len(prompt.clicks)}")

    turns = play(dab, truth, ignore=nothing(truth), clicks=4)
    assert seen == [(1, None), (2, "after 1"), (3, "after 2"), (4, "after 3")]
    assert [len(turn.prompt.clicks) for turn in turns] == [1, 2, 3, 4]
    assert turns[0].iou == pytest.approx(25 / 144)
    assert turns[3].iou > turns[0].iou


def test_a_perfect_mask_is_clicked_on_no_more():
    truth = mask_of("....", ".##.")
    asked = []

    def perfect(prompt, memory):
        asked.append(prompt)
        return Reply(truth)

    turns = play(perfect, truth, ignore=nothing(truth), clicks=5)
    assert len(asked) == 1
    assert [turn.iou for turn in turns] == [1.0] * 5


def test_ignored_pixels_are_never_wrong():
    truth, ignore = mask_of("##..", "##.."), mask_of("..##", "....")
    asked = []

    def too_much(prompt, memory):
        asked.append(prompt)
        return Reply(mask_of("####", "##.."))

    turns = play(too_much, truth, ignore=ignore, clicks=3)
    assert len(asked) == 1
    assert turns[-1].iou == 1.0
    assert iou(truth, truth, ignore=~truth) == 1.0
    assert iou(~truth, truth, ignore=nothing(truth)) == 0.0


@pytest.fixture
def drawn(tmp_path):
    write_drawn_dataset(tmp_path, name="drawn", pictures=12, classes=5)
    return open_folders(tmp_path)[0]


def test_targets_are_fixed_and_fit(drawn):
    targets = draw_targets(drawn, count=20, seed=0, split=None)
    assert len(targets) == 20
    assert targets == draw_targets(drawn, count=20, seed=0, split=None)
    assert targets != draw_targets(drawn, count=20, seed=1, split=None)
    assert targets[:7] == draw_targets(drawn, count=7, seed=0, split=None)
    assert len(set(targets)) == 20
    for target in targets:
        truth = drawn.instance_ids(target.picture) == target.instance
        assert MIN_AREA <= truth.mean() <= MAX_AREA
        of_class = drawn.instances(target.picture)[target.instance]
        assert target.class_name == drawn.classes[of_class]


def test_no_picture_gives_more_than_its_share(drawn):
    targets = draw_targets(drawn, count=1000, seed=0, split="val")
    names = [target.picture for target in targets]
    assert set(names) <= set(drawn.pictures("val"))
    assert max(map(names.count, names)) == OBJECTS_PER_PICTURE
    assert len(targets) == OBJECTS_PER_PICTURE * len(drawn.pictures("val"))


def test_no_instances_no_targets(tmp_path):
    write_drawn_dataset(tmp_path, name="plain", instances=False)
    [folder] = open_folders(tmp_path)
    assert draw_targets(folder, count=3, seed=0, split=None) == []
    with pytest.raises(ValueError, match="count 0"):
        draw_targets(folder, count=0, seed=0, split=None)
