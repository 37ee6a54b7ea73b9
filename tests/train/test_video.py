"""The evaluation of following: clips are read, baselines follow, ids are watched."""

import json

import numpy as np
import pytest
from PIL import Image

from train.video import copy_first, follow_flow, keeps_ids, main, read_clips, score


def write_clip(root, name, *, shift=2, frames=5):
    rng = np.random.default_rng(0)
    pattern = rng.integers(0, 256, (60, 80, 3), np.uint8)
    picture = np.asarray(Image.fromarray(pattern).resize((320, 240)).resize((80, 60)))
    for kind in ("JPEGImages", "Annotations"):
        (root / kind / name).mkdir(parents=True)
    for number in range(frames):
        mask = np.zeros((60, 80), np.uint8)
        mask[20:44, 20 + shift * number : 44 + shift * number] = 1
        moved = np.roll(picture, shift * number, axis=1)
        Image.fromarray(moved).save(root / "JPEGImages" / name / f"{number:05d}.jpg", quality=95)
        Image.fromarray(mask).save(root / "Annotations" / name / f"{number:05d}.png")


def test_flow_follows_what_moves_and_a_copy_does_not(tmp_path):
    pytest.importorskip("skimage")
    write_clip(tmp_path, "a")
    [clip] = read_clips(tmp_path)
    copied, moved = (score(follow, clip).scores.means[1] for follow in (copy_first, follow_flow))
    assert copied < 75 < moved


def test_ids_are_kept_if_late_in_the_clip_most_of_a_thing_has_its_own():
    truth = [np.array([[1, 2]], np.int32).repeat(4, 0).repeat(4, 1) for _ in range(10)]
    assert keeps_ids(truth, truth)
    early = [3 - truth[0]] * 8 + truth[8:]
    late = truth[:8] + [3 - truth[0]] * 2
    assert keeps_ids(early, truth)
    assert not keeps_ids(late, truth)
    lost = [*truth[:8], *[np.zeros_like(truth[0])] * 2]
    assert not keeps_ids(lost, truth)


def test_the_table_and_the_numbers_are_written(tmp_path, capsys):
    pytest.importorskip("skimage")
    write_clip(tmp_path, "a")
    write_clip(tmp_path, "b", shift=0)
    asked = ["--weights", "none", "--data", str(tmp_path), "--json", str(tmp_path / "all.json")]
    assert main(asked) == 0
    assert "of 2" in capsys.readouterr().out
    runs = json.loads((tmp_path / "all.json").read_text())["runs"]
    assert runs["first mask"]["b"]["J&F, J, F"] == [100, 100, 100]


@pytest.mark.parametrize("broken", ["empty", "frame"])
def test_data_in_another_layout_is_refused(tmp_path, broken, capsys):
    if broken == "frame":
        write_clip(tmp_path, "a")
        (tmp_path / "JPEGImages/a/00003.jpg").unlink()
    assert main(["--weights", "none", "--data", str(tmp_path)]) == 2
    assert ("no clips here" if broken == "empty" else "00003.jpg") in capsys.readouterr().err
