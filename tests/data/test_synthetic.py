import numpy as np
import pytest

from data.config import DataConfig
from data.folder import open_folders
from data.pictures import Entry
from data.synthetic import PastedSource, sprite_classes
from tests.data.drawn import Listed, write_drawn_dataset
from tests.data.drawn_sprites import COLOURS, write_sprites

SIZE = 32
GROUND = Listed("black", "semantic", (Entry({}, {}, {}),))


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    root = tmp_path_factory.mktemp("sprites")
    write_drawn_dataset(root, name="pictures")
    write_sprites(root, names=["cat", "dog", "thin", "cat", ""])
    return sprite_classes(open_folders(root))


def colours(sprites):
    """Tell which of `COLOURS` the sprites have."""
    middles = [sprite[8, 8, :3].astype(int) for sprite in sprites]
    return [int(np.abs(np.array(COLOURS) - middle).sum(1).argmin()) for middle in middles]


def test_sprites_of_one_name_make_a_class_and_thin_ones_none(classes):
    assert [colours(sprites) for sprites in classes] == [[0, 3], [1], [4]]


def paste(classes, *, count=12, seed=0):
    return PastedSource(classes, (GROUND,), count=count, seed=seed)


def test_masks_cover_exactly_what_is_pasted(classes):
    source = paste(classes)
    assert len(source) == 12
    for number in range(12):
        entry, (image, masks) = source.entry(number), source.read(number, SIZE)
        np.testing.assert_array_equal(masks[..., 0], masks[..., 1])
        ids = masks[..., 0]
        # What lies wholly under others is not shown.
        assert set(np.unique(ids).tolist()) - {0} <= set(entry.labels) == set(entry.instances)
        assert set(entry.areas) == set(entry.labels.values())
        for id_, c in entry.labels.items():
            if not (ids == id_).any():
                continue
            # Every marked pixel has a colour of its class, darker where its edge is blended.
            pixels = image[ids == id_].astype(float)
            hues = pixels / np.linalg.norm(pixels, axis=1, keepdims=True)
            own = np.array([COLOURS[index] for index in colours(classes[c])], float)
            own /= np.linalg.norm(own, axis=1, keepdims=True)
            assert np.median((hues @ own.T).max(axis=1)) > 0.99
        # Only blended edges reach beyond the masks.
        assert (image[ids == 0].sum(axis=-1) > 400).mean() < 0.05


def test_pictures_that_follow_each_other_show_one_class(classes):
    source = paste(classes, count=9, seed=1)
    for start in (0, 3, 6):
        shown = [set(source.entry(number).areas) for number in range(start, start + 3)]
        assert set.intersection(*shown)


def test_the_seed_and_the_number_decide(classes):
    first, again, other = (paste(classes, seed=seed) for seed in (3, 3, 4))
    read = [[s.read(number, SIZE) for number in range(5)] for s in (first, again, other)]
    for one, same in zip(read[0], read[1], strict=True):
        np.testing.assert_array_equal(one.image, same.image)
        np.testing.assert_array_equal(one.ids, same.ids)
    assert any((one.image != two.image).any() for one, two in zip(read[0], read[2], strict=True))
    assert (read[0][0].image != read[0][1].image).any()


def test_a_negative_number_is_refused():
    with pytest.raises(ValueError, match="sprites -1 must not be negative"):
        DataConfig(sprites=-1)
