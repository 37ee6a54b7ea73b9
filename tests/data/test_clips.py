"""Clips: the layout of DAVIS, the same for a seed, and things that can be followed."""

import numpy as np
import pytest
from PIL import Image

from data.clips import ClipConfig, is_fair, main, make_clip
from data.folder import open_folders
from data.views.composites import CompositesConfig, gather_material
from tests.data.drawn import write_drawn_dataset

CONFIG = ClipConfig(frames=6, size=(64, 48))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("pictures")
    write_drawn_dataset(root, name="shapes", pictures=5)
    return root


@pytest.fixture(scope="module")
def material(data):
    [folder] = open_folders(data)
    photos = [(folder, name) for name in folder.pictures()]
    return gather_material([folder], photos, config=CompositesConfig(sprite_sets=()))


def test_a_clip_depends_on_its_seed_alone(material):
    clips = [make_clip(material, np.random.default_rng(seed), config=CONFIG) for seed in (3, 3, 4)]
    for one, same, other in zip(*(frames for frames, _ in clips), strict=True):
        np.testing.assert_array_equal(one, same)
        assert not np.array_equal(one, other)


def test_things_move_and_keep_their_labels(material):
    for seed in range(8):
        frames, masks = make_clip(material, np.random.default_rng(seed), config=CONFIG)
        assert {frame.shape for frame in frames} == {(48, 64, 3)}
        assert set(np.unique(masks)) <= set(range(4))
        assert any(not np.array_equal(masks[0], mask) for mask in masks)


def test_a_fair_clip_shows_all_things_at_first_and_at_last():
    shown, hidden = np.zeros((10, 10), np.uint8), np.zeros((10, 10), np.uint8)
    shown[:3], shown[5:7] = 1, 2
    hidden[:3] = 1
    assert is_fair([shown, hidden, shown])
    assert not is_fair([hidden, shown, shown])
    assert not is_fair([shown, shown, hidden])
    assert not is_fair([np.zeros((10, 10), np.uint8)] * 3)


def test_clips_are_written_as_davis_has_them(data, tmp_path):
    out = tmp_path / "clips"
    assert main(["--data", str(data), "--out", str(out), "--clips", "2", "--frames", "3"]) == 0
    names = [f"clip-{clip:02d}/{frame:05d}" for clip in range(2) for frame in range(3)]
    for kind, suffix in (("JPEGImages", ".jpg"), ("Annotations", ".png")):
        found = sorted((out / kind).rglob(f"*{suffix}"))
        assert [str(path.relative_to(out / kind).with_suffix("")) for path in found] == names
    with Image.open(out / "Annotations/clip-01/00002.png") as mask:
        assert mask.mode == "L"


def test_data_without_things_to_cut_out_is_refused(tmp_path, capsys):
    write_drawn_dataset(tmp_path, name="plain", instances=False)
    assert main(["--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "nothing can be pasted" in capsys.readouterr().err
