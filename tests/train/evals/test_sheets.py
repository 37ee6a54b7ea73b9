import numpy as np
import pytest
from PIL import Image

from data.benchmarks import load_episode
from data.folder import open_folders
from tests.data.drawn import write_drawn_dataset
from train.evals.sheets import write_sheets
from train.evaluate import evaluate

TILE, STEP, CAPTION = 160, 164, 16


@pytest.fixture
def folders(tmp_path):
    for seed, name in enumerate(("one", "two")):
        write_drawn_dataset(tmp_path / "sets", name=name, size=40, seed=seed)
    return open_folders(tmp_path / "sets")


def everywhere(examples, image):
    return np.ones(image.shape[:2], np.float32)


def tile(sheet, row, column):
    left, top = column * STEP, row * (STEP + CAPTION) + CAPTION
    return np.asarray(sheet.crop((left, top, left + TILE, top + TILE)))


def test_a_row_is_example_mask_query_prediction_truth(folders, tmp_path):
    options = {"shots": 1, "episodes": 8, "seed": 0, "unseen": {"one"}}
    scores = evaluate({"all": everywhere}, folders, **options)
    write_sheets(tmp_path / "out", everywhere, folders=folders, scores=scores)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["one.png", "two.png"]
    with Image.open(tmp_path / "out" / "one.png") as sheet:
        assert sheet.size == (5 * STEP, 4 * (STEP + CAPTION))
        [example], query = load_episode(folders[0], scores.datasets[0].episodes[0])
        enlarged = Image.fromarray(query.image).resize((TILE, TILE), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(tile(sheet, 0, 2), np.asarray(enlarged))
        for column, truth in ((1, example), (4, query)):
            middles = tile(sheet, 0, column)[2::4, 2::4]  # of the enlarged pixels
            drawn = np.where(truth.ignore, 128, 255 * truth.mask)
            # Edges are smoothed by the enlarging.
            assert (middles[..., 0] == drawn).mean() > 0.8
        guess = tile(sheet, 0, 3)
        assert (guess[:146] == 255).all()  # the ignored rows at the bottom are grey
        assert (guess[-2:] == 128).all()


def test_data_sets_without_episodes_get_no_sheet(folders, tmp_path):
    scores = evaluate({"all": everywhere}, folders[:1], shots=1, episodes=1, seed=0, unseen=set())
    write_sheets(tmp_path / "out", everywhere, folders=folders, scores=scores)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["one.png"]
