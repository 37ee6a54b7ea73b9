import dataclasses

import numpy as np
import pytest

from data.folder import open_folders
from data.views.composites import (
    CompositesConfig,
    Material,
    choose_things,
    gather_material,
    paste_things,
)
from tests.data.drawn import write_drawn_dataset
from tests.data.drawn_sprites import COLOURS, write_sprites

SIZE = 64
CONFIG = CompositesConfig(sprite_sets=("sprites",), strength=0.0, picture_strength=0.0)


def rng(seed):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("composites")
    write_drawn_dataset(root, name="pictures", pictures=5)
    write_drawn_dataset(root, name="plain", pictures=5, instances=False)
    write_sprites(root, names=["cat", "dog", "cat", "", ""])
    return open_folders(root)


@pytest.fixture(scope="module")
def photos(folders):
    return [(f, name) for f in folders if f.kind != "sprites" for name in f.pictures("train")]


@pytest.fixture(scope="module")
def material(folders, photos):
    return gather_material(folders, photos, config=CONFIG)


def colours_of(thing):
    """Tell which of `COLOURS` the looks of a thing have."""
    middles = [look[8, 8, :3].astype(int) for look in thing]
    return {int(np.abs(np.array(COLOURS) - middle).sum(1).argmin()) for middle in middles}


def test_only_pictures_with_instances_are_cut(folders, photos, material):
    assert {folder.name for folder, _ in material.cuts} == {"pictures"}
    assert material.photos == photos
    assert [len(things) for things in material.sprites] == [4]
    not_cut = dataclasses.replace(CONFIG, not_cut=("pictures",))
    assert not gather_material(folders, photos, config=not_cut).cuts


def test_nothing_to_paste_is_told(folders, photos):
    config = CompositesConfig(sprite_sets=(), not_cut=("pictures",))
    with pytest.raises(ValueError, match="nothing can be pasted"):
        gather_material(folders, photos, config=config)


def test_a_cut_out_is_an_instance_in_its_box(material):
    config = dataclasses.replace(CONFIG, cut_outs=1.0)
    for seed in range(10):
        things = choose_things(material, rng(seed), config=config)
        assert [len(thing) for thing in things] == [1, 1, 1]
        for [look] in things:
            inside = look[..., 3] == 255
            assert (inside | (look[..., 3] == 0)).all()
            assert inside.any(axis=0).all()
            assert inside.any(axis=1).all()
            assert look[inside][:, :3].astype(float).std(axis=0).max() < 30  # it has one colour


def test_cut_outs_have_a_middling_size(material):
    config = dataclasses.replace(CONFIG, cut_outs=1.0, cut_area=(0.9, 1.0))
    with pytest.raises(ValueError, match="no instance covers 90% to 100%"):
        choose_things(material, rng(0), config=config)


def test_a_sprite_has_the_looks_of_all_artists(material):
    config = dataclasses.replace(CONFIG, cut_outs=0.0)
    things = [t for seed in range(10) for t in choose_things(material, rng(seed), config=config)]
    assert {frozenset(colours_of(thing)) for thing in things} >= {frozenset({0, 2})}


def test_masks_mark_each_thing_and_no_stranger(material):
    shapes = {"size": SIZE, "config": dataclasses.replace(CONFIG, missing=0.0)}
    [sprites] = material.sprites
    things = [next(thing for thing in sprites if colours_of(thing) == {c}) for c in (1, 3, 4)]
    shown = 0
    for seed in range(20):
        image, mask = paste_things(things, material, rng(seed), **shapes)
        assert image.shape == (SIZE, SIZE, 3)
        assert set(np.unique(mask).tolist()) <= {0, 1, 2, 3}
        for label, colour in enumerate((1, 3, 4), start=1):
            if (mask == label).sum() > 12:
                shown += 1
                middle = np.median(image[mask == label].astype(int), axis=0)
                assert np.abs(middle - COLOURS[colour]).max() < 30
    assert shown > 50


def test_things_are_missing_now_and_then(material):
    things = choose_things(material, rng(0), config=CONFIG)
    config = dataclasses.replace(CONFIG, missing=1.0)
    _, mask = paste_things(things, material, rng(0), size=SIZE, config=config)
    assert not mask.any()


def test_generators_decide(material):
    groups = [choose_things(material, rng(seed), config=CONFIG) for seed in (1, 1)]
    for one, two in zip(*groups, strict=True):
        for look, again in zip(one, two, strict=True):
            np.testing.assert_array_equal(look, again)
    first, again, other = (
        paste_things(groups[0], material, rng(seed), size=SIZE, config=CONFIG) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert (first[0] != other[0]).any()


def test_cut_outs_alone_and_sprites_alone_are_enough(material):
    for part in (
        Material(material.photos, material.cuts, []),
        Material(material.photos, [], material.sprites),
    ):
        things = choose_things(part, rng(0), config=CONFIG)
        assert len(things) == 3
        paste_things(things, part, rng(0), size=SIZE, config=CONFIG)
