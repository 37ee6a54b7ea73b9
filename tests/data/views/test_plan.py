import dataclasses
from collections import Counter

import numpy as np
import pytest

from data.folder import open_folders
from data.views.plan import Plan, PlanConfig
from tests.data.drawn_cache import CONFIG, SIZE, drawn_plan


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    return drawn_plan(tmp_path_factory.mktemp("plan"))


def changed(plan, **changes):
    folders = open_folders(plan.folders["things"].root.parent)
    return Plan(folders, dataclasses.replace(plan.config, **changes))


def same(one, two):
    return all((getattr(one, n) == getattr(two, n)).all() for n in ("image", "classes"))


def test_every_training_picture_and_every_group_has_its_views(plan):
    counts = Counter(plan.names)
    photos = {n: c for n, c in counts.items() if n.kind == "photo"}
    shown = {(n.source, n.picture) for n in photos}
    assert shown == {(f.name, p) for f in plan.folders.values() for p in f.pictures("train")}
    assert set(photos.values()) == {3}  # small sets have one more than asked for
    assert Counter(n.kind for n in counts if n.kind != "photo") == {"pasted": 10, "drawn": 20}
    assert {c for n, c in counts.items() if n.kind != "photo"} == {1}
    large = changed(plan, few=5)
    counts = Counter(n.source for n in large.names if n.kind == "photo")
    assert counts == {"things": 2 * 6, "regions": 2 * 6}


def test_pictures_are_capped(plan):
    capped = changed(plan, look=dataclasses.replace(plan.config.look, caps={"things": 2}))
    assert len({n.picture for n in capped.names if n.source == "things"}) == 2
    assert len({n.picture for n in capped.names if n.source == "regions"}) == 6


def test_views_are_shuffled_alike_for_one_seed(plan):
    again, other = changed(plan), changed(plan, seed=1)
    assert again.names == plan.names
    assert other.names != plan.names
    assert sorted(other.names) == sorted(plan.names) != plan.names


def test_a_view_depends_on_its_place_alone(plan):
    again, other = changed(plan), changed(plan, seed=1)
    other.names = plan.names
    order = [*range(0, len(plan.names), 7), *(plan.names.index(n) for n in set(plan.names[:20]))]
    views = {index: plan.make(index) for index in order}
    for index in reversed(order):
        assert views[index].image.shape == (SIZE, SIZE, 3)
        assert same(again.make(index), views[index])
        assert not same(other.make(index), views[index])


def test_two_views_of_one_picture_differ(plan):
    first, second, *_ = (i for i, n in enumerate(plan.names) if n == plan.names[0])
    assert not same(plan.make(first), plan.make(second))


def test_a_group_shares_its_things(plan):
    # Without changes of colour, a label has few colours in all pictures of a group.
    things = dataclasses.replace(
        CONFIG.composites, strength=0.0, picture_strength=0.0, cut_outs=0.0, missing=0.0
    )
    plain = changed(plan, composites=things)
    for group in {n.source for n in plain.names if n.kind == "pasted"}:
        places = [i for i, n in enumerate(plain.names) if (n.kind, n.source) == ("pasted", group)]
        views = [plain.make(i) for i in places]
        for label in (1, 2, 3):
            pixels = [v.image[v.classes == label].astype(float) for v in views]
            medians = [np.median(p, axis=0) for p in pixels if len(p) > 20]
            assert len({tuple((m / 25).round()) for m in medians}) <= 3  # by two artists


def test_numbers_are_checked():
    with pytest.raises(ValueError, match="views 0 must be 1 or more"):
        PlanConfig(views=0)


def test_nothing_to_show_is_told(plan):
    with pytest.raises(ValueError, match="no pictures of split 'train'"):
        Plan([], CONFIG)
