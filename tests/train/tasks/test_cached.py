import json
from dataclasses import replace

import pytest

from data.folder import open_folders
from data.records import PREPARED
from data.views.photos import ViewsConfig
from data.views.plan import PlanConfig
from seggpt.weights.encoder import load_encoder
from tests.data.drawn import write_drawn_dataset
from tests.tiny_encoder import save_tiny_encoder
from train.tasks import cached as module
from train.tasks.cached import find_cache, find_val_cache

VIEWS = PlanConfig(least=10, pasted=0, drawn=0, look=ViewsConfig(size=16))


@pytest.fixture
def encoder(tmp_path):
    path = tmp_path / "encoder.safetensors"
    save_tiny_encoder(path, patch_size=4)
    return path, load_encoder(path)


def test_features_of_data_sets_are_cached_once_in_their_folder(tmp_path, encoder, monkeypatch):
    data = write_drawn_dataset(tmp_path, name="drawn", pictures=6, size=16)
    path = find_cache(data, VIEWS, *encoder)
    assert path.parent == data / PREPARED
    cache = module.open_cache(path)
    assert (len(cache.names), cache.encoder) == (12, encoder[1].sha256)
    assert [folder.name for folder in open_folders(data)] == ["drawn"]
    monkeypatch.setattr(module, "make_encode", None)
    assert find_cache(data, VIEWS, *encoder) == path
    assert find_cache(path, VIEWS, *encoder) == path


def test_the_split_val_is_cached_by_itself_if_all_sets_have_one(tmp_path, encoder):
    data = write_drawn_dataset(tmp_path, name="drawn", pictures=6, size=16)
    path = find_val_cache(data, VIEWS, *encoder)
    assert path is not None
    shown = {name.picture for name in module.open_cache(path).names}
    [folder] = open_folders(data)
    assert sorted(shown) == folder.pictures("val")
    assert find_val_cache(path, VIEWS, *encoder) is None
    info = json.loads((data / "info.json").read_text())
    info["splits"] = {"train": folder.pictures()}
    (data / "info.json").write_text(json.dumps(info))
    assert find_val_cache(data, VIEWS, *encoder) is None


def test_other_views_have_another_cache(tmp_path, encoder):
    data = write_drawn_dataset(tmp_path, name="drawn", pictures=6, size=16)
    folders, sha256 = open_folders(data), encoder[1].sha256
    names = {
        module.cache_name(folders, config, encoder=sha256)
        for config in (VIEWS, replace(VIEWS, seed=1), replace(VIEWS, least=0))
    }
    assert len(names) == 3


def test_without_views_a_path_is_a_cache(tmp_path, encoder):
    assert find_cache(tmp_path, None, *encoder) == tmp_path
    with pytest.raises(ValueError, match="no data set here"):
        find_cache(tmp_path, VIEWS, *encoder)
