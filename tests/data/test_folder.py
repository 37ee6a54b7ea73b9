import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from data.folder import open_folders
from tests.data.drawn import write_drawn_dataset
from tests.data.drawn_sprites import COLOURS, write_sprites


@pytest.fixture
def drawn(tmp_path):
    return write_drawn_dataset(tmp_path, name="drawn", pictures=5, size=24)


def make_zip(folder, path):
    return shutil.make_archive(str(path.with_suffix("")), "zip", folder.parent, folder.name)


def test_a_folder_and_a_zip_give_equal_data(drawn, tmp_path):
    [plain] = open_folders(drawn)
    [zipped] = open_folders(make_zip(drawn, tmp_path / "packed.zip"))
    for field in ("name", "kind", "has_instances", "classes", "info", "index"):
        assert getattr(plain, field) == getattr(zipped, field)
    for split in ("train", "val", None):
        assert plain.pictures(split) == zipped.pictures(split)
    for picture in plain.pictures():
        assert plain.areas(picture) == zipped.areas(picture)
        assert plain.instances(picture) == zipped.instances(picture)
        for read in ("image", "labels", "instance_ids"):
            array = getattr(plain, read)(picture)
            np.testing.assert_array_equal(array, getattr(zipped, read)(picture))
            assert array.shape == ((24, 24, 3) if read == "image" else (24, 24))


def test_a_zip_can_be_read_by_many_threads(drawn, tmp_path):
    [plain] = open_folders(drawn)
    [zipped] = open_folders(make_zip(drawn, tmp_path / "packed.zip"))
    pictures = plain.pictures() * 20
    with ThreadPoolExecutor(8) as pool:
        for picture, array in zip(pictures, pool.map(zipped.image, pictures), strict=True):
            np.testing.assert_array_equal(array, plain.image(picture))


def test_the_index_says_what_the_masks_show(drawn):
    [folder] = open_folders(drawn)
    for picture in folder.pictures():
        labels, ids = folder.labels(picture), folder.instance_ids(picture)
        shares = {c: float((labels == c).mean()) for c in np.unique(labels).tolist()}
        # Ignored pixels are no class.
        assert folder.areas(picture) == {c: s for c, s in shares.items() if 0 < c < 255}
        for instance, c in folder.instances(picture).items():
            assert set(labels[ids == instance].tolist()) <= {c, 255}


def test_splits_share_out_the_pictures(drawn):
    [folder] = open_folders(drawn)
    train, val = folder.pictures("train"), folder.pictures("val")
    assert sorted(train + val) == folder.pictures() == [f"p{n:02d}" for n in range(5)]
    with pytest.raises(ValueError, match=r"drawn: no split 'test'; it has \['train', 'val'\]"):
        folder.pictures("test")


def test_data_sets_are_found_three_levels_down_in_folders_and_zips(tmp_path):
    write_drawn_dataset(tmp_path / "root" / "one", name="b")
    write_drawn_dataset(tmp_path / "root" / "one" / "two", name="a")
    write_drawn_dataset(tmp_path / "root" / "one" / "two" / "three", name="too_deep")
    inside = write_drawn_dataset(tmp_path / "elsewhere", name="c")
    make_zip(inside, tmp_path / "root" / "packed.zip")
    (tmp_path / "root" / "notes.txt").write_text("no data set")
    assert [folder.name for folder in open_folders(tmp_path / "root")] == ["a", "b", "c"]
    named = open_folders(tmp_path / "root", names=["c", "a"])
    assert [folder.name for folder in named] == ["a", "c"]


def test_absent_data_sets_are_named(drawn, tmp_path):
    with pytest.raises(ValueError, match=r"no data set named \['x', 'y'\]; it has \['drawn'\]"):
        open_folders(drawn, names=["y", "drawn", "x"])
    with pytest.raises(ValueError, match=r"absent: no such folder or zip"):
        open_folders(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty: no data set here"):
        open_folders(tmp_path / "empty")


def test_sprites_are_cut_out_of_their_atlases(tmp_path):
    [folder] = open_folders(write_sprites(tmp_path, names=["cat", "cat", "dog"]))
    sprites = folder.sprites()
    assert [entry["short_name"] for entry, _ in sprites] == ["cat", "cat", "dog"]
    for (_, cell), colour in zip(sprites, COLOURS, strict=False):
        assert cell.shape == (16, 16, 4)
        assert cell[..., 3].sum() == 255 * 12 * 12
        np.testing.assert_allclose(cell[8, 8, :3].astype(int), colour, atol=6)  # JPEG
    assert folder.pictures() == []


def test_a_zip_that_is_none_is_named(tmp_path):
    (tmp_path / "open_0.zip").write_bytes(b"<html>not found</html>")
    with pytest.raises(ValueError, match=r"open_0\.zip: File is not a zip file; copy"):
        open_folders(tmp_path)
