import json

import numpy as np
import pytest

from data.benchmarks import load_episode, make_episodes, make_reader
from data.benchmarks.episodes import MIN_AREA
from data.folder import IGNORE, open_folders
from tests.data.drawn import write_drawn_dataset


@pytest.fixture
def folder(tmp_path):
    return open_folders(write_drawn_dataset(tmp_path, name="drawn"))[0]


@pytest.fixture
def regions(tmp_path):
    path = write_drawn_dataset(
        tmp_path, name="regions", size=96, instances=False, classes=5, kind="regions"
    )
    return open_folders(path)[0]


def draw(folder, *, shots=1, count=20, seed=0, split=None):
    return make_episodes(folder, shots=shots, count=count, seed=seed, split=split)


def rewrite_areas(folder, areas):
    """Say that each picture shows these classes with these areas; return it read again."""
    index = {
        name: {"size": [48, 48], "frac": {str(c): area for c, area in of_class.items()}}
        for name, of_class in zip(folder.pictures(), areas, strict=True)
    }
    (folder.root / "index.json").write_text(json.dumps(index))
    return open_folders(folder.root)[0]


def test_a_seed_fixes_the_episodes(folder):
    assert draw(folder) == draw(folder)
    assert draw(folder) != draw(folder, seed=1)


def test_data_sets_draw_apart(tmp_path):
    for name in ("one", "two"):
        write_drawn_dataset(tmp_path, name=name)
    one, two = open_folders(tmp_path)
    named = [[(e.class_id, e.query) for e in draw(folder)] for folder in (one, two)]
    assert named[0] != named[1]
    assert {e.dataset for e in draw(two)} == {"two"}


def test_fewer_episodes_are_the_first_ones(folder):
    assert draw(folder, count=5) == draw(folder, count=20)[:5]


def test_more_shots_add_examples_to_the_same_queries(folder):
    for one, three in zip(draw(folder), draw(folder, shots=3), strict=True):
        assert (one.query, one.class_id) == (three.query, three.class_id)
        assert one.examples == three.examples[:1]
        assert len(set(three.examples)) == 3


def test_the_query_is_no_example_and_all_are_in_the_split(folder):
    held_out = set(folder.pictures("val"))
    for episode in draw(folder, shots=4, split="val"):
        assert {episode.query, *episode.examples} == held_out  # two pictures: only one other
        assert len(episode.examples) == 1


def test_classes_are_drawn_evenly_whatever_their_number_of_pictures(folder):
    folder = rewrite_areas(folder, [{1: 0.1, 2: 0.1}] * 2 + [{1: 0.1}] * 4)
    classes = [episode.class_id for episode in draw(folder, count=300)]
    assert 120 < classes.count(2) < 180


def test_small_areas_ignored_pixels_and_lone_pictures_make_no_class(folder):
    below = MIN_AREA / 2
    areas = [{1: 0.1, 2: below, IGNORE: 0.2}] * 5 + [{1: below, 2: 0.1, IGNORE: 0.2}]
    folder = rewrite_areas(folder, areas)
    episodes = draw(folder, shots=9)
    assert {episode.class_id for episode in episodes} == {1}
    assert {picture for e in episodes for picture in e.examples} == set(folder.pictures()[:5])
    assert draw(rewrite_areas(folder, [{2: 0.1}] + [{}] * 5)) == []


def test_sprites_and_bad_counts_are_refused(folder):
    folder.info["kind"] = "sprites"
    assert draw(folder) == []
    with pytest.raises(ValueError, match="shots 0"):
        draw(folder, shots=0)


def test_masks_are_the_class_and_what_to_ignore(folder):
    episode = draw(folder, shots=2)[0]
    examples, query = load_episode(folder, episode)
    assert len(examples) == 2
    for name, pair in zip([*episode.examples, episode.query], [*examples, query], strict=True):
        np.testing.assert_array_equal(pair.image, folder.image(name))
        np.testing.assert_array_equal(pair.mask, folder.labels(name) == episode.class_id)
        assert pair.mask.mean() >= MIN_AREA
        assert pair.ignore[-2:].all()
        assert not pair.ignore[:-2].any()


def test_regions_are_found_in_a_flipped_crop_of_their_own_picture(regions):
    episodes = draw(regions, shots=4)
    assert len(episodes) == 20
    for episode in episodes:
        assert episode.examples == (episode.query,)
        [example], query = load_episode(regions, episode)
        np.testing.assert_array_equal(query.mask, example.mask[12:84, 12:84][:, ::-1])
        np.testing.assert_array_equal(query.image, example.image[12:84, 12:84][:, ::-1])
        assert min(example.mask.mean(), query.mask.mean()) >= MIN_AREA
        assert episode.class_name == f"{episode.query} region {episode.class_id}"


def test_a_reader_decodes_a_picture_once(folder, monkeypatch):
    reads = []
    image = type(folder).image
    monkeypatch.setattr(type(folder), "image", lambda self, n: reads.append(n) or image(self, n))
    read = make_reader(folder)
    for episode in draw(folder, shots=3):
        load_episode(folder, episode, read=read)
    assert sorted(reads) == folder.pictures()
