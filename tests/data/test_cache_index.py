import dataclasses

import numpy as np
import pytest

from data.cache_index import CacheIndex, IndexConfig
from data.feature_cache import FeatureCache, open_cache
from data.views.plan import ViewName
from tests.data.drawn_cache import write_drawn_cache

SIDE = 40  # 100 pixels of it are looked at


def make_cache(shares):
    """Make a cache of empty pictures: for each view its name, and the share of each class."""
    classes = np.zeros((len(shares), SIDE, SIDE), np.uint8)
    names = []
    for own, (name, areas) in zip(classes, shares, strict=True):
        row = 0
        for c, share in areas.items():
            own[row : row + int(share * SIDE)] = c
            row += int(share * SIDE)
        names.append(ViewName(*name))
    empty = np.zeros((len(shares), SIDE, SIDE, 3), np.uint8)
    features = np.zeros((len(shares), 16, 1), np.float16)
    return FeatureCache(features, empty, classes, np.zeros_like(classes), names, 4, "a")


def test_a_class_needs_enough_pictures_that_show_enough_of_it():
    photos = [(("photo", "set", f"p{n}"), {1: 0.2, 2: 0.2 if n < 3 else 0}) for n in range(4)]
    twice = [(("photo", "set", f"p{n % 3}"), {2: 0.2}) for n in range(6)]
    small = [(("photo", "other", f"p{n}"), {1: 0.1}) for n in range(9)]
    config = IndexConfig(least_area=0.15)
    index = CacheIndex(make_cache(photos + twice + small), config)
    [source] = index.sources
    assert source.views == {1: {f"p{n}": [n] for n in range(4)}}
    assert source.pictures == {1: ["p0", "p1", "p2", "p3"]}
    assert index.most_pictures == 4
    more = CacheIndex(
        make_cache(photos + twice + small), dataclasses.replace(config, least_pictures=3)
    )
    assert more.sources[0].views[2] == {"p0": [0, 4, 7], "p1": [1, 5, 8], "p2": [2, 6, 9]}


def test_lines_may_be_smaller_than_things():
    for kind, kept in (("photo", 0), ("pasted", 0), ("drawn", 1)):
        views = [((kind, "0001", str(n)), {1: 0.1}) for n in range(4)]
        config = IndexConfig(least_area=0.15, least_drawn=0.05)
        assert len(CacheIndex(make_cache(views), config).sources) == kept


def test_ignored_pixels_are_no_class():
    index = CacheIndex(make_cache([(("photo", "set", "a"), {255: 0.5, 3: 0.2})]), IndexConfig())
    assert index.ids(0, least=0.1) == [3]
    assert index.ids(0, least=0.3) == []
    assert not index.has_instances(0)


def test_sets_count_by_their_pictures_and_classes_and_kinds_by_their_shares():
    views = [(("photo", "a", str(n)), {1: 0.2}) for n in range(16)]
    views += [(("photo", "b", str(n)), dict.fromkeys(range(1, 5), 0.2)) for n in range(4)]
    views += [(("pasted", f"{n // 4}", str(n % 4)), {1: 0.2}) for n in range(8)]
    views += [(("drawn", "0", str(n)), {1: 0.2}) for n in range(4)]
    config = IndexConfig(pasted=0.2, drawn=0.1, by_pictures=0.5, by_classes=0.25)
    index = CacheIndex(make_cache(views), config)
    weights = dict(zip([(s.kind, len(s.views)) for s in index.sources], index.weights, strict=True))
    assert index.weights.sum() == pytest.approx(1)
    assert weights["drawn", 1] == pytest.approx(0.1)
    assert weights["pasted", 1] == pytest.approx(0.1)  # one of two
    assert weights["photo", 1] == pytest.approx(0.7 * 4 / (4 + 2 * 4**0.25))
    assert weights["photo", 4] == pytest.approx(0.7 * 2 * 4**0.25 / (4 + 2 * 4**0.25))


def test_shares_of_what_is_not_there_go_to_the_rest():
    index = CacheIndex(
        make_cache([(("drawn", "0", str(n)), {1: 0.2}) for n in range(4)]), IndexConfig()
    )
    np.testing.assert_allclose(index.weights, [1])


def test_views_of_one_picture_are_found(tmp_path):
    cache = open_cache(write_drawn_cache(tmp_path))
    index = CacheIndex(cache, IndexConfig())
    assert all(len({cache.names[v] for v in views}) == 1 for views in index.twice)
    assert {len(views) for views in index.twice} == {3}
    assert {cache.names[views[0]].kind for views in index.twice} == {"photo"}
    assert {s.kind for s in index.sources} == {"photo", "pasted", "drawn"}
