from dataclasses import replace

import numpy as np
import pytest

from data.benchmarks.protocols import Pool, draw_episodes, fold_classes


def pool(classes, pictures=6, **changes):
    names = {c: f"class{c}" for c in range(classes)}
    return Pool(names, {c: [f"{c}/{p}" for p in range(pictures)] for c in names}, **changes)


def test_folds_hold_the_published_classes():
    # PASCAL-5i counts from aeroplane: fold 1 is bus, car, cat, chair, cow.
    assert fold_classes("pascal5i", 1, range(1, 21)) == [6, 7, 8, 9, 10]
    assert fold_classes("coco20i", 0, range(80)) == list(range(0, 80, 4))
    assert fold_classes("coco20i", 3, range(80)) == list(range(3, 80, 4))
    # 925 classes make ten folds of 92; the last five are in none.
    assert fold_classes("lvis92i", 2, range(925)) == list(range(2, 920, 10))
    assert len(fold_classes("lvis92i", 9, range(925))) == 92


@pytest.mark.parametrize("name", ["coco20i", "pascal5i"])
def test_folds_part_the_classes(name):
    count = {"coco20i": 80, "pascal5i": 20}[name]
    folds = [fold_classes(name, fold, range(count)) for fold in range(4)]
    assert sorted(c for fold in folds for c in fold) == list(range(count))
    with pytest.raises(ValueError, match="--fold 4: "):
        fold_classes(name, 4, range(count))
    with pytest.raises(ValueError, match=f"{name} has {count} classes, not 3"):
        fold_classes(name, 0, range(3))


def test_coco_draws_class_query_and_examples_one_after_the_other():
    episodes = draw_episodes("coco20i", pool(80), fold=1, shots=2)
    assert len(episodes) == 1000
    rng = np.random.RandomState(0)
    for episode in episodes[:20]:
        # The draws of HSNet's load_frame, worked out again.
        class_id = rng.choice(range(1, 80, 4), 1, replace=False)[0]
        names = [f"{class_id}/{p}" for p in range(6)]
        query = rng.choice(names, 1, replace=False)[0]
        examples = []
        while len(examples) < 2:
            name = rng.choice(names, 1, replace=False)[0]
            examples += [name] if name != query else []
        assert (episode.class_id, episode.query) == (class_id, query)
        assert list(episode.examples) == examples


def test_pascal_asks_for_its_list_again_and_again():
    queries = [(f"{c}/{p}", c) for p in range(6) for c in range(20)]
    episodes = draw_episodes("pascal5i", pool(20, queries=queries), fold=2)
    asked = [name for name, c in queries if 10 <= c < 15]
    assert [e.query for e in episodes] == [asked[n % len(asked)] for n in range(1000)]
    assert all(e.query not in e.examples for e in episodes)


def test_lvis_leaves_out_classes_with_too_few_pictures_and_goes_through_the_others():
    full = pool(30)
    few = replace(full, pictures={**full.pictures, 0: ["0/0"]})
    episodes = draw_episodes("lvis92i", few, fold=0, shots=1)
    assert len(episodes) == 2300
    assert [e.class_id for e in episodes[:4]] == [1, 11, 1, 11]


def test_perseg_asks_for_all_but_the_example():
    episodes = draw_episodes("perseg", pool(2, pictures=3))
    assert [(e.examples, e.query) for e in episodes] == [
        (("0/0",), "0/1"),
        (("0/0",), "0/2"),
        (("1/0",), "1/1"),
        (("1/0",), "1/2"),
    ]
    with pytest.raises(ValueError, match="--shots 1"):
        draw_episodes("perseg", pool(2), shots=5)


def test_a_seed_decides_the_episodes():
    assert draw_episodes("coco20i", pool(80)) == draw_episodes("coco20i", pool(80))
    assert draw_episodes("coco20i", pool(80)) != draw_episodes("coco20i", pool(80), seed=1)
